package dtype

import (
	"encoding/binary"
	"fmt"
	"math"
)

// EncodeF32 writes src as little-endian float32 to dst, 4 bytes a value.
func EncodeF32(dst []byte, src []float32) {
	dst = dst[:4*len(src)]
	for i, v := range src {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
	}
}

// EncodeBF16 rounds src to BF16 (ToBF16) and writes it to dst, 2 bytes a value.
func EncodeBF16(dst []byte, src []float32) {
	dst = dst[:2*len(src)]
	for i, v := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], ToBF16(v))
	}
}

// EncodeF16 rounds src to F16 (ToF16) and writes it to dst, 2 bytes a value. Values from 65520 up become infinities.
func EncodeF16(dst []byte, src []float32) {
	dst = dst[:2*len(src)]
	for i, v := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], ToF16(v))
	}
}

// QuantizeQ8_0 writes src as Q8_0 blocks to dst, 34 bytes for 32 values, as ggml does: codes from the scale amax/127
// before it is rounded to F16, halves away from zero. It fails on lengths that do not fit, on values that are not
// finite, and where a scale overflows F16.
func QuantizeQ8_0(dst []byte, src []float32) error {
	if err := checkBlocks(Q8_0, dst, src); err != nil {
		return err
	}
	for i := 0; i < len(src); i += 32 {
		block, out := (*[32]float32)(src[i:]), dst[i/32*34:][:34]
		amax, err := absMax(block[:], i)
		if err != nil {
			return err
		}
		scale := amax / 127
		inverse := float32(0)
		if scale != 0 {
			inverse = 1 / scale
		}
		half := ToF16(scale)
		if half == 0x7C00 {
			return fmt.Errorf("values %d to %d reach %v: their Q8_0 scale does not fit F16", i, i+31, amax)
		}
		binary.LittleEndian.PutUint16(out, half)
		for j, v := range block {
			out[2+j] = byte(int8(math.Round(float64(v * inverse))))
		}
	}
	return nil
}

// checkBlocks compares lengths for a format of self-contained blocks.
func checkBlocks(f Format, dst []byte, src []float32) error {
	elems, size := f.BlockElems(), f.BlockBytes()
	if len(src)%elems != 0 || len(dst) != len(src)/elems*size {
		return fmt.Errorf("%d values do not make %d bytes of %v, %d bytes for %d values", len(src), len(dst), f, size, elems)
	}
	return nil
}

// absMax is the largest magnitude in src, or an error that names the first value that is not finite; at is the number
// of src's first value.
func absMax(src []float32, at int) (float32, error) {
	most := uint32(0) // magnitudes compare as their bits do
	for _, v := range src {
		most = max(most, math.Float32bits(v)&0x7FFF_FFFF)
	}
	if most >= 0x7F80_0000 {
		for i, v := range src {
			if !isFinite(v) {
				return 0, fmt.Errorf("value %d is %v, which cannot be quantised", at+i, v)
			}
		}
	}
	return math.Float32frombits(most), nil
}
