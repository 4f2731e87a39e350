package dtype

// Format names how numbers are stored.
type Format uint8

// The formats. The comment gives bytes and elements of a block where there is one.
const (
	Invalid Format = iota
	F32
	F16
	BF16
	U8     // raw bytes, not numbers
	MXFP4  // OpenAI and Hugging Face: 16 bytes of codes for 32 elements, E8M0 scales apart
	NF4    // bitsandbytes, two codes a byte, high nibble first, scales apart
	FP4    // bitsandbytes, as NF4 with another code table
	Q8_0   // GGUF: 34 bytes for 32 elements
	Q4_0   // GGUF: 18 for 32
	Q4_1   // GGUF: 20 for 32
	Q5_0   // GGUF: 22 for 32
	Q5_1   // GGUF: 24 for 32
	Q2_K   // GGUF: 84 for 256
	Q3_K   // GGUF: 110 for 256
	Q4_K   // GGUF: 144 for 256
	Q5_K   // GGUF: 176 for 256
	Q6_K   // GGUF: 210 for 256
	IQ4_NL // GGUF: 18 for 32
	IQ4_XS // GGUF: 136 for 256

	MXFP4GGML   // GGUF type 39: 17 bytes for 32 elements, element j low and j+16 high in byte 1+j
	MXFP4Ollama // GGUF type 4 of Ollama before v0.11.8: 17 bytes for 32 elements, nibbles in Hugging Face's order
)
