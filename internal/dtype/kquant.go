package dtype

// GGUF's K-quants: super-blocks of 256 elements whose sub-blocks have small integer scales under one or two F16 scales.

// decodeQ2K: 16 scale bytes (scale low, minimum high nibble, one for 16 elements), 64 bytes of 2-bit codes, scale F16,
// minimum F16. Byte l of a 32-byte half has elements l, l+32, l+64, l+96 of its 128 from the low bits up.
func decodeQ2K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[84:] {
		scale, least := f16at(src[80:]), f16at(src[82:])
		for i := range 16 { // runs of 16 elements
			half, shift := i/8, i/2%4*2
			s := scale * float32(src[i]&15)
			m := float32(least * float32(src[i]>>4)) // unconverted, Go may fuse it with the subtraction below
			d, q := (*[16]float32)(dst[16*i:]), (*[16]byte)(src[16+32*half+16*(i%2):])
			for j, b := range q {
				d[j] = float32(s*float32(b>>shift&3)) - m
			}
		}
	}
}

// decodeQ3K: 32 bytes with the third bit (inverted: set means nothing is subtracted), 64 bytes of 2-bit codes as in
// Q2_K, 12 bytes of sixteen 6-bit scales, scale F16.
func decodeQ3K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[110:] {
		scale := f16at(src[108:])
		packed := (*[12]byte)(src[96:])
		for i := range 16 {
			low := packed[i%8] >> (i / 8 * 4) & 15
			high := packed[8+i%4] >> (i / 4 * 2) & 3
			s := scale * float32(int32(low|high<<4)-32)
			half, bit := i/8, i/2 // the third bit's place goes through both halves
			shift := bit % 4 * 2
			d := (*[16]float32)(dst[16*i:])
			q, h := (*[16]byte)(src[32+32*half+16*(i%2):]), (*[16]byte)(src[16*(i%2):])
			for j, b := range q {
				d[j] = s * float32(int32(b>>shift&3|h[j]>>bit&1<<2)-4)
			}
		}
	}
}

// scaleMinK4 unpacks scale and minimum i of the eight 6-bit pairs in the 12 bytes of Q4_K and Q5_K.
func scaleMinK4(b *[12]byte, i int) (scale, least float32) {
	if i < 4 {
		return float32(b[i] & 63), float32(b[i+4] & 63)
	}
	return float32(b[i+4]&15 | b[i-4]>>6<<4), float32(b[i+4]>>4 | b[i]>>6<<4)
}

// decodeQ4K: scale F16, minimum F16, 12 bytes of scales, then four runs of 32 bytes: low nibbles are 32 elements, high
// nibbles the next 32.
func decodeQ4K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[144:] {
		scale, least, packed := f16at(src), f16at(src[2:]), (*[12]byte)(src[4:])
		for i := range 8 {
			s, m := scaleMinK4(packed, i)
			s, m = scale*s, float32(least*m)
			shift := i % 2 * 4
			d, q := (*[32]float32)(dst[32*i:]), (*[32]byte)(src[16+i/2*32:])
			for j, b := range q {
				d[j] = float32(s*float32(b>>shift&15)) - m
			}
		}
	}
}

// decodeQ5K: as Q4_K, with 32 bytes of fifth bits before the nibbles: bit i of byte j is for element j of run i.
func decodeQ5K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[176:] {
		scale, least, packed := f16at(src), f16at(src[2:]), (*[12]byte)(src[4:])
		h := (*[32]byte)(src[16:])
		for i := range 8 {
			s, m := scaleMinK4(packed, i)
			s, m = scale*s, float32(least*m)
			shift := i % 2 * 4
			d, q := (*[32]float32)(dst[32*i:]), (*[32]byte)(src[48+i/2*32:])
			for j, b := range q {
				d[j] = float32(s*float32(b>>shift&15|h[j]>>i&1<<4)) - m
			}
		}
	}
}

// decodeQ6K: 128 bytes of low nibbles, 64 bytes of upper bit pairs, sixteen int8 scales, scale F16. Each half of 128
// elements is four runs of 32: the runs take their nibbles from bytes 0, 32 (low), 0, 32 (high), their pairs from the
// low bits up.
func decodeQ6K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[210:] {
		scale := f16at(src[208:])
		for i := range 16 {
			half, run := i/8, i/2%4
			s := scale * float32(int8(src[192+i]))
			at := 16 * (i % 2)
			d := (*[16]float32)(dst[16*i:])
			q, h := (*[16]byte)(src[64*half+run%2*32+at:]), (*[16]byte)(src[128+32*half+at:])
			low, high := run/2*4, run*2
			for j, b := range q {
				d[j] = s * float32(int32(b>>low&15|h[j]>>high&3<<4)-32)
			}
		}
	}
}
