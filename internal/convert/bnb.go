package convert

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"hearth/internal/dtype"
)

const (
	bnbBlock    = 64  // elements under one scale, bitsandbytes' own default
	nestedBlock = 256 // scales under one scale of scales
)

// bnbCodec writes bitsandbytes' 4-bit tensors: a matrix is quantised as one flat array. The item's tensors are packed
// codes, scales and, where those are nested, the scales of scales and the place of the offset: the quant state of one
// expert, or a number in a tensor of all experts' offsets.
type bnbCodec struct {
	format     dtype.Format // NF4, or FP4 where the source is
	block      int
	nested     int // block size of the second quantisation; 0: float32 scales
	round      dtype.Format
	transposed bool // copies of a tensor whose blocks run along the output axis
	fused      bool // one tensor holds all experts
}

// The indices of an item's tensors.
const (
	bnbCodes = iota
	bnbScales
	bnbNested
	bnbOffset
)

func (c bnbCodec) chunk(rows, _ int) int { return rows }

// blocks is the number of scales of a matrix.
func (c bnbCodec) blocks(v *view) int { return (v.rows*v.cols + c.block - 1) / c.block }

// copies says whether the view's codes are the ones to write.
func (c bnbCodec) copies(v *view) bool {
	same := func(p *dtype.Plane) bool { return p == nil || p.Format == c.format && p.Transposed == c.transposed }
	return same(v.even) && same(v.odd)
}

// write encodes a whole matrix. Codes of the same format are copied; their scales are un-nested, kept or nested anew as
// the codec says. Everything else is quantised.
func (c bnbCodec) write(w *worker, it *item, v *view, e, _ int) (view, error) {
	absmax := w.floats(c.blocks(v))
	var codes []byte
	var err error
	if c.copies(v) {
		codes = w.codesOf(v)
		err = scalesOf(absmax, v)
	} else {
		codes = w.bytes(0, v.rows*v.cols/2)
		err = c.quantise(w, codes, absmax, v)
	}
	if err == nil {
		err = w.put(it, bnbCodes, e, 0, codes)
	}
	if err != nil {
		return view{}, err
	}
	q := &dtype.Quant{Block: c.block, Round: c.round}
	if c.nested > 0 {
		err = c.putNested(w, it, v, e, q, absmax)
	} else {
		q.Absmax = w.bytes(1, 4*len(absmax))
		dtype.EncodeF32(q.Absmax, absmax)
		err = w.put(it, bnbScales, e, 0, q.Absmax)
	}
	if err != nil || it.exact {
		return view{}, err
	}
	return planeView(&dtype.Plane{Format: c.format, Rows: v.rows, Cols: v.cols, Transposed: c.transposed, Data: codes, Quant: q}), nil
}

// quantise fills codes and scales from the view's values, some rows at a time.
func (c bnbCodec) quantise(w *worker, codes []byte, absmax []float32, v *view) error {
	quantise := dtype.QuantizeNF4
	if c.format == dtype.FP4 {
		quantise = dtype.QuantizeFP4
	}
	step := chunkOf(v.rows, v.cols)
	for step < v.rows && step*v.cols%c.block != 0 { // whole blocks
		step++
	}
	for first := 0; first < v.rows; first += step {
		n := min(step, v.rows-first)
		from, to := first*v.cols, (first+n)*v.cols
		if err := quantise(codes[from/2:to/2], absmax[from/c.block:(to+c.block-1)/c.block], w.decode(v, first, n), c.block); err != nil {
			return err
		}
	}
	return nil
}

// putNested writes 8-bit scales: the source's own where it has them, else nested anew. q becomes what was written.
func (c bnbCodec) putNested(w *worker, it *item, v *view, e int, q *dtype.Quant, absmax []float32) error {
	if own := nestedOf(v); own != nil && it.exact {
		*q = *own
	} else {
		codes, nested, offset, err := dtype.QuantizeScales(absmax, c.nested)
		if err != nil {
			return err
		}
		q.Codes, q.Nested, q.NestedBlock, q.Offset, q.Map = codes, float32s(nil, nested), c.nested, offset, &dtype.NestedMap
	}
	if err := w.put(it, bnbScales, e, 0, q.Codes); err != nil {
		return err
	}
	if err := w.put(it, bnbNested, e, 0, q.Nested); err != nil {
		return err
	}
	if c.fused {
		return w.put(it, bnbOffset, e, 0, float32s(nil, []float32{q.Offset}))
	}
	state := c.quantState([]int{v.rows, v.cols}, &q.Offset)
	room := int(it.out[bnbOffset][e].Bytes)
	if len(state) > room {
		return fmt.Errorf("quant state %s does not fit its %d bytes", state, room)
	}
	return w.put(it, bnbOffset, e, 0, append(state, strings.Repeat(" ", room-len(state))...))
}

// codesOf gives the packed codes of a view in the order of its rows.
func (w *worker) codesOf(v *view) []byte {
	if p := v.plane(); p != nil {
		return p.Data
	}
	line := v.cols / 2
	b := w.bytes(0, v.rows*line)
	for r := range v.rows {
		p, row := v.row(r)
		copy(b[r*line:(r+1)*line], p.Data[row*line:])
	}
	return b
}

// scalesOf un-nests the scales of a view's blocks in the order of its rows.
func scalesOf(dst []float32, v *view) error {
	if p := v.plane(); p != nil {
		for i := range dst {
			dst[i] = p.Quant.Scale(i)
		}
		return nil
	}
	for r := range v.rows {
		p, row := v.row(r)
		if v.cols%p.Quant.Block != 0 {
			return errors.New("blocks straddle rows")
		}
		per := v.cols / p.Quant.Block
		for j := range per {
			dst[r*per+j] = p.Quant.Scale(row*per + j)
		}
	}
	return nil
}

// nestedOf gives the nested scales of a view that is one plane and begins at a block of scales; nil for other views.
func nestedOf(v *view) *dtype.Quant {
	p := v.plane()
	if p == nil || p.Quant == nil || p.Quant.Codes == nil || p.Quant.First != 0 {
		return nil
	}
	return p.Quant
}

// fingerprint covers codes, un-nested scales and what else decides about values.
func (c bnbCodec) fingerprint(w *worker, v *view) error {
	if !c.copies(v) {
		return fmt.Errorf("read back as %v, written as %v", v.even.Format, c.format)
	}
	w.tag(v.even.Quant.Block)
	w.tag(int(v.even.Quant.Round))
	w.sum(w.codesOf(v))
	absmax := w.floats(c.blocks(v))
	if err := scalesOf(absmax, v); err != nil {
		return err
	}
	b := w.bytes(2, 4*len(absmax))
	dtype.EncodeF32(b, absmax)
	w.sum(b)
	return nil
}

// quantState is the JSON that bitsandbytes keeps beside a 4-bit tensor, in the spelling of Python's json.dumps. The
// offset is nil where scales are not nested or where all experts' offsets lie in a tensor of their own.
func (c bnbCodec) quantState(shape []int, offset *float32) []byte {
	kind := "nf4"
	if c.format == dtype.FP4 {
		kind = "fp4"
	}
	dims := make([]string, len(shape))
	for i, n := range shape {
		dims[i] = strconv.Itoa(n)
	}
	s := fmt.Sprintf(`{"quant_type": "%s", "blocksize": %d, "dtype": "%s", "shape": [%s]`, kind, c.block, dtypeName(c.round), strings.Join(dims, ", "))
	if c.nested > 0 {
		s += fmt.Sprintf(`, "nested_blocksize": %d, "nested_dtype": "float32"`, c.nested)
	}
	if offset != nil {
		s += `, "nested_offset": ` + pythonFloat(*offset)
	}
	return []byte(s + "}")
}

// stateRoom is the length of a quant state whose offset is not known yet.
func (c bnbCodec) stateRoom(shape []int) int {
	zero := float32(0)
	const longest = len("-1.1754943508222875e-38")
	return len(c.quantState(shape, &zero)) - len("0.0") + longest
}

func dtypeName(f dtype.Format) string {
	switch f {
	case dtype.F16:
		return "float16"
	case dtype.F32:
		return "float32"
	}
	return "bfloat16"
}

// pythonFloat prints a float32 as Python prints it once it is a double.
func pythonFloat(f float32) string {
	x := float64(f)
	a := math.Abs(x)
	if a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(x, 'e', -1, 64)
	}
	s := strconv.FormatFloat(x, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
