package convert

import (
	"fmt"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
)

// hf spells the names of Transformers: hf-mxfp4, hf-bf16, unsloth-bnb, fused-nf4.
func (b *builder) hf() *dialect {
	d := &dialect{
		embedding: "model.embed_tokens.weight", head: "lm_head.weight", norm: "model.norm.weight", layer: "model.layers.%d.",
		attnNorm: "input_layernorm.weight", sinks: "self_attn.sinks", mlpNorm: "post_attention_layernorm.weight",
		q: "self_attn.q_proj", k: "self_attn.k_proj", v: "self_attn.v_proj", o: "self_attn.o_proj", router: "mlp.router",
		experts: func(prefix string, n int) {
			b.hfExperts(prefix+"mlp.experts.gate_up_proj", weight{gateUp, n})
			b.hfExperts(prefix+"mlp.experts.down_proj", weight{down, n})
		},
	}
	if b.plan.opt.To == UnslothBNB {
		d.router = "mlp.router.linear" // Unsloth's module has one level more
	}
	return d
}

// hfExperts plans a projection of the experts in the form of the target.
func (b *builder) hfExperts(name string, w weight) {
	it, s := b.newItem(w)
	if it == nil {
		return
	}
	if b.plan.opt.To == UnslothBNB {
		b.perExpert(name+"s.%d", it, s)
		return
	}
	n := s.Experts()
	rows, cols := s.Shape()
	b.vector(name+"_bias", w.layer, layerVector(w.layer, expertsBias(w.which)), n, rows)
	switch c := it.codec.(type) {
	case mxCodec:
		b.mxTensors(it, s, name+"_blocks", name+"_scales")
	case floatCodec:
		b.add(it, n, rows, cols, []*Tensor{b.encoded(name, it, n, cols, rows)})
	case bnbCodec:
		b.bnbTensors(it, c, []string{name}, s)
	}
}

// perExpert plans one linear layer for each expert.
func (b *builder) perExpert(pattern string, it *item, s *dtype.Stack) {
	rows, cols := s.Shape()
	bias := expertsBias(it.weight.which)
	names := make([]string, s.Experts())
	for e := range names {
		name := fmt.Sprintf(pattern, e)
		names[e] = name + ".weight"
		b.vector(name+".bias", it.weight.layer, layerVector(it.weight.layer, func(l *checkpoint.Layer) []float32 {
			return bias(l)[e*rows : (e+1)*rows]
		}), rows)
	}
	switch c := it.codec.(type) {
	case bnbCodec:
		b.bnbTensors(it, c, names, s)
	case floatCodec:
		var list []*Tensor
		for _, name := range names {
			list = append(list, b.encoded(name, it, rows, cols))
		}
		b.add(it, len(names), rows, cols, list)
	}
}

// bnbTensors plans bitsandbytes tensors, one for each matrix or one for all of them, with the tensors beside them.
func (b *builder) bnbTensors(it *item, c bnbCodec, names []string, s *dtype.Stack) {
	rows, cols := s.Shape()
	n, each := s.Experts(), s.Experts()/len(names)
	size := rows * cols
	if size%2 != 0 || c.fused && size%c.block != 0 {
		b.fail(fmt.Errorf("%v: a matrix of %d values is not a whole number of blocks of %d, so that the experts cannot be put one after another", it.weight, size, c.block))
		return
	}
	blocks := (size + c.block - 1) / c.block
	shape := []int{rows, cols}
	if c.fused {
		shape = []int{n, rows, cols}
		if c.transposed {
			shape = []int{n, cols, rows}
		}
	}
	table := dtype.NF4Table
	state := ".quant_state.bitsandbytes__nf4"
	if c.format == dtype.FP4 {
		table, state = dtype.FP4Table, ".quant_state.bitsandbytes__fp4"
	}
	quantMap := float32s(nil, table[:])
	out := make([][]*Tensor, 4)
	for i, name := range names {
		out[bnbCodes] = append(out[bnbCodes], b.tensor(name, "U8", 1, it.how(), each*size/2, 1))
		b.constant(name+".quant_map", "F32", quantMap, 16)
		if c.nested == 0 {
			out[bnbScales] = append(out[bnbScales], b.tensor(name+".absmax", "F32", 4, it.scales(s), each*blocks))
			text := c.quantState(shape, nil)
			b.constant(name+state, "U8", text, len(text))
			continue
		}
		inner := (blocks + c.nested - 1) / c.nested
		out[bnbScales] = append(out[bnbScales], b.tensor(name+".absmax", "U8", 1, it.scales(s), each*blocks))
		out[bnbNested] = append(out[bnbNested], b.tensor(name+".nested_absmax", "F32", 4, it.scales(s), each*inner))
		table := b.nestedTable(&s.Even[i], it.exact)
		b.constant(name+".nested_quant_map", "F32", table, len(table)/4)
		if c.fused {
			out[bnbOffset] = append(out[bnbOffset], b.tensor(name+offsetsSuffix, "F32", 4, it.scales(s), n))
			text := c.quantState(shape, nil)
			b.constant(name+state, "U8", text, len(text))
			continue
		}
		room := c.stateRoom(shape)
		if it.exact {
			room = len(c.quantState(shape, &s.Even[i].Quant.Offset))
		}
		out[bnbOffset] = append(out[bnbOffset], b.tensor(name+state, "U8", 1, it.scales(s), room))
	}
	if c.nested == 0 {
		out = out[:bnbNested]
	}
	b.add(it, n, rows, cols, out...)
}

// offsetsSuffix names a tensor of one nested offset for each expert of a fused tensor with nested scales. It stands for
// the quant state's nested_offset, which has room for one; bitsandbytes, which does not know it, refuses such a tensor.
const offsetsSuffix = ".nested_offsets"

// scales says how the scales of an item are made.
func (it *item) scales(s *dtype.Stack) string {
	if c := it.codec.(bnbCodec); it.exact && c.nested == 0 && s.Even[0].Quant.Codes != nil {
		return "un-nested"
	}
	return it.how()
}

// nestedTable gives the table of nested scales: the source's where its scales are kept.
func (b *builder) nestedTable(p *dtype.Plane, kept bool) []byte {
	m := &dtype.NestedMap
	if kept {
		m = p.Quant.Map
	}
	if b.maps == nil {
		b.maps = map[[256]float32][]byte{}
	}
	if b.maps[*m] == nil {
		b.maps[*m] = float32s(nil, m[:])
	}
	return b.maps[*m]
}
