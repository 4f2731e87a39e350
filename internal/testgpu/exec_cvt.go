package testgpu

import "math"

// The conversions that are common have loops of their own; the rest goes lane by lane through int64 or float64.

func execZext64(w *warp, in *inst) { // cvt.u64.u32
	d, a := w.dst64(in), w.r32(in.a)
	for l := range d {
		d[l] = uint64(a[l])
	}
}

func execSext64(w *warp, in *inst) { // cvt.s64.s32
	d, a := w.dst64(in), w.r32(in.a)
	for l := range d {
		d[l] = uint64(int64(int32(a[l])))
	}
}

func execLow32(w *warp, in *inst) { // cvt.u32.u64
	d, a := w.dst32(in), w.r64(in.a)
	for l := range d {
		d[l] = uint32(a[l])
	}
}

func execS32ToF32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = math.Float32bits(float32(int32(a[l])))
	}
}

func execU32ToF32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = math.Float32bits(float32(a[l]))
	}
}

func execF16ToF32(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = ofF32(float32(f16ToF64(uint16(a[l]))))
	}
}

func execF32ToF16(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = uint32(f64ToF16(float64(toF32(a[l])), nearestEven))
	}
}

func execF32ToBF16(w *warp, in *inst) {
	d, a := w.dst32(in), w.r32(in.a)
	for l := range d {
		d[l] = f32ToBF16(a[l])
	}
}

// execPackBF16 is cvt.rn.bf16x2.f32: a goes to the upper half.
func execPackBF16(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = f32ToBF16(a[l])<<16 | f32ToBF16(b[l])
	}
}

// execPackF16 is cvt.rn.f16x2.f32.
func execPackF16(w *warp, in *inst) {
	d, a, b := w.ab32(in)
	for l := range d {
		d[l] = uint32(f64ToF16(float64(toF32(a[l])), nearestEven))<<16 | uint32(f64ToF16(float64(toF32(b[l])), nearestEven))
	}
}

const (
	cvtSat = 1 << iota
	cvtFlush
	cvtInteger // float to float, rounded to an integer
	cvtRelu
	cvtSource64 // the source register has 64 bits
	cvtDest64
	cvtPair // two float32 to a pair of 16-bit floats
)

func execCvt(w *warp, in *inst) {
	dest64 := in.flags&cvtDest64 != 0
	for l := range 32 {
		if w.mask>>l&1 == 0 {
			continue
		}
		var v uint64
		if in.flags&cvtSource64 != 0 {
			v = w.r64(in.a)[l]
		} else {
			v = uint64(w.r32(in.a)[l])
		}
		v = convert(in, v)
		if in.flags&cvtPair != 0 {
			v = v<<16 | convert(in, uint64(w.r32(in.b)[l]))
		}
		if dest64 {
			w.dst64(in)[l] = v
		} else {
			w.dst32(in)[l] = uint32(v)
		}
	}
}

// convert returns what goes to the destination register, extended to its width.
func convert(in *inst, v uint64) uint64 {
	from, to := in.more.from, in.more.to
	switch {
	case !from.float() && !to.float():
		return extend(intToInt(from, to, in.flags, extend(v, from)), to) & widthMask(in.more.regWidth)
	case !from.float():
		return intToFloat(from, to, in, extend(v, from))
	case !to.float():
		return floatToInt(to, in, floatValue(from, in.flags, v)) & widthMask(in.more.regWidth)
	}
	return floatToFloat(from, to, in, v)
}

func widthMask(width int) uint64 {
	if width >= 64 {
		return math.MaxUint64
	}
	return 1<<width - 1
}

// extend takes the low bits that a type has and extends them by its sign to 64.
func extend(v uint64, t scalar) uint64 {
	n := 64 - 8*t.size()
	if t.signed() {
		return uint64(int64(v<<n) >> n)
	}
	return v << n >> n
}

// intToInt saturates where asked.
func intToInt(from, to scalar, flags uint8, v uint64) uint64 {
	if flags&cvtSat == 0 {
		return v
	}
	width := 8 * to.size()
	negative := from.signed() && int64(v) < 0
	if !to.signed() {
		if negative {
			return 0
		}
		return min(v, widthMask(width))
	}
	highest := uint64(1)<<(width-1) - 1
	if negative {
		return uint64(max(int64(v), -int64(highest)-1))
	}
	return min(v, highest)
}

func formatOf(t scalar) format {
	switch t {
	case f16, f16x2:
		return formatF16
	case bf16, bf16x2:
		return formatBF16
	case tf32:
		return formatTF32
	case f64:
		return formatF64
	}
	return formatF32
}

func intToFloat(from, to scalar, in *inst, v uint64) uint64 {
	neg := from.signed() && int64(v) < 0
	if neg {
		v = -v
	}
	return saturateFloat(to, in.flags, formatOf(to).round(neg, v, 0, false, in.more.round))
}

func floatValue(t scalar, flags uint8, v uint64) float64 {
	switch t {
	case f16:
		return f16ToF64(uint16(v))
	case bf16:
		return bf16ToF64(uint16(v))
	case f64:
		return math.Float64frombits(v)
	}
	if flags&cvtFlush != 0 {
		v = uint64(flushF32(uint32(v)))
	}
	return float64(toF32(uint32(v)))
}

func roundInteger(v float64, mode rounding) float64 {
	switch mode {
	case nearestEven:
		return math.RoundToEven(v)
	case down:
		return math.Floor(v)
	case up:
		return math.Ceil(v)
	}
	return math.Trunc(v)
}

// floatToInt clamps to the range of the type; NaN becomes 0 (for 64 bits: the smallest number, as the hardware does).
func floatToInt(to scalar, in *inst, v float64) uint64 {
	width := 8 * to.size()
	if v != v {
		if width == 64 {
			return 1 << 63
		}
		return 0
	}
	v = roundInteger(v, in.more.round)
	if to.signed() {
		limit := math.Ldexp(1, width-1)
		switch {
		case v >= limit:
			return 1<<(width-1) - 1
		case v < -limit:
			return extend(1<<(width-1), to)
		}
		return uint64(int64(v))
	}
	switch {
	case v <= 0:
		return 0
	case v >= math.Ldexp(1, width):
		return widthMask(width)
	}
	return uint64(v)
}

func floatToFloat(from, to scalar, in *inst, bits uint64) uint64 {
	v := floatValue(from, in.flags, bits)
	if in.flags&cvtInteger != 0 {
		v = roundInteger(v, in.more.round)
	}
	if from == to && v != v && to == f32 {
		return nanF32
	}
	if in.flags&cvtRelu != 0 && v < 0 {
		v = 0
	}
	var r uint64
	switch to {
	case f64:
		r = math.Float64bits(v)
	case tf32:
		r = formatTF32.roundF64(v, in.more.round, nanF32>>13) << 13
	case f32:
		r = formatF32.roundF64(v, in.more.round, nanF32)
		if in.flags&cvtFlush != 0 {
			r = uint64(flushF32(uint32(r)))
		}
	case f16, f16x2:
		r = formatF16.roundF64(v, in.more.round, nanF16)
	default:
		r = formatBF16.roundF64(v, in.more.round, nanBF16)
	}
	return saturateFloat(to, in.flags, r)
}

// saturateFloat clamps to [0, 1] where asked; NaN becomes 0.
func saturateFloat(t scalar, flags uint8, v uint64) uint64 {
	if flags&cvtSat == 0 {
		return v
	}
	switch x := floatValue(t, 0, v); {
	case !(x > 0):
		return 0
	case x > 1:
		return formatOf(t).roundF64(1, nearestEven, 0)
	}
	return v
}
