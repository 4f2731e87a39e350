package testgpu

import "math"

// Arithmetic on f16 and bf16, single or in pairs. Operands are exact in float64; sums are rounded to odd before they
// are rounded to the format, so each result is rounded once.
const (
	halfAdd = iota
	halfSub
	halfMul
	halfFma
	halfMin
	halfMax
	halfMinNaN
	halfMaxNaN
	halfEx2
	halfTanh
)

const (
	halfBF16 = 1 << iota // else f16
	halfPair             // two in a 32-bit register
	halfRelu
	halfSat
	halfFlush
)

func execHalf(w *warp, in *inst) {
	if in.sub == halfFma && in.flags == halfBF16|halfPair {
		w.fmaBF16Pairs(in)
		return
	}
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		if w.mask>>l&1 == 0 {
			continue
		}
		v := uint32(half(in.sub, in.flags, uint16(a[l]), uint16(b[l]), uint16(c[l])))
		if in.flags&halfPair != 0 {
			v |= uint32(half(in.sub, in.flags, uint16(a[l]>>16), uint16(b[l]>>16), uint16(c[l]>>16))) << 16
		}
		d[l] = v
	}
}

// fmaBF16Pairs is fma.rn.bf16x2, which unpacks weights: most sums are exact in float32, and rounded from there.
func (w *warp) fmaBF16Pairs(in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		if w.mask>>l&1 != 0 {
			d[l] = fmaBF16(a[l]<<16, b[l]<<16, c[l]<<16) | fmaBF16(a[l]&0xffff0000, b[l]&0xffff0000, c[l]&0xffff0000)<<16
		}
	}
}

// fmaBF16 takes float32 encodings and returns a bf16 one.
func fmaBF16(a, b, c uint32) uint32 {
	sum := addOdd(float64(toF32(a))*float64(toF32(b)), float64(toF32(c)))
	if short := float32(sum); float64(short) == sum {
		return f32ToBF16(math.Float32bits(short))
	}
	return uint32(f64ToBF16(sum, nearestEven))
}

func half(op, flags uint8, a, b, c uint16) uint16 {
	var v uint16
	switch {
	case op >= halfMin && op <= halfMaxNaN:
		v = halfMinMax(op, flags, a, b)
	default:
		v = halfArith(op, flags, a, b, c)
	}
	value := halfToF64(flags, v)
	if flags&halfRelu != 0 && value < 0 || flags&halfSat != 0 && !(value > 0) {
		return 0
	}
	if flags&halfSat != 0 && value > 1 {
		return f64ToF16(1, nearestEven)
	}
	return v
}

func halfToF64(flags uint8, h uint16) float64 {
	if flags&halfFlush != 0 && h&0x7c00 == 0 {
		h &= 0x8000
	}
	if flags&halfBF16 != 0 {
		return bf16ToF64(h)
	}
	return f16ToF64(h)
}

func halfArith(op, flags uint8, a, b, c uint16) uint16 {
	x, y, z := halfToF64(flags, a), halfToF64(flags, b), halfToF64(flags, c)
	var v float64
	switch op {
	case halfAdd:
		v = addOdd(x, y)
	case halfSub:
		v = addOdd(x, -y)
	case halfMul:
		v = x * y
	case halfFma:
		v = addOdd(x*y, z)
	case halfEx2:
		v = elementary(fnEx2, x)
	case halfTanh:
		v = elementary(fnTanh, x)
	}
	if flags&halfBF16 != 0 {
		return f64ToBF16(v, nearestEven)
	}
	h := f64ToF16(v, nearestEven)
	if flags&halfFlush != 0 && h&0x7c00 == 0 {
		h &= 0x8000
	}
	return h
}

func halfMinMax(op, flags uint8, a, b uint16) uint16 {
	x, y := halfToF64(flags, a), halfToF64(flags, b)
	nan := uint16(nanF16)
	switch {
	case x != x && y != y, (op == halfMinNaN || op == halfMaxNaN) && (x != x || y != y):
		return nan
	case x != x:
		return b
	case y != y:
		return a
	}
	least := op == halfMin || op == halfMinNaN
	switch {
	case x == y && least:
		return a | b
	case x == y:
		return a & b
	case (x < y) == least:
		return a
	}
	return b
}

// execHalfSign is abs (sub 0) or neg (sub 1); flags halfPair.
func execHalfSign(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	signs := uint32(0x8000)
	if in.flags&halfPair != 0 {
		signs = 0x80008000
	}
	for l := range d {
		if in.sub == 0 {
			d[l] = a[l] &^ signs
		} else {
			d[l] = a[l] ^ signs
		}
	}
}
