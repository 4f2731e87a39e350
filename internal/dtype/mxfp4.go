package dtype

import "math"

// E2M1 gives the value of each 4-bit code of MXFP4: bit 3 is the sign, code 8 is -0. Read only.
var E2M1 = [16]float32{
	0, 0.5, 1, 1.5, 2, 3, 4, 6,
	float32(math.Copysign(0, -1)), -0.5, -1, -1.5, -2, -3, -4, -6,
}

// decodeMXFP4 decodes OpenAI's and Hugging Face's form: byte j of a block's 16 has element 2j low, 2j+1 high.
func decodeMXFP4(dst []float32, codes, scales []byte) {
	for _, e := range scales[:len(dst)/32] {
		decodeMXFP4Block((*[32]float32)(dst), (*[16]byte)(codes), FromE8M0(e))
		dst, codes = dst[32:], codes[16:]
	}
}

// decodeMXFP4Ollama decodes blocks of the scale and 16 bytes in Hugging Face's nibble order.
func decodeMXFP4Ollama(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[17:] {
		decodeMXFP4Block((*[32]float32)(dst), (*[16]byte)(src[1:]), FromE8M0(src[0]))
	}
}

// Every product is exact, or an infinity where scales of 253 and 254 leave float32.
func decodeMXFP4Block(dst *[32]float32, codes *[16]byte, scale float32) {
	for j, b := range codes {
		dst[2*j] = E2M1[b&15] * scale
		dst[2*j+1] = E2M1[b>>4] * scale
	}
}

// decodeMXFP4GGML decodes GGUF type 39: after the scale, byte j has element j low, j+16 high. ggml reads code 8 as +0;
// here it is -0, so that a GGUF and a safetensors file of one model give equal bits.
func decodeMXFP4GGML(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[17:] {
		d, codes, scale := (*[32]float32)(dst), (*[16]byte)(src[1:]), FromE8M0(src[0])
		for j, b := range codes {
			d[j] = E2M1[b&15] * scale
			d[j+16] = E2M1[b>>4] * scale
		}
	}
}
