package dtype

import (
	"encoding/binary"
	"fmt"
	"math"
)

// DecodeRows writes rows [first, first+n) of the matrix as float32 into dst, [n, Cols] row-major. The plane has
// passed Check, and dst holds at least n*Cols values: otherwise it panics, as indexing a slice does. It allocates
// nothing. A transposed plane reads each line of its storage once for every 64 rows, so ask for many rows at a time.
func (p *Plane) DecodeRows(dst []float32, first, n int) {
	dst = dst[:n*p.Cols]
	if !p.Transposed {
		p.decodeRun(dst, first*p.Cols)
		return
	}
	const tile = 64
	for ; n > 0; n -= tile {
		rows := min(n, tile)
		p.decodeTile(dst, first, rows)
		dst, first = dst[rows*p.Cols:], first+rows
	}
}

// decodeTile gathers rows [first, first+n), n <= 64, of a transposed plane. Four lines of storage are decoded side by
// side, so that a write touches 16 bytes of each row.
func (p *Plane) decodeTile(dst []float32, first, n int) {
	var line [4][64]float32
	cols := p.Cols
	c := 0
	for ; c+4 <= cols; c += 4 {
		for k := range line {
			p.decodeRun(line[k][:n], (c+k)*p.Rows+first)
		}
		for r := range n {
			d := (*[4]float32)(dst[r*cols+c:])
			d[0], d[1], d[2], d[3] = line[0][r&63], line[1][r&63], line[2][r&63], line[3][r&63]
		}
	}
	for ; c < cols; c++ {
		p.decodeRun(line[0][:n], c*p.Rows+first)
		for r := range n {
			dst[r*cols+c] = line[0][r&63]
		}
	}
}

// decodeRun decodes len(dst) consecutive elements of the storage, from element start on. Both are multiples of the
// block in formats whose blocks align with rows.
func (p *Plane) decodeRun(dst []float32, start int) {
	switch p.Format {
	case F32:
		decodeF32(dst, p.Data[start*4:])
	case F16:
		decodeF16(dst, p.Data[start*2:])
	case BF16:
		decodeBF16(dst, p.Data[start*2:])
	case NF4:
		p.Quant.decode(dst, p.Data, start, &NF4Table)
	case FP4:
		p.Quant.decode(dst, p.Data, start, &FP4Table)
	case MXFP4:
		decodeMXFP4(dst, p.Data[start/2:], p.Scales[start/32:])
	default:
		f := p.Format
		decodeBlocks(f, dst, p.Data[start/f.BlockElems()*f.BlockBytes():])
	}
}

// decodeBlocks decodes self-contained blocks of one of GGUF's formats.
func decodeBlocks(f Format, dst []float32, src []byte) {
	switch f {
	case Q8_0:
		decodeQ8_0(dst, src)
	case Q4_0:
		decodeQ4_0(dst, src)
	case Q4_1:
		decodeQ4_1(dst, src)
	case Q5_0:
		decodeQ5_0(dst, src)
	case Q5_1:
		decodeQ5_1(dst, src)
	case Q2_K:
		decodeQ2K(dst, src)
	case Q3_K:
		decodeQ3K(dst, src)
	case Q4_K:
		decodeQ4K(dst, src)
	case Q5_K:
		decodeQ5K(dst, src)
	case Q6_K:
		decodeQ6K(dst, src)
	case IQ4_NL:
		decodeIQ4NL(dst, src)
	case IQ4_XS:
		decodeIQ4XS(dst, src)
	case MXFP4GGML:
		decodeMXFP4GGML(dst, src)
	case MXFP4Ollama:
		decodeMXFP4Ollama(dst, src)
	default:
		panic("dtype: " + f.String() + " holds no numbers")
	}
}

func decodeF32(dst []float32, src []byte) {
	src = src[:len(dst)*4]
	for i := range dst {
		dst[i] = f32at(src, i)
	}
}

func decodeF16(dst []float32, src []byte) {
	src = src[:len(dst)*2]
	for i := range dst {
		h := binary.LittleEndian.Uint16(src[i*2:])
		if isNormalF16(h) { // spelled out: FromF16 is too large to be inlined
			dst[i] = fromNormalF16(h)
		} else {
			dst[i] = fromRareF16(h)
		}
	}
}

func decodeBF16(dst []float32, src []byte) {
	for ; len(dst) >= 4 && len(src) >= 8; dst, src = dst[4:], src[8:] {
		w := binary.LittleEndian.Uint64(src)
		dst[0] = math.Float32frombits(uint32(w) << 16)
		dst[1] = math.Float32frombits(uint32(w) & 0xFFFF_0000)
		dst[2] = math.Float32frombits(uint32(w>>16) & 0xFFFF_0000)
		dst[3] = math.Float32frombits(uint32(w>>32) & 0xFFFF_0000)
	}
	for i := range dst {
		dst[i] = FromBF16(binary.LittleEndian.Uint16(src[i*2:]))
	}
}

// f32at is number i of packed little-endian float32s.
func f32at(b []byte, i int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(b[i*4:]))
}

// f16at is the half at the start of b.
func f16at(b []byte) float32 { return FromF16(binary.LittleEndian.Uint16(b)) }

// DecodeVector decodes a whole one-dimensional tensor (a norm, a bias, sinks) in any format that keeps its scales with
// its codes. It fails where data is not a whole number of blocks or the format needs scales from elsewhere.
func DecodeVector(f Format, data []byte) ([]float32, error) {
	size := f.BlockBytes()
	if size == 0 || f == U8 {
		return nil, fmt.Errorf("%v bytes alone hold no numbers; a vector is F32, F16, BF16 or one of GGUF's block formats", f)
	}
	if len(data)%size != 0 {
		return nil, fmt.Errorf("%v vector has %d bytes, not a multiple of %d", f, len(data), size)
	}
	n := len(data) / size * f.BlockElems()
	p := Plane{Format: f, Rows: 1, Cols: n, Data: data}
	dst := make([]float32, n)
	p.decodeRun(dst, 0)
	return dst, nil
}
