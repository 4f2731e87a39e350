package dtype

import "fmt"

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

	I8 // of a KV cache, in no file: int8 with one float32 scale for the 64 elements of a token's key or value in a head
)

const noGGUF = -1 // GGUF has no such type

// formats has a row for each Format. bytes is 0 where scales lie apart from the codes.
var formats = [...]struct {
	name  string
	elems int
	bytes int
	bits  float64
	gguf  int
}{
	Invalid:     {"invalid", 0, 0, 0, noGGUF},
	F32:         {"F32", 1, 4, 32, 0},
	F16:         {"F16", 1, 2, 16, 1},
	BF16:        {"BF16", 1, 2, 16, 30},
	U8:          {"U8", 1, 1, 8, noGGUF},
	MXFP4:       {"MXFP4", 32, 0, 4.25, noGGUF},
	NF4:         {"NF4", 0, 0, 4, noGGUF},
	FP4:         {"FP4", 0, 0, 4, noGGUF},
	Q8_0:        {"Q8_0", 32, 34, 8.5, 8},
	Q4_0:        {"Q4_0", 32, 18, 4.5, 2},
	Q4_1:        {"Q4_1", 32, 20, 5, 3},
	Q5_0:        {"Q5_0", 32, 22, 5.5, 6},
	Q5_1:        {"Q5_1", 32, 24, 6, 7},
	Q2_K:        {"Q2_K", 256, 84, 2.625, 10},
	Q3_K:        {"Q3_K", 256, 110, 3.4375, 11},
	Q4_K:        {"Q4_K", 256, 144, 4.5, 12},
	Q5_K:        {"Q5_K", 256, 176, 5.5, 13},
	Q6_K:        {"Q6_K", 256, 210, 6.5625, 14},
	IQ4_NL:      {"IQ4_NL", 32, 18, 4.5, 20},
	IQ4_XS:      {"IQ4_XS", 256, 136, 4.25, 23},
	MXFP4GGML:   {"MXFP4 (GGUF)", 32, 17, 4.25, 39},
	MXFP4Ollama: {"MXFP4 (Ollama)", 32, 17, 4.25, 4},
	I8:          {"int8", 1, 0, 8.5, noGGUF},
}

// String gives the name that users know: "BF16", "MXFP4", "Q8_0".
func (f Format) String() string {
	if int(f) >= len(formats) {
		return fmt.Sprintf("Format(%d)", uint8(f))
	}
	return formats[f].name
}

// BlockElems is the number of elements that one block holds: 1 for plain numbers, 0 for NF4 and FP4, whose tensors
// say it themselves (Quant.Block), and for what is no format.
func (f Format) BlockElems() int {
	if int(f) >= len(formats) {
		return 0
	}
	return formats[f].elems
}

// BlockBytes is the size of one block, scales included; 0 where the scales lie apart (MXFP4, NF4, FP4) and for what is
// no format.
func (f Format) BlockBytes() int {
	if int(f) >= len(formats) {
		return 0
	}
	return formats[f].bytes
}

// Bits is the storage of one weight in bits, scales included; for NF4 and FP4 the codes alone (see Plane.Bytes).
func (f Format) Bits() float64 {
	if int(f) >= len(formats) {
		return 0
	}
	return formats[f].bits
}

// GGUFType gives the type id of a GGUF tensor in this format; ok is false where GGUF has none.
func (f Format) GGUFType() (id uint32, ok bool) {
	if int(f) >= len(formats) || formats[f].gguf == noGGUF {
		return 0, false
	}
	return uint32(formats[f].gguf), true
}

// FormatOfGGUF gives the format of a GGUF tensor type; ok is false for a type that is not read. Id 4 is a dead type of
// llama.cpp that Ollama used for its own MXFP4 before v0.11.8.
func FormatOfGGUF(id uint32) (f Format, ok bool) {
	for f := range formats {
		if g := formats[f].gguf; g != noGGUF && uint32(g) == id {
			return Format(f), true
		}
	}
	return Invalid, false
}

// SafetensorsType gives the dtype that a safetensors header states for a tensor in this format: "F32", "F16", "BF16",
// and "U8" for bytes and packed codes. ok is false for GGUF's formats.
func (f Format) SafetensorsType() (name string, ok bool) {
	switch f {
	case F32, F16, BF16, U8:
		return f.String(), true
	case MXFP4, NF4, FP4:
		return U8.String(), true
	}
	return "", false
}

// FormatOfSafetensors gives the format of a safetensors dtype; ok is false for one that is not read. Packed codes are
// U8 there: which they are, the tensor's name and neighbours tell.
func FormatOfSafetensors(name string) (f Format, ok bool) {
	for _, f := range [...]Format{F32, F16, BF16, U8} {
		if f.String() == name {
			return f, true
		}
	}
	return Invalid, false
}
