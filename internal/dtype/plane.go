// Package dtype holds the number formats of GPT-OSS checkpoints: scalars (BF16, F16, E8M0), block codecs (MXFP4,
// NF4, FP4, GGUF's types) and Plane, the description of one weight matrix in the format and place it is stored in.
// It decodes and encodes values bit for bit as the libraries that own each format do. It never opens a file, never
// picks a device and never changes a value silently.
package dtype

// Plane is one weight matrix [Rows, Cols] (out, in), kept in the bytes of its checkpoint. Nothing is copied: the
// slices usually point into a memory mapping and may be unaligned, so they are bytes even where they hold floats
// (little-endian).
type Plane struct {
	Format Format
	Rows   int // output width
	Cols   int // input width

	// Transposed says that the storage is [Cols, Rows] row-major (Hugging Face BF16 experts, fused bitsandbytes).
	// Blocks of a 4-bit format then run along the output axis.
	Transposed bool

	// Data holds the values, the self-contained blocks (GGUF types), or the packed 4-bit codes.
	Data []byte

	// Scales holds one E8M0 exponent for each block of 32 inputs, [Rows, Cols/32]. Only for MXFP4.
	Scales []byte

	// Quant holds the scales of NF4 and FP4, nil otherwise.
	Quant *Quant
}

// Quant is the side data of a bitsandbytes 4-bit tensor (spec: bitsandbytes QuantState). Elements are counted along
// the flattened storage.
type Quant struct {
	Block int    // elements under one scale, usually 64
	First int    // index of the plane's first block in the arrays below; not 0 for an expert inside a fused tensor
	Round Format // BF16, F16 or F32: what dequantised values are rounded to (quant_state.dtype)

	// Absmax holds float32 scales, one a block, when the tensor is not double-quantised.
	Absmax []byte

	// Codes holds 8-bit scales, one a block, when it is. The scale of block b is
	// float32(Map[Codes[b]]*Nested[b/NestedBlock]) + Offset, two roundings, never a fused multiply-add.
	Codes       []byte
	Map         *[256]float32
	Nested      []byte // float32, one for each NestedBlock codes
	NestedBlock int    // usually 256
	Offset      float32
}

// Stack is a stack of expert matrices [len(Even), Rows, Cols]. A projection whose gate and up rows are stored apart
// has its gate rows in Even and its up rows in Odd, and reads as if they were interleaved: row 2r is Even's row r,
// row 2r+1 is Odd's.
type Stack struct {
	Even []Plane
	Odd  []Plane // nil unless gate and up are stored apart
}

// Experts is the number of matrices in the stack.
func (s *Stack) Experts() int { return len(s.Even) }

// Shape gives the rows (output width) and columns (input width) of every matrix of the stack.
func (s *Stack) Shape() (rows, cols int) {
	if len(s.Even) == 0 {
		return 0, 0
	}
	rows, cols = s.Even[0].Rows, s.Even[0].Cols
	if s.Odd != nil {
		rows *= 2
	}
	return rows, cols
}

// DecodeRows writes rows [first, first+n) of expert e as float32 into dst, [n, Cols] row-major.
func (s *Stack) DecodeRows(dst []float32, e, first, n int) {
	if s.Odd == nil {
		s.Even[e].DecodeRows(dst, first, n)
		return
	}
	cols := s.Even[e].Cols
	for i := range n {
		p := &s.Even[e]
		if (first+i)%2 == 1 {
			p = &s.Odd[e]
		}
		p.DecodeRows(dst[i*cols:(i+1)*cols], (first+i)/2, 1)
	}
}
