package testgpu

import (
	"math"
	"math/bits"
)

// rounding says how a result is rounded to its format.
type rounding uint8

const (
	nearestEven rounding = iota
	towardZero
	down
	up
	nearestAway
)

// format is a binary floating-point format with infinities: precision counts the hidden bit.
type format struct {
	precision int
	minExp    int // exponent of the smallest normal number: value = 1.f * 2^minExp
	maxExp    int
	width     int
}

var (
	formatF16  = format{11, -14, 15, 16}
	formatBF16 = format{8, -126, 127, 16}
	formatTF32 = format{11, -126, 127, 19} // the upper 19 bits of a float32
	formatF32  = format{24, -126, 127, 32}
	formatF64  = format{53, -1022, 1023, 64}
)

// round returns the encoding of (-1)^neg * mant * 2^exp, where bits below mant are not all zero if sticky. It is the
// one place where results are rounded bit by bit.
func (f format) round(neg bool, mant uint64, exp int, sticky bool, mode rounding) uint64 {
	sign := uint64(0)
	if neg {
		sign = 1 << (f.width - 1)
	}
	if mant == 0 {
		if !sticky {
			return sign
		}
		mant, exp = 1, -3000 // positive, less than anything
	}
	length := bits.Len64(mant)
	top := exp + length - 1 // exponent of the leading bit
	lowest := max(top, f.minExp) - f.precision + 1
	drop := lowest - exp // bits of mant below the last place
	kept, rest := mant, uint64(0)
	half := uint64(0)
	switch {
	case drop > 64:
		kept, sticky = 0, true
	case drop == 64:
		kept, half, rest = 0, mant>>63, mant&(1<<63-1)
	case drop > 0:
		kept, half, rest = mant>>drop, mant>>(drop-1)&1, mant&(1<<(drop-1)-1)
	default:
		kept = mant << -drop
	}
	inexact := half != 0 || rest != 0 || sticky
	if roundsUp(mode, neg, half != 0, rest != 0 || sticky, inexact, kept) {
		kept++
	}
	// kept counts units of 2^lowest; adding it to the exponent field lets a carry move on by itself.
	field := uint64(0)
	if top >= f.minExp {
		field = uint64(top-f.minExp) << (f.precision - 1)
	}
	v := field + kept
	infinity := uint64(f.maxExp-f.minExp+2) << (f.precision - 1)
	if v >= infinity || top > f.maxExp {
		v = infinity
		if mode == towardZero || mode == down && !neg || mode == up && neg {
			v = infinity - 1
		}
	}
	return sign | v
}

func roundsUp(mode rounding, neg, half, below, inexact bool, kept uint64) bool {
	switch mode {
	case nearestEven:
		return half && (below || kept&1 != 0)
	case nearestAway:
		return half
	case up:
		return inexact && !neg
	case down:
		return inexact && neg
	}
	return false
}

// roundF64 rounds v, which may be the odd-rounded form of a longer number (see addOdd), to f. NaN gives nan.
func (f format) roundF64(v float64, mode rounding, nan uint64) uint64 {
	b := math.Float64bits(v)
	neg := b>>63 != 0
	exp, mant := int(b>>52&0x7ff), b&(1<<52-1)
	switch {
	case exp == 0x7ff && mant != 0:
		return nan
	case exp == 0x7ff:
		inf := uint64(f.maxExp-f.minExp+2) << (f.precision - 1)
		if neg {
			inf |= 1 << (f.width - 1)
		}
		return inf
	case exp == 0:
		exp = 1
	default:
		mant |= 1 << 52
	}
	return f.round(neg, mant, exp-1075, false, mode)
}

// addOdd adds with rounding to odd: an inexact sum has its last bit set, so that rounding it again to a format of at
// most 51 bits gives what rounding the exact sum would.
func addOdd(a, b float64) float64 {
	s := a + b
	t := s - a
	err := (a - (s - t)) + (b - t)
	if err != 0 && !math.IsInf(s, 0) && s == s {
		if u := math.Float64bits(s); u&1 == 0 {
			if (err > 0) == (s > 0) {
				u++
			} else {
				u--
			}
			return math.Float64frombits(u)
		}
	}
	return s
}

const nanF32 = 0x7fffffff // the NaN that float32 instructions return

func toF32(b uint32) float32 { return math.Float32frombits(b) }

// ofF32 encodes a result.
func ofF32(v float32) uint32 {
	if v != v {
		return nanF32
	}
	return math.Float32bits(v)
}

// fma32 is a*b+c rounded once. The product is exact in float64. Rounding the float64 sum to float32 goes wrong only if
// the sum lies half-way between two float32 values, or is subnormal there: then the sum is taken again, to odd.
func fma32(a, b, c float32) float32 {
	p := float64(a) * float64(b)
	s := p + float64(c)
	if u := math.Float64bits(s); u&(1<<29-1) == 1<<28 || u<<1 < 0x381<<53 {
		return float32(addOdd(p, float64(c)))
	}
	return float32(s)
}

func f16ToF64(h uint16) float64 {
	sign, exp, mant := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&0x3ff)
	switch exp {
	case 31:
		return float64(toF32(sign | 0x7f800000 | mant<<13))
	case 0:
		return float64(toF32(math.Float32bits(float32(mant)*0x1p-24) | sign))
	}
	return float64(toF32(sign | (exp+112)<<23 | mant<<13))
}

const nanF16, nanBF16 = 0x7fff, 0x7fff

func f64ToF16(v float64, mode rounding) uint16 { return uint16(formatF16.roundF64(v, mode, nanF16)) }

func bf16ToF64(h uint16) float64 { return float64(toF32(uint32(h) << 16)) }

func f64ToBF16(v float64, mode rounding) uint16 { return uint16(formatBF16.roundF64(v, mode, nanBF16)) }

// f32ToBF16 rounds to nearest even.
func f32ToBF16(b uint32) uint32 {
	if b&0x7fffffff > 0x7f800000 {
		return nanBF16
	}
	return (b + 0x7fff + b>>16&1) >> 16
}

// flushF32 turns subnormal numbers to zeros of their sign.
func flushF32(b uint32) uint32 {
	if b&0x7f800000 == 0 {
		return b & 0x80000000
	}
	return b
}
