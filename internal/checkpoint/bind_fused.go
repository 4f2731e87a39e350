package checkpoint

import (
	"math"
	"slices"

	"hearth/internal/dtype"
)

// offsetsSuffix names the tensor of one nested offset an expert that stands for nested_offset, which has room for one,
// in a fused tensor that keeps the experts' own 8-bit scales. Hearth writes it; bitsandbytes refuses such a tensor.
const offsetsSuffix = ".nested_offsets"

// fusedTransposed says whether the 4-bit experts of a layer are stored [experts, in, out], as bitsandbytes makes them of
// Transformers' parameters, or [experts, out, in], as Hearth fuses an expert's linear layers. The shapes in the quant
// states tell: gate_up is square where hidden = 2*intermediate, down where hidden = intermediate, never both. A tensor
// of neither shape is refused where it is read.
func (b *binder) fusedTransposed(p string) bool {
	c := b.cfg
	if c.Hidden != 2*c.Intermediate {
		return !slices.Equal(b.fusedShape(p+"gate_up_proj"), []int{c.Experts, 2 * c.Intermediate, c.Hidden})
	}
	return !slices.Equal(b.fusedShape(p+"down_proj"), []int{c.Experts, c.Hidden, c.Intermediate})
}

// fusedShape is the shape in the quant state of a tensor, nil if it has none.
func (b *binder) fusedShape(name string) []int {
	for _, kind := range []string{"nf4", "fp4"} {
		if t := b.store.byName[name+quantState+kind]; t != nil {
			if q, err := parseQuantState(t.data); err == nil {
				return q.Shape
			}
		}
	}
	return nil
}

// fusedQuantised gives the experts of one 4-bit tensor. It was quantised as a flat array, [experts, in, out], or it is
// the experts' own tensors one after another, [experts, out, in]; then every expert may have an offset of its own.
func (b *binder) fusedQuantised(name string, rows, cols int, transposed bool) dtype.Stack {
	n, size := b.cfg.Experts, rows*cols
	t := b.bnbTensor(name, n*size)
	if t == nil {
		return dtype.Stack{}
	}
	want := []int{n, rows, cols}
	if transposed {
		want = []int{n, cols, rows}
	}
	q := t.state
	switch {
	case !slices.Equal(q.Shape, want):
		b.fail(t.weight, "the quant state has shape %v, but %s for %v, by the shape of its sister projection", q.Shape, b.asks, want)
	case size%q.Block != 0 || size%2 != 0:
		b.fail(t.weight, "an expert of %d elements is not a whole number of blocks of %d", size, q.Block)
	case len(t.weight.shape) == 2 && t.weight.shape[0] == 1 && t.weight.shape[1] != 1:
		b.fail(t.weight, "packed shape %v: transposed storage of fused experts is not supported", t.weight.shape)
	}
	if b.err != nil {
		return dtype.Stack{}
	}
	b.claimBNB(t, RoleExperts)
	planes := make([]dtype.Plane, n)
	for e := range planes {
		planes[e] = dtype.Plane{
			Format: q.format(), Rows: rows, Cols: cols, Transposed: transposed, Quant: t.expertScales(e, size/q.Block),
			Data: t.weight.data[e*size/2 : (e+1)*size/2 : (e+1)*size/2],
		}
	}
	b.visited(t.weight, 0, planes...)
	return dtype.Stack{Even: planes}
}

// expertScales gives the scales of expert e, which has so many blocks.
func (t *bnb) expertScales(e, blocks int) *dtype.Quant {
	q := t.quant
	if t.offsets == nil {
		q.First = e * blocks
		return &q
	}
	inner := (blocks + q.NestedBlock - 1) / q.NestedBlock
	q.Codes = q.Codes[e*blocks : (e+1)*blocks : (e+1)*blocks]
	q.Nested = q.Nested[4*e*inner : 4*(e+1)*inner : 4*(e+1)*inner]
	q.Offset = t.offsets[e]
	return &q
}

// expertOffsets reads the 8-bit scales of a fused tensor whose experts were double-quantised one by one: codes for all
// blocks, then scales of scales that begin anew with each expert.
func (b *binder) expertOffsets(name string, t *bnb, blocks int) {
	q, n := t.state, b.cfg.Experts
	if blocks%n != 0 {
		b.fail(t.weight, "%d blocks are not the same number for each of %d experts", blocks, n)
		return
	}
	inner := (blocks/n + q.NestedBlock - 1) / q.NestedBlock
	codes := b.side(name+".absmax", t, "U8", blocks)
	nested := b.side(name+".nested_absmax", t, "F32", n*inner)
	table := b.side(name+".nested_quant_map", t, "F32", 256)
	offsets := b.side(name+offsetsSuffix, t, "F32", n)
	if b.err != nil {
		return
	}
	var err error
	if t.offsets, err = dtype.DecodeVector(dtype.F32, offsets.data); err != nil {
		b.fail(offsets, "%v", err)
		return
	}
	for e, x := range t.offsets {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			b.fail(offsets, "the offset of expert %d is %v", e, x)
			return
		}
	}
	t.quant.Codes, t.quant.Nested, t.quant.NestedBlock = codes.data, nested.data, q.NestedBlock
	t.quant.Map = b.nestedMap(table)
}
