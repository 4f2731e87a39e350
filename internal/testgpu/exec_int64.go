package testgpu

import "math/bits"

func execAdd64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = a[l] + b[l]
	}
}

func execSub64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = a[l] - b[l]
	}
}

func execMul64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = a[l] * b[l]
	}
}

func execMad64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	c := w.r64(in.c)
	for l := range d {
		d[l] = a[l]*b[l] + c[l]
	}
}

func execMulHiU64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l], _ = bits.Mul64(a[l], b[l])
	}
}

func execMulHiS64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		x, y := a[l], b[l]
		hi, _ := bits.Mul64(x, y)
		d[l] = hi - uint64(int64(x)>>63)&y - uint64(int64(y)>>63)&x
	}
}

func execDivU64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	w.divisor(func(l int) bool { return b[l] == 0 })
	for l := range d {
		if b[l] != 0 {
			d[l] = a[l] / b[l]
		}
	}
}

func execDivS64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	w.divisor(func(l int) bool { return b[l] == 0 })
	for l := range d {
		if b[l] != 0 {
			d[l] = uint64(int64(a[l]) / int64(b[l]))
		}
	}
}

func execRemU64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	w.divisor(func(l int) bool { return b[l] == 0 })
	for l := range d {
		if b[l] != 0 {
			d[l] = a[l] % b[l]
		}
	}
}

func execRemS64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	w.divisor(func(l int) bool { return b[l] == 0 })
	for l := range d {
		if b[l] != 0 {
			d[l] = uint64(int64(a[l]) % int64(b[l]))
		}
	}
}

func execMinU64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = min(a[l], b[l])
	}
}

func execMaxU64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = max(a[l], b[l])
	}
}

func execMinS64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = uint64(min(int64(a[l]), int64(b[l])))
	}
}

func execMaxS64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = uint64(max(int64(a[l]), int64(b[l])))
	}
}

func execAbs64(w *warp, in *inst) {
	d, a := w.dst64(in), w.r64(in.a)
	for l := range d {
		sign := uint64(int64(a[l]) >> 63)
		d[l] = (a[l] ^ sign) - sign
	}
}

func execNeg64(w *warp, in *inst) {
	d, a := w.dst64(in), w.r64(in.a)
	for l := range d {
		d[l] = -a[l]
	}
}

func execAnd64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = a[l] & b[l]
	}
}

func execOr64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = a[l] | b[l]
	}
}

func execXor64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = a[l] ^ b[l]
	}
}

func execNot64(w *warp, in *inst) {
	d, a := w.dst64(in), w.r64(in.a)
	for l := range d {
		d[l] = ^a[l]
	}
}

func execShl64(w *warp, in *inst) {
	d, a, b := w.dst64(in), w.r64(in.a), w.r32(in.b)
	for l := range d {
		d[l] = a[l] << b[l]
	}
}

func execShrU64(w *warp, in *inst) {
	d, a, b := w.dst64(in), w.r64(in.a), w.r32(in.b)
	for l := range d {
		d[l] = a[l] >> b[l]
	}
}

func execShrS64(w *warp, in *inst) {
	d, a, b := w.dst64(in), w.r64(in.a), w.r32(in.b)
	for l := range d {
		d[l] = uint64(int64(a[l]) >> b[l])
	}
}

func execPopc64(w *warp, in *inst) {
	d, a := w.dst32(in), w.r64(in.a)
	for l := range d {
		d[l] = uint32(bits.OnesCount64(a[l]))
	}
}

func execClz64(w *warp, in *inst) {
	d, a := w.dst32(in), w.r64(in.a)
	for l := range d {
		d[l] = uint32(bits.LeadingZeros64(a[l]))
	}
}

func execBrev64(w *warp, in *inst) {
	d, a := w.dst64(in), w.r64(in.a)
	for l := range d {
		d[l] = bits.Reverse64(a[l])
	}
}

// execBfind64 gives the position of the highest bit that differs from the sign; sub 1: signed, 2: as a shift amount.
func execBfind64(w *warp, in *inst) {
	d, a := w.dst32(in), w.r64(in.a)
	for l := range d {
		v := a[l]
		if in.sub&1 != 0 {
			v ^= uint64(int64(v) >> 63)
		}
		d[l] = bfind(bits.Len64(v), 64, in.sub&2 != 0)
	}
}

func bfind(length, width int, shift bool) uint32 {
	if length == 0 {
		return 0xffffffff
	}
	if shift {
		return uint32(width - length)
	}
	return uint32(length - 1)
}

func execBfeU64(w *warp, in *inst) {
	d, a, b, c := w.dst64(in), w.r64(in.a), w.r32(in.b), w.r32(in.c)
	for l := range d {
		pos, n := b[l]&0xff, c[l]&0xff
		d[l] = a[l] >> pos & (1<<n - 1)
	}
}

func execBfeS64(w *warp, in *inst) {
	d, a, b, c := w.dst64(in), w.r64(in.a), w.r32(in.b), w.r32(in.c)
	for l := range d {
		pos, n := b[l]&0xff, c[l]&0xff
		if n == 0 {
			d[l] = 0
			continue
		}
		top := min(pos+n-1, 63)
		v := uint64(int64(a[l]) >> pos)
		if n < 64 {
			v &= 1<<n - 1
			if a[l]>>top&1 != 0 {
				v |= ^uint64(0) << n
			}
		}
		d[l] = v
	}
}

func execBfi64(w *warp, in *inst) {
	// a inserted into b at position c, length sub's register in more.src
	d, a, b, c, n := w.dst64(in), w.r64(in.a), w.r64(in.b), w.r32(in.c), w.r32(in.more.src)
	for l := range d {
		pos, count := c[l]&0xff, n[l]&0xff
		mask := uint64(1<<count-1) << pos
		d[l] = b[l]&^mask | a[l]<<pos&mask
	}
}

func execSelp64(w *warp, in *inst) {
	d, a, b, p := w.dst64(in), w.r64(in.a), w.r64(in.b), w.pred(in.c)
	for l := range d {
		v := b[l]
		if p>>l&1 != 0 {
			v = a[l]
		}
		d[l] = v
	}
}
