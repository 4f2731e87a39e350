package testgpu

import "math/bits"

func execLop3(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	table := uint8(in.imm)
	for l := range d {
		x, y, z, v := a[l], b[l], c[l], uint32(0)
		for i := range 8 {
			if table>>i&1 != 0 {
				v |= (x ^ flip(i&4)) & (y ^ flip(i&2)) & (z ^ flip(i&1))
			}
		}
		d[l] = v
	}
}

// flip is all ones where a truth table's row wants the bit to be zero.
func flip(bit int) uint32 {
	if bit != 0 {
		return 0
	}
	return fullMask
}

func execShfL(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		n := shiftOf(in, c[l])
		d[l] = uint32((uint64(b[l])<<32 | uint64(a[l])) << n >> 32)
	}
}

func execShfR(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		n := shiftOf(in, c[l])
		d[l] = uint32((uint64(b[l])<<32 | uint64(a[l])) >> n)
	}
}

// shiftOf applies .wrap (sub 0) or .clamp (sub 1).
func shiftOf(in *inst, n uint32) uint32 {
	if in.sub == 0 {
		return n & 31
	}
	return min(n, 32)
}

func execBfeU32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		pos, n := b[l]&0xff, c[l]&0xff
		d[l] = a[l] >> pos & (1<<n - 1)
	}
}

func execBfeS32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		pos, n := b[l]&0xff, c[l]&0xff
		v := uint32(0)
		if n != 0 {
			v = uint32(int32(a[l]) >> pos)
			if n < 32 {
				v &= 1<<n - 1
				if a[l]>>min(pos+n-1, 31)&1 != 0 {
					v |= fullMask << n
				}
			}
		}
		d[l] = v
	}
}

func execBfi32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c, n := w.r32(in.c), w.r32(in.more.src)
	for l := range d {
		pos, count := c[l]&0xff, n[l]&0xff
		mask := uint32(1<<count-1) << pos
		d[l] = b[l]&^mask | a[l]<<pos&mask
	}
}

func execPrmt(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		both, sel, v := uint64(b[l])<<32|uint64(a[l]), c[l], uint32(0)
		for i := range 4 {
			n := sel >> (4 * i) & 15
			byt := uint32(both>>(8*(n&7))) & 0xff
			if n&8 != 0 { // the sign of the byte, eight times
				byt = uint32(int32(int8(byt))>>7) & 0xff
			}
			v |= byt << (8 * i)
		}
		d[l] = v
	}
}

func execPopc32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = uint32(bits.OnesCount32(a[l]))
	}
}

func execClz32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = uint32(bits.LeadingZeros32(a[l]))
	}
}

func execBrev32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = bits.Reverse32(a[l])
	}
}

func execBfind32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		v := a[l]
		if in.sub&1 != 0 {
			v ^= uint32(int32(v) >> 31)
		}
		d[l] = bfind(bits.Len32(v), 32, in.sub&2 != 0)
	}
}

// execDp4a multiplies four bytes; sub 1: a is signed, 2: b is signed.
func execDp4a(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		v := c[l]
		for i := range 4 {
			v += uint32(byteOf(a[l], i, in.sub&1 != 0) * byteOf(b[l], i, in.sub&2 != 0))
		}
		d[l] = v
	}
}

// execDp2a multiplies two halves of a with two bytes of b: the low pair, or the high one if sub has 4.
func execDp2a(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	high := int(in.sub >> 2 & 1)
	for l := range d {
		v := c[l]
		for i := range 2 {
			x := int32(a[l] >> (16 * i) & 0xffff)
			if in.sub&1 != 0 {
				x = int32(int16(x))
			}
			v += uint32(x * byteOf(b[l], 2*high+i, in.sub&2 != 0))
		}
		d[l] = v
	}
}

func byteOf(v uint32, i int, signed bool) int32 {
	b := v >> (8 * i)
	if signed {
		return int32(int8(b))
	}
	return int32(uint8(b))
}

func execSelp32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	p := w.pred(in.c)
	for l := range d {
		v := b[l]
		if p>>l&1 != 0 {
			v = a[l]
		}
		d[l] = v
	}
}

// execSlct32 picks a where c >= 0, as an integer (sub 0) or float (sub 1).
func execSlct32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		if slct(in, c[l]) {
			d[l] = a[l]
		} else {
			d[l] = b[l]
		}
	}
}

func execSlct64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	c := w.r32(in.c)
	for l := range d {
		if slct(in, c[l]) {
			d[l] = a[l]
		} else {
			d[l] = b[l]
		}
	}
}

func slct(in *inst, c uint32) bool {
	if in.sub == 0 {
		return int32(c) >= 0
	}
	return toF32(c) >= 0
}

// Predicates.

func execMovPred(w *warp, in *inst) { w.setPred(in.d, w.pred(in.a)) }
func execAndPred(w *warp, in *inst) { w.setPred(in.d, w.pred(in.a)&w.pred(in.b)) }
func execOrPred(w *warp, in *inst)  { w.setPred(in.d, w.pred(in.a)|w.pred(in.b)) }
func execXorPred(w *warp, in *inst) { w.setPred(in.d, w.pred(in.a)^w.pred(in.b)) }
func execNotPred(w *warp, in *inst) { w.setPred(in.d, ^w.pred(in.a)) }

// pred reads a predicate slot; -1 and -2 are false and true.
func (w *warp) pred(slot int32) uint32 {
	switch slot {
	case predFalse:
		return 0
	case predTrue:
		return fullMask
	}
	return w.p[slot]
}

const (
	predFalse = -1
	predTrue  = -2
)

// Packing.

func execPack32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = a[l]&0xffff | b[l]<<16
	}
}

func execPack64(w *warp, in *inst) {
	d, a, b := w.dst64(in), w.r32(in.a), w.r32(in.b)
	for l := range d {
		d[l] = uint64(a[l]) | uint64(b[l])<<32
	}
}

func execHigh16(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = a[l] >> 16
	}
}

// execPart32 takes 32 bits of a 64-bit register, from bit imm.
func execPart32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r64(in.a)
	for l := range d {
		d[l] = uint32(a[l] >> uint(in.imm))
	}
}

// execMulHigh16 multiplies 16-bit numbers, extended to 32 bits, and keeps the upper half.
func execMulHigh16(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = a[l] * b[l] >> 16
	}
}
