package testgpu

import "math/bits"

func (w *warp) ab32(in *inst) (d, a, b *lanes) { return w.dst32(in), w.r32(in.a), w.r32(in.b) }

func (w *warp) ab64(in *inst) (d, a, b *lanes64) { return w.dst64(in), w.r64(in.a), w.r64(in.b) }

func execMov32(w *warp, in *inst) { *w.dst32(in) = *w.r32(in.a) }
func execMov64(w *warp, in *inst) { *w.dst64(in) = *w.r64(in.a) }

func execAdd32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = a[l] + b[l]
	}
}

func execSub32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = a[l] - b[l]
	}
}

func execMul32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = a[l] * b[l]
	}
}

func execMad32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		d[l] = a[l]*b[l] + c[l]
	}
}

func execMulHiU32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = uint32(uint64(a[l]) * uint64(b[l]) >> 32)
	}
}

func execMulHiS32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = uint32(int64(int32(a[l])) * int64(int32(b[l])) >> 32)
	}
}

func execMadHiU32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		d[l] = uint32(uint64(a[l])*uint64(b[l])>>32) + c[l]
	}
}

func execMadHiS32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		d[l] = uint32(int64(int32(a[l]))*int64(int32(b[l]))>>32) + c[l]
	}
}

func execMulWideU32(w *warp, in *inst) {
	d, a, b := w.dst64(in), w.r32(in.a), w.r32(in.b)
	for l := range d {
		d[l] = uint64(a[l]) * uint64(b[l])
	}
}

func execMulWideS32(w *warp, in *inst) {
	d, a, b := w.dst64(in), w.r32(in.a), w.r32(in.b)
	for l := range d {
		d[l] = uint64(int64(int32(a[l])) * int64(int32(b[l])))
	}
}

func execMadWideU32(w *warp, in *inst) {
	d, a, b, c := w.dst64(in), w.r32(in.a), w.r32(in.b), w.r64(in.c)
	for l := range d {
		d[l] = uint64(a[l])*uint64(b[l]) + c[l]
	}
}

func execMadWideS32(w *warp, in *inst) {
	d, a, b, c := w.dst64(in), w.r32(in.a), w.r32(in.b), w.r64(in.c)
	for l := range d {
		d[l] = uint64(int64(int32(a[l]))*int64(int32(b[l]))) + c[l]
	}
}

func execSadU32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		d[l] = max(a[l], b[l]) - min(a[l], b[l]) + c[l]
	}
}

func execSadS32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		x, y := int32(a[l]), int32(b[l])
		d[l] = uint32(max(x, y)-min(x, y)) + c[l]
	}
}

// divisor fails where an active lane divides by zero.
func (w *warp) divisor(zero func(l int) bool) {
	for m := w.mask; m != 0; m &= m - 1 {
		if l := bits.TrailingZeros32(m); zero(l) {
			w.fail(LaunchFailed, l, "integer division by zero")
		}
	}
}

func execDivU32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	w.divisor(func(l int) bool { return b[l] == 0 })
	for l := range d {
		if b[l] != 0 {
			d[l] = a[l] / b[l]
		}
	}
}

func execDivS32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	w.divisor(func(l int) bool { return b[l] == 0 })
	for l := range d {
		if b[l] != 0 {
			d[l] = uint32(int32(a[l]) / int32(b[l]))
		}
	}
}

func execRemU32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	w.divisor(func(l int) bool { return b[l] == 0 })
	for l := range d {
		if b[l] != 0 {
			d[l] = a[l] % b[l]
		}
	}
}

func execRemS32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	w.divisor(func(l int) bool { return b[l] == 0 })
	for l := range d {
		if b[l] != 0 {
			d[l] = uint32(int32(a[l]) % int32(b[l]))
		}
	}
}

func execMinU32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = min(a[l], b[l])
	}
}

func execMaxU32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = max(a[l], b[l])
	}
}

func execMinS32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = uint32(min(int32(a[l]), int32(b[l])))
	}
}

func execMaxS32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = uint32(max(int32(a[l]), int32(b[l])))
	}
}

func execAbs32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		sign := uint32(int32(a[l]) >> 31)
		d[l] = (a[l] ^ sign) - sign
	}
}

func execNeg32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = -a[l]
	}
}

func execAnd32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = a[l] & b[l]
	}
}

func execOr32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = a[l] | b[l]
	}
}

func execXor32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = a[l] ^ b[l]
	}
}

func execNot32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = ^a[l]
	}
}

func execCnot32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = b2u(a[l] == 0)
	}
}

func b2u(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

func execShl32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = a[l] << b[l]
	}
}

func execShrU32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = a[l] >> b[l]
	}
}

func execShrS32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = uint32(int32(a[l]) >> b[l])
	}
}

func execZext16(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = a[l] & 0xffff
	}
}

func execSext16(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = uint32(int32(int16(a[l])))
	}
}

func execSatAdd32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = saturate32(int64(int32(a[l])) + int64(int32(b[l])))
	}
}

func execSatSub32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = saturate32(int64(int32(a[l])) - int64(int32(b[l])))
	}
}

func saturate32(v int64) uint32 { return uint32(int32(min(max(v, -1<<31), 1<<31-1))) }

// execAddCarry32 is add.cc, addc and addc.cc; sub says whether the carry is read (1) and written (2).
func execAddCarry32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	out := uint32(0)
	for l := range d {
		s := uint64(a[l]) + uint64(b[l])
		if in.sub&1 != 0 {
			s += uint64(w.carry >> l & 1)
		}
		d[l] = uint32(s)
		out |= uint32(s>>32) << l
	}
	w.setCarry(in, out)
}

func execAddCarry64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	out := uint32(0)
	for l := range d {
		carry := uint64(0)
		if in.sub&1 != 0 {
			carry = uint64(w.carry >> l & 1)
		}
		s, c := bits.Add64(a[l], b[l], carry)
		d[l] = s
		out |= uint32(c) << l
	}
	w.setCarry(in, out)
}

func execSubCarry64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	out := uint32(0)
	for l := range d {
		borrow := uint64(0)
		if in.sub&1 != 0 {
			borrow = uint64(w.carry >> l & 1)
		}
		s, c := bits.Sub64(a[l], b[l], borrow)
		d[l] = s
		out |= uint32(c) << l
	}
	w.setCarry(in, out)
}

func execSubCarry32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	out := uint32(0)
	for l := range d {
		s := uint64(a[l]) - uint64(b[l])
		if in.sub&1 != 0 {
			s -= uint64(w.carry >> l & 1)
		}
		d[l] = uint32(s)
		out |= uint32(s>>63) << l
	}
	w.setCarry(in, out)
}

func (w *warp) setCarry(in *inst, m uint32) {
	if in.sub&2 != 0 {
		w.carry = w.carry&^w.mask | m&w.mask
	}
}
