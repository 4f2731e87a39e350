package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"hearth/internal/dtype"
)

// quantJSON is the quant state that bitsandbytes stores beside a 4-bit tensor.
type quantJSON struct {
	Type            string   `json:"quant_type"`
	Block           int      `json:"blocksize"`
	DType           string   `json:"dtype"`
	Shape           []int    `json:"shape"`
	NestedBlock     int      `json:"nested_blocksize"`
	NestedDType     string   `json:"nested_dtype"`
	NestedOffsetRaw *float64 `json:"nested_offset"`
}

// parseQuantState reads and checks the JSON of a quant state, apart from what needs the tensor.
func parseQuantState(b []byte) (*quantJSON, error) {
	q := &quantJSON{}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(q); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("data after the JSON object")
	}
	switch {
	case q.Type != "nf4" && q.Type != "fp4":
		return nil, fmt.Errorf("quant_type %q is not nf4 or fp4", q.Type)
	case !isBlockSize(q.Block):
		return nil, fmt.Errorf("blocksize %d is not a power of two from 32 to 4096", q.Block)
	case len(q.Shape) != 2 && len(q.Shape) != 3:
		return nil, fmt.Errorf("shape %v has %d axes, want 2 or 3", q.Shape, len(q.Shape))
	case roundFormat(q.DType) == dtype.Invalid:
		return nil, fmt.Errorf("dtype %q is not bfloat16, float16 or float32", q.DType)
	case q.NestedBlock == 0 && q.NestedOffsetRaw != nil:
		return nil, errors.New("nested_offset without nested_blocksize")
	case q.NestedBlock == 0:
		return q, nil
	case !isBlockSize(q.NestedBlock):
		return nil, fmt.Errorf("nested_blocksize %d is not a power of two from 32 to 4096", q.NestedBlock)
	case q.NestedDType != "float32":
		return nil, fmt.Errorf("nested_dtype %q is not float32", q.NestedDType)
	case q.NestedOffsetRaw != nil && math.Abs(*q.NestedOffsetRaw) > math.MaxFloat32:
		return nil, fmt.Errorf("nested_offset %v is no float32", *q.NestedOffsetRaw)
	}
	return q, nil
}

func isBlockSize(n int) bool { return n >= 32 && n <= 4096 && n&(n-1) == 0 }

func (q *quantJSON) nested() bool { return q.NestedBlock != 0 }

func (q *quantJSON) format() dtype.Format {
	if q.Type == "fp4" {
		return dtype.FP4
	}
	return dtype.NF4
}

func roundFormat(name string) dtype.Format {
	switch name {
	case "bfloat16":
		return dtype.BF16
	case "float16":
		return dtype.F16
	case "float32":
		return dtype.F32
	}
	return dtype.Invalid
}

// bnb is a checked bitsandbytes 4-bit tensor.
type bnb struct {
	weight *tensor
	state  *quantJSON
	quant  dtype.Quant
	sides  []*tensor

	offsets []float32 // of a fused tensor, an expert each, in place of nested_offset
}

// bnbTensor reads a 4-bit tensor with its side tensors and checks their lengths and tables against count elements.
// It returns nil after a failure.
func (b *binder) bnbTensor(name string, count int) *bnb {
	kind := "nf4"
	if b.store.has(name + quantState + "fp4") {
		kind = "fp4"
	}
	w, st := b.get(name), b.get(name+quantState+kind)
	if b.err != nil {
		return nil
	}
	q, err := parseQuantState(st.data)
	if err == nil && q.Type != kind {
		err = fmt.Errorf("quant_type %q", q.Type)
	}
	if err != nil {
		b.fail(st, "%v", err)
		return nil
	}
	// The bytes count, not their label: bnb_4bit_quant_storage may call them BF16 or F32.
	if len(w.data) != (count+1)/2 {
		b.fail(w, "%d bytes, want %d for shape %v in 4 bits", len(w.data), (count+1)/2, q.Shape)
		return nil
	}
	t := &bnb{weight: w, state: q, sides: []*tensor{st}}
	t.quant = dtype.Quant{Block: q.Block, Round: roundFormat(q.DType)}
	b.codeTable(name, t)
	blocks := (count + q.Block - 1) / q.Block
	if own := q.NestedOffsetRaw == nil; q.nested() && own && len(q.Shape) == 3 && b.store.has(name+offsetsSuffix) {
		b.expertOffsets(name, t, blocks)
	} else if q.nested() && own {
		b.fail(st, "of nested_blocksize and nested_offset one is missing")
	} else if q.nested() {
		b.nestedScales(name, t, blocks)
	} else if a := b.side(name+".absmax", t, "F32", blocks); a != nil {
		t.quant.Absmax = a.data
	}
	if b.err != nil {
		return nil
	}
	return t
}

// side finds a side tensor of a given type and length.
func (b *binder) side(name string, t *bnb, stored string, n int) *tensor {
	s := b.get(name)
	if s == nil {
		return nil
	}
	if s.stored != stored || !slices.Equal(s.shape, []int{n}) {
		b.fail(s, "%s of shape %v, want %s of shape [%d] (quant state of shape %v, blocks of %d)",
			s.stored, s.shape, stored, n, t.state.Shape, t.state.Block)
		return nil
	}
	t.sides = append(t.sides, s)
	return s
}

// codeTable compares the stored table of the sixteen codes with bitsandbytes' own, which is what devices use.
func (b *binder) codeTable(name string, t *bnb) {
	s := b.side(name+".quant_map", t, "F32", 16)
	if s == nil {
		return
	}
	table, err := dtype.DecodeVector(dtype.F32, s.data)
	if err == nil {
		err = dtype.CheckCodeMap(t.state.format(), table)
	}
	if err != nil {
		b.fail(s, "%v", err)
	}
}

// nestedScales reads the parts of double quantisation.
func (b *binder) nestedScales(name string, t *bnb, blocks int) {
	q := t.state
	codes := b.side(name+".absmax", t, "U8", blocks)
	nested := b.side(name+".nested_absmax", t, "F32", (blocks+q.NestedBlock-1)/q.NestedBlock)
	table := b.side(name+".nested_quant_map", t, "F32", 256)
	if b.err != nil {
		return
	}
	t.quant.Codes, t.quant.Nested, t.quant.NestedBlock = codes.data, nested.data, q.NestedBlock
	t.quant.Offset = float32(*q.NestedOffsetRaw)
	t.quant.Map = b.nestedMap(table)
}

// nestedMap decodes the table of 8-bit scales. Tables with the same bytes share one copy.
func (b *binder) nestedMap(t *tensor) *[256]float32 {
	if m := b.maps[string(t.data)]; m != nil {
		return m
	}
	v, err := dtype.DecodeVector(dtype.F32, t.data)
	if err == nil {
		err = dtype.CheckNestedMap(v)
	}
	if err != nil {
		b.fail(t, "%v", err)
		return nil
	}
	m := (*[256]float32)(v)
	b.maps[string(t.data)] = m
	return m
}

// claimBNB claims a 4-bit tensor and its side tensors.
func (b *binder) claimBNB(t *bnb, role Role) {
	b.claim(t.weight, role, t.state.format(), t.state.Shape...)
	for _, s := range t.sides {
		b.claim(s, role, t.state.format())
	}
}

// quantised gives a 4-bit weight [rows, cols]. A packed tensor of shape [1, n] is bitsandbytes' old way to say that
// the stored matrix is the transpose.
func (b *binder) quantised(name string, role Role, rows, cols int) dtype.Plane {
	t := b.bnbTensor(name, rows*cols)
	if t == nil {
		return dtype.Plane{}
	}
	packed := t.weight.shape
	transposed := len(packed) == 2 && packed[0] == 1 && packed[1] != 1
	want := []int{rows, cols}
	if transposed {
		want = []int{cols, rows}
	}
	if !slices.Equal(t.state.Shape, want) {
		b.fail(t.weight, "the quant state has shape %v, but %s for %v", t.state.Shape, b.asks, want)
		return dtype.Plane{}
	}
	b.claimBNB(t, role)
	p := dtype.Plane{
		Format: t.state.format(), Rows: rows, Cols: cols, Transposed: transposed, Data: t.weight.data, Quant: &t.quant,
	}
	if err := p.Check(); err != nil {
		b.fail(t.weight, "%v", err)
	}
	b.visited(t.weight, -1, p)
	return p
}
