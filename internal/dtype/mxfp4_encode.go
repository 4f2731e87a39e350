package dtype

import (
	"fmt"
	"math"
)

// QuantizeMXFP4 writes src as codes (16 bytes for 32 values, Hugging Face's nibble order) and E8M0 scales (one byte for
// 32 values) by the rule of OpenAI's and transformers' quantiser: the scale is the least power of two not below amax/6,
// values round to the nearest code, ties to even. It fails on lengths that do not fit and on values that are not
// finite.
func QuantizeMXFP4(codes, scales []byte, src []float32) error {
	if err := checkMXFP4(codes, scales, len(src)); err != nil {
		return err
	}
	for i := range scales {
		block := (*[32]float32)(src[32*i:])
		amax, err := absMax(block[:], 32*i)
		if err != nil {
			return err
		}
		bits := (math.Float32bits(amax/6) + 0x007F_FFFF) & 0x7F80_0000
		inverse := float32(0)
		if bits != 0 {
			inverse = 1 / math.Float32frombits(bits)
		}
		if scales[i] = uint8(bits >> 23); scales[i] > maxScale {
			return errTooLarge(32*i, amax)
		}
		out := (*[16]byte)(codes[16*i:])
		for j := range out {
			low, high := block[2*j]*inverse, block[2*j+1]*inverse
			out[j] = signE2M1(low) | toE2M1(low, &stepsOpenAI) | (signE2M1(high)|toE2M1(high, &stepsOpenAI))<<4
		}
	}
	return nil
}

// Bits of the float32 magnitudes up to which a value takes the lower of two neighbouring codes: the middle of their
// values, and of OpenAI's rule just below it where a tie goes up, to the even code.
var (
	stepsOpenAI = e2m1Steps(1)
	stepsGGML   = e2m1Steps(0)
)

func e2m1Steps(tieUp uint32) (s [7]uint32) {
	for i := range s {
		s[i] = math.Float32bits((E2M1[i]+E2M1[i+1])/2) - tieUp&uint32(i)
	}
	return s
}

// toE2M1 gives the magnitude's code, 0 to 7; what is above 6 becomes 6.
func toE2M1(x float32, steps *[7]uint32) uint8 {
	magnitude, n := int64(math.Float32bits(x)&0x7FFF_FFFF), 0
	for _, s := range steps {
		n += int(uint64(int64(s)-magnitude) >> 63) // 1 where magnitude > s, without a branch
	}
	return uint8(n)
}

// signE2M1 is the code's sign bit.
func signE2M1(x float32) uint8 { return uint8(math.Float32bits(x) >> 28 & 8) }

// QuantizeMXFP4GGML writes src as MXFP4GGML blocks, 17 bytes for 32 values, by ggml's rule: the exponent is
// floor(log2(amax))-2, each code the nearest value, the lowest code of equals. It differs from QuantizeMXFP4. It fails
// on lengths that do not fit and on values that are not finite.
func QuantizeMXFP4GGML(dst []byte, src []float32) error {
	if err := checkBlocks(MXFP4GGML, dst, src); err != nil {
		return err
	}
	for i := 0; i < len(src); i += 32 {
		block, out := (*[32]float32)(src[i:]), (*[17]byte)(dst[i/32*17:])
		amax, err := absMax(block[:], i)
		if err != nil {
			return err
		}
		if out[0] = exponentGGML(amax); out[0] > maxScale {
			return errTooLarge(i, amax)
		}
		inverse := 1 / FromE8M0(out[0])
		for j := range 16 {
			out[1+j] = nearestGGML(block[j]*inverse) | nearestGGML(block[j+16]*inverse)<<4
		}
	}
	return nil
}

// exponentGGML is the scale byte. ggml takes the logarithm in float32, so an amax just below a power of two counts as
// that power. Below 2^-125 ggml's byte would wrap around: it stays 0 here.
func exponentGGML(amax float32) uint8 {
	if amax == 0 {
		return 0
	}
	log := float32(math.Log2(float64(amax)))
	return uint8(max(0, int(math.Floor(float64(log)))-2+127))
}

// nearestGGML is the code nearest to x, the lowest of equals: half-way the smaller magnitude, and 0, never 8.
func nearestGGML(x float32) uint8 {
	code := toE2M1(x, &stepsGGML)
	if code != 0 {
		code |= signE2M1(x)
	}
	return code
}

// PackMXFP4GGML turns Hugging Face's codes and scales into GGUF's type 39 blocks, dst, 17 bytes for 16 codes bytes and
// one scale. Nothing is lost.
func PackMXFP4GGML(dst, codes, scales []byte) error {
	if err := checkPacked(MXFP4GGML, dst, codes, scales); err != nil {
		return err
	}
	for i, e := range scales {
		h, g := (*[16]byte)(codes[16*i:]), (*[16]byte)(dst[17*i+1:])
		dst[17*i] = e
		for j := range 8 {
			g[2*j] = h[j]&0x0F | h[j+8]<<4
			g[2*j+1] = h[j]>>4 | h[j+8]&0xF0
		}
	}
	return nil
}

// UnpackMXFP4GGML is the inverse of PackMXFP4GGML.
func UnpackMXFP4GGML(codes, scales, src []byte) error {
	if err := checkPacked(MXFP4GGML, src, codes, scales); err != nil {
		return err
	}
	for i := range scales {
		h, g := (*[16]byte)(codes[16*i:]), (*[16]byte)(src[17*i+1:])
		scales[i] = src[17*i]
		for j := range 8 {
			h[j] = g[2*j]&0x0F | g[2*j+1]<<4
			h[j+8] = g[2*j]>>4 | g[2*j+1]&0xF0
		}
	}
	return nil
}

// UnpackMXFP4Ollama turns the blocks of Ollama's type 4 into Hugging Face's codes and scales: the nibbles are in the
// same order. Nothing is lost.
func UnpackMXFP4Ollama(codes, scales, src []byte) error {
	if err := checkPacked(MXFP4Ollama, src, codes, scales); err != nil {
		return err
	}
	for i := range scales {
		scales[i] = src[17*i]
		copy(codes[16*i:16*i+16], src[17*i+1:])
	}
	return nil
}

func checkPacked(f Format, blocks, codes, scales []byte) error {
	if len(blocks) != 17*len(scales) {
		return fmt.Errorf("%d bytes of %v do not hold %d blocks of 17", len(blocks), f, len(scales))
	}
	return checkMXFP4(codes, scales, 32*len(scales))
}

func checkMXFP4(codes, scales []byte, n int) error {
	if n%32 != 0 || len(scales) != n/32 || len(codes) != n/2 {
		return fmt.Errorf("%d values do not make %d bytes of MXFP4 codes and %d scales, 16 and 1 for 32 values", n, len(codes), len(scales))
	}
	return nil
}

// maxScale is the largest scale byte under which every code is finite in float32.
const maxScale = 252

func errTooLarge(at int, amax float32) error {
	return fmt.Errorf("values %d to %d reach %v, MXFP4 ends at 6*2^125", at, at+31, amax)
}

// CheckScales reports the first MXFP4 scale under which some code leaves float32: 255 is NaN by the standard, 253 and
// 254 overflow. No real file has them. It reads all scales; other formats pass.
func (p *Plane) CheckScales() error {
	scales, stride := p.Scales, 1
	switch p.Format {
	case MXFP4:
	case MXFP4GGML, MXFP4Ollama:
		scales, stride = p.Data, 17
	default:
		return nil
	}
	for i := 0; i < len(scales); i += stride {
		if e := scales[i]; e > maxScale {
			block := i / stride
			row, col := block*32/p.Cols, block*32%p.Cols
			return fmt.Errorf("%s: scale byte %d at row %d, column %d stands for no finite values; the file is damaged", p.name(), e, row, col)
		}
	}
	return nil
}
