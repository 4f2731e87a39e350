package testgpu

import "math"

func execAddF32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = ofF32(toF32(a[l]) + toF32(b[l]))
	}
}

func execSubF32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = ofF32(toF32(a[l]) - toF32(b[l]))
	}
}

func execMulF32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = ofF32(toF32(a[l]) * toF32(b[l]))
	}
}

func execFmaF32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		d[l] = ofF32(fma32(toF32(a[l]), toF32(b[l]), toF32(c[l])))
	}
}

// execRoundedF32 is add (sub 0), mul (1), fma (2) or sub (3) with a rounding other than to nearest even.
func execRoundedF32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	c := w.r32(in.c)
	for l := range d {
		x, y, z := float64(toF32(a[l])), float64(toF32(b[l])), float64(toF32(c[l]))
		var v float64
		switch in.sub {
		case 0:
			v = addOdd(x, y)
		case 1:
			v = x * y
		case 2:
			v = addOdd(x*y, z)
		case 3:
			v = addOdd(x, -y)
		}
		if v == 0 && in.more.round == down && in.sub != 1 && x != 0 {
			v = math.Copysign(0, -1) // x - x is -0 when rounding down
		}
		d[l] = uint32(formatF32.roundF64(v, in.more.round, nanF32))
	}
}

func execDivF32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = ofF32(toF32(a[l]) / toF32(b[l]))
	}
}

func execMinF32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = minF32(a[l], b[l])
	}
}

func execMaxF32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = maxF32(a[l], b[l])
	}
}

// minF32 returns the other operand of a NaN, and orders -0 before +0.
func minF32(a, b uint32) uint32 {
	x, y := toF32(a), toF32(b)
	switch {
	case x != x && y != y:
		return nanF32
	case x != x:
		return b
	case y != y:
		return a
	case x == y:
		return a | b // equal values differ only in the sign of zero
	case x < y:
		return a
	}
	return b
}

func maxF32(a, b uint32) uint32 {
	x, y := toF32(a), toF32(b)
	switch {
	case x != x && y != y:
		return nanF32
	case x != x:
		return b
	case y != y:
		return a
	case x == y:
		return a & b
	case x > y:
		return a
	}
	return b
}

// execMinNaNF32 is min.NaN (sub 0) or max.NaN (sub 1): a NaN operand makes a NaN.
func execMinNaNF32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		x, y := toF32(a[l]), toF32(b[l])
		switch {
		case x != x || y != y:
			d[l] = nanF32
		case in.sub == 0:
			d[l] = minF32(a[l], b[l])
		default:
			d[l] = maxF32(a[l], b[l])
		}
	}
}

func execAbsF32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = a[l] & 0x7fffffff
	}
}

func execNegF32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = a[l] ^ 0x80000000
	}
}

func execCopysignF32(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = b[l]&0x7fffffff | a[l]&0x80000000
	}
}

func execFlushF32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = flushF32(a[l])
	}
}

// execSaturateF32 clamps to [0, 1]; NaN becomes 0.
func execSaturateF32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		switch v := toF32(a[l]); {
		case !(v > 0):
			d[l] = 0
		case v > 1:
			d[l] = 0x3f800000
		default:
			d[l] = a[l]
		}
	}
}

// Functions of one operand. The approximate ones are computed in float64 and rounded, which is within the error that
// the hardware is allowed.
const (
	fnRcp = iota
	fnSqrt
	fnRsqrt
	fnEx2
	fnLg2
	fnSin
	fnCos
	fnTanh
)

func execFunctionF32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		if w.mask>>l&1 != 0 {
			d[l] = ofF32(float32(elementary(in.sub, float64(toF32(a[l])))))
		}
	}
}

func execFunctionF64(w *warp, in *inst) {
	d, a := w.dst64(in), w.r64(in.a)
	for l := range d {
		if w.mask>>l&1 != 0 {
			d[l] = math.Float64bits(elementary(in.sub, math.Float64frombits(a[l])))
		}
	}
}

func elementary(f uint8, x float64) float64 {
	switch f {
	case fnRcp:
		return 1 / x
	case fnSqrt:
		return math.Sqrt(x)
	case fnRsqrt:
		return 1 / math.Sqrt(x)
	case fnEx2:
		return math.Exp2(x)
	case fnLg2:
		return math.Log2(x)
	case fnSin:
		return math.Sin(x)
	case fnCos:
		return math.Cos(x)
	}
	return math.Tanh(x)
}

// Float64.

func toF64(b uint64) float64 { return math.Float64frombits(b) }
func ofF64(v float64) uint64 { return math.Float64bits(v) }

func execAddF64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = ofF64(toF64(a[l]) + toF64(b[l]))
	}
}

func execSubF64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = ofF64(toF64(a[l]) - toF64(b[l]))
	}
}

func execMulF64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = ofF64(toF64(a[l]) * toF64(b[l]))
	}
}

func execFmaF64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	c := w.r64(in.c)
	for l := range d {
		d[l] = ofF64(math.FMA(toF64(a[l]), toF64(b[l]), toF64(c[l])))
	}
}

func execDivF64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = ofF64(toF64(a[l]) / toF64(b[l]))
	}
}

func execMinF64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = pickF64(a[l], b[l], func(x, y float64) bool { return x < y }, a[l]|b[l])
	}
}

func execMaxF64(w *warp, in *inst) {
	d, a, b := w.ab64(in)
	for l := range d {
		d[l] = pickF64(a[l], b[l], func(x, y float64) bool { return x > y }, a[l]&b[l])
	}
}

func pickF64(a, b uint64, first func(x, y float64) bool, equal uint64) uint64 {
	x, y := toF64(a), toF64(b)
	switch {
	case x != x:
		return b
	case y != y:
		return a
	case x == y:
		return equal
	case first(x, y):
		return a
	}
	return b
}

func execAbsF64(w *warp, in *inst) {
	d, a := w.dst64(in), w.r64(in.a)
	for l := range d {
		d[l] = a[l] &^ (1 << 63)
	}
}

func execNegF64(w *warp, in *inst) {
	d, a := w.dst64(in), w.r64(in.a)
	for l := range d {
		d[l] = a[l] ^ 1<<63
	}
}
