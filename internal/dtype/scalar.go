package dtype

import "math"

// FromBF16 widens a bfloat16. It is exact; a NaN keeps its bits.
func FromBF16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// ToBF16 rounds to the nearest bfloat16, ties to even; what is too large becomes an infinity. A NaN stays a NaN,
// made quiet, with its sign and the upper bits of its payload.
func ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7FFF_FFFF > 0x7F80_0000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7FFF + b>>16&1) >> 16)
}

// FromF16 widens an IEEE 754 half. It is exact; a NaN is made quiet, as the processor's own conversion does.
func FromF16(h uint16) float32 {
	if isNormalF16(h) {
		return fromNormalF16(h)
	}
	return fromRareF16(h)
}

func isNormalF16(h uint16) bool { return h&0x7C00-0x400 < 0x7800 }

// fromNormalF16 extends the sign, shifts everything into place and biases the exponent anew.
func fromNormalF16(h uint16) float32 {
	return math.Float32frombits(uint32(int16(h))<<13&0x8FFF_E000 + (127-15)<<23)
}

// fromRareF16 widens zeros, subnormals, infinities and NaNs.
func fromRareF16(h uint16) float32 {
	sign, frac := uint32(h&0x8000)<<16, uint32(h&0x3FF)
	if h&0x7C00 == 0 { // frac * 2^-24, normal in float32
		return math.Float32frombits(sign | math.Float32bits(float32(frac)*0x1p-24))
	}
	if frac != 0 {
		frac |= 0x200
	}
	return math.Float32frombits(sign | 0x7F80_0000 | frac<<13)
}

// ToF16 rounds to the nearest IEEE 754 half, ties to even, with subnormals; what is too large becomes an infinity.
// A NaN stays a NaN, made quiet, with its sign and the upper bits of its payload.
func ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7FFF_FFFF
	switch {
	case b > 0x7F80_0000:
		return sign | 0x7E00 | uint16(b>>13&0x3FF)
	case b >= 0x4780_0000: // 2^16 and above; 65520 and above round to infinity below
		return sign | 0x7C00
	case b < 0x3880_0000: // below 2^-14: adding 0.5 leaves the subnormal's bits, rounded, at the end of the fraction
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3F00_0000)
	}
	return sign | uint16((b-(127-15)<<23+0xFFF+b>>13&1)>>13)
}

// FromE8M0 gives the value 2^(e-127) of an MXFP4 scale: a float32 subnormal for e = 0, NaN for e = 255.
func FromE8M0(e uint8) float32 {
	switch e {
	case 0:
		return 0x1p-127
	case 255:
		return float32(math.NaN())
	}
	return math.Float32frombits(uint32(e) << 23)
}

// isFinite tells numbers from infinities and NaN.
func isFinite(f float32) bool { return math.Float32bits(f)&0x7F80_0000 != 0x7F80_0000 }
