package convert

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"hearth/internal/dtype"
)

// codec writes one kind of weight in one format. Its tensors hold matrix after matrix, each an equal share.
type codec interface {
	// chunk is how many rows of [rows, cols] a piece may have.
	chunk(rows, cols int) int
	// write encodes v, the rows from first on of matrix e of the item, and puts them in their places. It returns a view
	// of what the written bytes stand for; the zero view where that is v itself.
	write(w *worker, it *item, v *view, e, first int) (view, error)
	// fingerprint adds v to a checksum, in a form that v has in common with every view of the same written weights.
	fingerprint(w *worker, v *view) error
}

// pieceValues bounds the float32 values that a worker holds at once.
const pieceValues = 1 << 20

// cachedValues are as many as a processor's second cache holds in two formats.
const cachedValues = 1 << 16

func chunkOf(rows, cols int) int { return max(1, min(rows, pieceValues/cols)) }

// castagnoli is fast in hardware.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// floatCodec writes plain numbers.
type floatCodec struct {
	format     dtype.Format
	transposed bool // [cols, rows], as Transformers stores experts
}

func (c floatCodec) chunk(rows, cols int) int {
	if c.transposed {
		return rows // lines of the output cross all rows
	}
	return chunkOf(rows, cols)
}

func (c floatCodec) size() int { return c.format.BlockBytes() }

func (c floatCodec) write(w *worker, it *item, v *view, e, first int) (view, error) {
	at := int64(first * v.cols * c.size()) // 0 for a transposed matrix, which is written whole
	if p := v.plane(); p != nil && p.Format == c.format && p.Transposed == c.transposed {
		return view{}, w.put(it, 0, e, at, p.Data)
	}
	b := w.bytes(0, v.rows*v.cols*c.size())
	var err error
	if c.transposed {
		err = c.transpose(w, b, v, it.exact)
	} else {
		err = c.encode(b, w.decode(v, 0, v.rows), it.exact)
	}
	if err != nil {
		return view{}, err
	}
	if err := w.put(it, 0, e, at, b); err != nil {
		return view{}, err
	}
	if it.exact {
		return view{}, nil
	}
	return planeView(&dtype.Plane{Format: c.format, Rows: v.rows, Cols: v.cols, Transposed: c.transposed, Data: b}), nil
}

// encode refuses values that become infinities, which exact conversions do not make.
func (c floatCodec) encode(b []byte, values []float32, exact bool) error {
	encodeFloats(c.format, b, values)
	if exact {
		return nil
	}
	for i, x := range values {
		if e := b[i*c.size()+c.size()-2:]; isInfinite(c.format, e) && x-x == 0 {
			return fmt.Errorf("%v does not fit %v", x, c.format)
		}
	}
	return nil
}

// isInfinite looks at the upper two bytes of a number.
func isInfinite(f dtype.Format, b []byte) bool {
	bits := binary.LittleEndian.Uint16(b) & 0x7FFF
	return f == dtype.F16 && bits == 0x7C00 || f == dtype.BF16 && bits == 0x7F80
}

// transpose fills b with the view's columns, a strip of rows at a time.
func (c floatCodec) transpose(w *worker, b []byte, v *view, exact bool) error {
	size, line := c.size(), v.rows*c.size()
	const strip = 32 // a line of the cache in the output
	for first := 0; first < v.rows; first += strip {
		n := min(strip, v.rows-first)
		encoded := w.bytes(1, n*v.cols*size)
		if err := c.encode(encoded, w.decode(v, first, n), exact); err != nil {
			return err
		}
		if size == 2 {
			for col := range v.cols {
				out := b[col*line+first*2:][:n*2]
				for r := range n {
					binary.LittleEndian.PutUint16(out[2*r:], binary.LittleEndian.Uint16(encoded[(r*v.cols+col)*2:]))
				}
			}
			continue
		}
		for col := range v.cols {
			for r := range n {
				at := (r*v.cols + col) * size
				copy(b[col*line+(first+r)*size:][:size], encoded[at:])
			}
		}
	}
	return nil
}

func encodeFloats(f dtype.Format, b []byte, v []float32) {
	switch f {
	case dtype.BF16:
		dtype.EncodeBF16(b, v)
	case dtype.F16:
		dtype.EncodeF16(b, v)
	default:
		dtype.EncodeF32(b, v)
	}
}

func (c floatCodec) fingerprint(w *worker, v *view) error {
	if p := v.plane(); p != nil && p.Format == c.format && !p.Transposed {
		w.sum(p.Data)
		return nil
	}
	crc, step := uint32(0), max(1, cachedValues/v.cols)
	for first := 0; first < v.rows; first += step {
		n := min(step, v.rows-first)
		b := w.bytes(2, n*v.cols*c.size())
		encodeFloats(c.format, b, w.decode(v, first, n))
		crc = crc32.Update(crc, castagnoli, b)
	}
	w.fold(crc)
	return nil
}

// exactIn says whether every value of a plane's format has its place in a format of plain numbers.
func exactIn(f dtype.Format, p *dtype.Plane) bool { return f == dtype.F32 || floatOf(p) == f }

// floatOf is the narrowest format of plain numbers that holds whatever the plane's format can say.
func floatOf(p *dtype.Plane) dtype.Format {
	switch p.Format {
	case dtype.BF16, dtype.F16:
		return p.Format
	case dtype.MXFP4, dtype.MXFP4GGML, dtype.MXFP4Ollama:
		return dtype.BF16
	case dtype.NF4, dtype.FP4:
		return p.Quant.Round
	}
	return dtype.F32
}

// isMX says whether a plane is MXFP4, in whichever packing.
func isMX(f dtype.Format) bool {
	return f == dtype.MXFP4 || f == dtype.MXFP4GGML || f == dtype.MXFP4Ollama
}

// mxCodec writes MXFP4: codes and scales apart, or GGUF's blocks of both.
type mxCodec struct{ ggml bool }

func (mxCodec) chunk(rows, cols int) int { return chunkOf(rows, cols) }

func (c mxCodec) write(w *worker, it *item, v *view, e, first int) (view, error) {
	blocks := v.rows * v.cols / 32
	codes, scales := w.bytes(0, 16*blocks), w.bytes(1, blocks)
	var out view
	if isMX(v.even.Format) {
		if err := mxRows(codes, scales, v); err != nil {
			return out, err
		}
	} else {
		if err := dtype.QuantizeMXFP4(codes, scales, w.decode(v, 0, v.rows)); err != nil {
			return out, err
		}
		out = planeView(&dtype.Plane{Format: dtype.MXFP4, Rows: v.rows, Cols: v.cols, Data: codes, Scales: scales})
	}
	at := int64(first * v.cols / 32)
	if !c.ggml {
		if err := w.put(it, 0, e, 16*at, codes); err != nil {
			return out, err
		}
		return out, w.put(it, 1, e, at, scales)
	}
	packed := w.bytes(2, 17*blocks)
	if err := dtype.PackMXFP4GGML(packed, codes, scales); err != nil {
		return out, err
	}
	return out, w.put(it, 0, e, 17*at, packed)
}

// mxRows collects rows of MXFP4 in Hugging Face's packing.
func mxRows(codes, scales []byte, v *view) error {
	blocks := v.cols / 32
	for i := range v.rows {
		p, row := v.row(i)
		c, s := codes[16*blocks*i:16*blocks*(i+1)], scales[blocks*i:blocks*(i+1)]
		var err error
		switch p.Format {
		case dtype.MXFP4:
			copy(c, p.Data[16*blocks*row:])
			copy(s, p.Scales[blocks*row:])
		case dtype.MXFP4GGML:
			err = dtype.UnpackMXFP4GGML(c, s, p.Data[17*blocks*row:17*blocks*(row+1)])
		default:
			err = dtype.UnpackMXFP4Ollama(c, s, p.Data[17*blocks*row:17*blocks*(row+1)])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (mxCodec) fingerprint(w *worker, v *view) error {
	blocks := v.rows * v.cols / 32
	codes, scales := w.bytes(2, 16*blocks), w.bytes(3, blocks)
	if err := mxRows(codes, scales, v); err != nil {
		return err
	}
	w.sum(codes)
	w.sum(scales)
	return nil
}

// blockCodec copies rows of GGUF's self-contained blocks, or quantises to Q8_0.
type blockCodec struct{ format dtype.Format }

func (blockCodec) chunk(rows, cols int) int { return chunkOf(rows, cols) }

func (c blockCodec) line(cols int) int { return cols / c.format.BlockElems() * c.format.BlockBytes() }

func (c blockCodec) write(w *worker, it *item, v *view, e, first int) (view, error) {
	line := c.line(v.cols)
	b := w.bytes(0, v.rows*line)
	var out view
	if v.even.Format == c.format {
		c.rows(b, v)
	} else {
		if err := dtype.QuantizeQ8_0(b, w.decode(v, 0, v.rows)); err != nil {
			return out, err
		}
		out = planeView(&dtype.Plane{Format: c.format, Rows: v.rows, Cols: v.cols, Data: b})
	}
	return out, w.put(it, 0, e, int64(first*line), b)
}

func (c blockCodec) rows(b []byte, v *view) {
	line := c.line(v.cols)
	for i := range v.rows {
		p, row := v.row(i)
		copy(b[i*line:(i+1)*line], p.Data[row*line:])
	}
}

func (c blockCodec) fingerprint(w *worker, v *view) error {
	if v.even.Format != c.format {
		return fmt.Errorf("read back as %v, written as %v", v.even.Format, c.format)
	}
	b := w.bytes(2, v.rows*c.line(v.cols))
	c.rows(b, v)
	w.sum(b)
	return nil
}

// float32s appends little-endian numbers.
func float32s(dst []byte, v []float32) []byte {
	n := len(dst)
	dst = append(dst, make([]byte, 4*len(v))...)
	dtype.EncodeF32(dst[n:], v)
	return dst
}

// tag adds a number to a checksum.
func (w *worker) tag(n int) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	w.sum(b[:])
}
