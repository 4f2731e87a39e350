package convert

import (
	"fmt"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
)

// hf plans the names of Transformers: hf-mxfp4, hf-bf16, unsloth-bnb, fused-nf4.
func (b *builder) hf(c *checkpoint.Checkpoint) error {
	cfg := b.cfg
	b.hfMatrix("lm_head.weight", weight{which: head})
	b.hfMatrix("model.embed_tokens.weight", weight{which: embedding})
	for n := range cfg.Layers {
		b.hfLayer(n)
	}
	b.vector("model.norm.weight", -1, func(s *parts) ([]float32, error) { return s.src.FinalNorm() }, cfg.Hidden)
	if b.err != nil {
		return b.err
	}
	if err := b.hfFiles(c); err != nil {
		return err
	}
	b.plan.shard("model")
	return nil
}

func (b *builder) hfLayer(n int) {
	if b.err != nil {
		return
	}
	cfg, p := b.cfg, fmt.Sprintf("model.layers.%d.", n)
	v := func(name string, f func(l *checkpoint.Layer) []float32, shape ...int) {
		b.vector(p+name, n, layerVector(n, f), shape...)
	}
	v("input_layernorm.weight", func(l *checkpoint.Layer) []float32 { return l.AttnNorm }, cfg.Hidden)
	for _, x := range []struct {
		name  string
		which which
		rows  int
	}{
		{"q_proj", projQ, cfg.Heads * cfg.HeadDim}, {"k_proj", projK, cfg.KVHeads * cfg.HeadDim},
		{"v_proj", projV, cfg.KVHeads * cfg.HeadDim}, {"o_proj", projO, cfg.Hidden},
	} {
		b.hfMatrix(p+"self_attn."+x.name+".weight", weight{x.which, n})
		v("self_attn."+x.name+".bias", func(l *checkpoint.Layer) []float32 { return linear(l, x.which).Bias }, x.rows)
	}
	v("self_attn.sinks", func(l *checkpoint.Layer) []float32 { return l.Sinks }, cfg.Heads)
	v("post_attention_layernorm.weight", func(l *checkpoint.Layer) []float32 { return l.MLPNorm }, cfg.Hidden)
	routerName := "mlp.router."
	if b.plan.opt.To == UnslothBNB {
		routerName = "mlp.router.linear." // Unsloth's module has one level more
	}
	v(routerName+"weight", routerWeight, cfg.Experts, cfg.Hidden)
	v(routerName+"bias", func(l *checkpoint.Layer) []float32 { return l.Router.Bias }, cfg.Experts)
	b.hfExperts(p+"mlp.experts.", n, gateUp)
	b.hfExperts(p+"mlp.experts.", n, down)
}

// routerWeight decodes the router's matrix: it is small and always kept exactly, as a vector is.
func routerWeight(l *checkpoint.Layer) []float32 {
	p := &l.Router.Weight
	v := make([]float32, p.Rows*p.Cols)
	p.DecodeRows(v, 0, p.Rows)
	return v
}

// hfMatrix plans a dense matrix [out, in].
func (b *builder) hfMatrix(name string, w weight) {
	if b.err != nil {
		return
	}
	s, err := b.plan.src.stack(w)
	if err != nil {
		b.fail(err)
		return
	}
	p := &s.Even[0]
	c := b.dense(w, p)
	it := &item{weight: w, codec: c.codec, exact: c.exact, from: formatName(p), to: c.to}
	if bnb, ok := c.codec.(bnbCodec); ok {
		b.bnbTensors(it, bnb, []string{name}, s)
		return
	}
	f := c.codec.(floatCodec).format
	b.add(it, 1, p.Rows, p.Cols, []*Tensor{b.floatTensor(name, f, it.how(), p.Rows, p.Cols)})
}

// how says in a few words how an item is made.
func (it *item) how() string {
	switch {
	case it.exact && it.from == it.to:
		return "copied"
	case it.exact:
		return "exact from " + it.from
	}
	return "rounded from " + it.from
}

// hfExperts plans a projection of the experts in the form of the target.
func (b *builder) hfExperts(prefix string, n int, which which) {
	if b.err != nil {
		return
	}
	w := weight{which, n}
	name, bias := "gate_up_proj", func(l *checkpoint.Layer) []float32 { return l.GateUp.Bias }
	if which == down {
		name, bias = "down_proj", func(l *checkpoint.Layer) []float32 { return l.Down.Bias }
	}
	s, err := b.plan.src.stack(w)
	if err != nil {
		b.fail(err)
		return
	}
	c, err := b.experts(w, s)
	if err != nil {
		b.fail(err)
		return
	}
	rows, cols := s.Shape()
	e := s.Experts()
	it := &item{weight: w, codec: c.codec, exact: c.exact, from: formatName(&s.Even[0]), to: c.to}
	if b.plan.opt.To == UnslothBNB {
		b.perExpert(prefix+name+"s.%d", it, s, bias)
		return
	}
	b.vector(prefix+name+"_bias", n, layerVector(n, bias), e, rows)
	switch c := c.codec.(type) {
	case mxCodec:
		b.add(it, e, rows, cols,
			[]*Tensor{b.tensor(prefix+name+"_blocks", "U8", 1, it.how(), e, rows, cols/32, 16)},
			[]*Tensor{b.tensor(prefix+name+"_scales", "U8", 1, it.how(), e, rows, cols/32)})
	case floatCodec:
		b.add(it, e, rows, cols, []*Tensor{b.floatTensor(prefix+name, c.format, it.how(), e, cols, rows)})
	case bnbCodec:
		b.bnbTensors(it, c, []string{prefix + name}, s)
	}
}

// perExpert plans one linear layer for each expert.
func (b *builder) perExpert(pattern string, it *item, s *dtype.Stack, bias func(l *checkpoint.Layer) []float32) {
	rows, cols := s.Shape()
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
			list = append(list, b.floatTensor(name, c.format, it.how(), rows, cols))
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
