package dtype

import "encoding/binary"

// GGUF's block formats of 32 elements, with their scale as the first two bytes (F16), then a minimum where the name
// ends in _1. Products and differences are rounded one by one, as gguf-py and ggml do: the float32 conversions keep
// Go from fusing them.

func decodeQ8_0(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[34:] {
		d, q, scale := (*[32]float32)(dst), (*[32]byte)(src[2:]), f16at(src)
		for j, b := range q {
			d[j] = float32(int8(b)) * scale
		}
	}
}

// decodeQ4_0: byte j has element j low, j+16 high, with 8 added.
func decodeQ4_0(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[18:] {
		d, q, scale := (*[32]float32)(dst), (*[16]byte)(src[2:]), f16at(src)
		for j, b := range q {
			d[j] = float32(int32(b&15)-8) * scale
			d[j+16] = float32(int32(b>>4)-8) * scale
		}
	}
}

func decodeQ4_1(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[20:] {
		d, q, scale, least := (*[32]float32)(dst), (*[16]byte)(src[4:]), f16at(src), f16at(src[2:])
		for j, b := range q {
			d[j] = float32(float32(b&15)*scale) + least
			d[j+16] = float32(float32(b>>4)*scale) + least
		}
	}
}

// decodeQ5_0: as Q4_0, with the fifth bit of element j in bit j of a 32-bit word, and 16 added.
func decodeQ5_0(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[22:] {
		d, q, scale := (*[32]float32)(dst), (*[16]byte)(src[6:]), f16at(src)
		high := binary.LittleEndian.Uint32(src[2:])
		for j, b := range q {
			d[j] = float32(int32(uint32(b&15)|high>>j&1<<4)-16) * scale
			d[j+16] = float32(int32(uint32(b>>4)|high>>(j+16)&1<<4)-16) * scale
		}
	}
}

func decodeQ5_1(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[24:] {
		d, q, scale, least := (*[32]float32)(dst), (*[16]byte)(src[8:]), f16at(src), f16at(src[2:])
		high := binary.LittleEndian.Uint32(src[4:])
		for j, b := range q {
			d[j] = float32(float32(uint32(b&15)|high>>j&1<<4)*scale) + least
			d[j+16] = float32(float32(uint32(b>>4)|high>>(j+16)&1<<4)*scale) + least
		}
	}
}

// iq4 is the code table of IQ4_NL and IQ4_XS: sixteen unevenly spaced steps.
var iq4 = [16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

func decodeIQ4NL(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[18:] {
		decodeIQ4((*[32]float32)(dst), (*[16]byte)(src[2:]), f16at(src))
	}
}

func decodeIQ4(dst *[32]float32, codes *[16]byte, scale float32) {
	for j, b := range codes {
		dst[j] = iq4[b&15] * scale
		dst[j+16] = iq4[b>>4] * scale
	}
}

// decodeIQ4XS: blocks of 256: scale F16; the upper two bits of eight 6-bit scales in 16 bits, their lower four in four
// bytes; then eight runs of 32 as in IQ4_NL.
func decodeIQ4XS(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[136:] {
		scale, high := f16at(src), binary.LittleEndian.Uint16(src[2:])
		for i := range 8 {
			low := src[4+i/2] >> (4 * (i & 1)) & 15
			s := int32(low) | int32(high>>(2*i)&3)<<4
			decodeIQ4((*[32]float32)(dst[32*i:]), (*[16]byte)(src[8+16*i:]), scale*float32(s-32))
		}
	}
}
