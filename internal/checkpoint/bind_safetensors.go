package checkpoint

import (
	"fmt"
	"slices"

	"hearth/internal/dtype"
)

// openAILayer reads the names of OpenAI's own file: q, k and v in one matrix, experts in MXFP4.
func (b *binder) openAILayer(n int) *Layer {
	c, p := b.cfg, fmt.Sprintf("block.%d.", n)
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	l := &Layer{
		AttnNorm: b.vector(p+"attn.norm.scale", c.Hidden),
		O:        b.linear(p+"attn.out", RoleAttention, c.Hidden, q),
		Sinks:    b.vector(p+"attn.sinks", c.Heads),
		MLPNorm:  b.vector(p+"mlp.norm.scale", c.Hidden),
		Router:   b.linear(p+"mlp.gate", RoleRouter, c.Experts, c.Hidden),
		GateUp: Experts{
			Weight: b.mxfp4(p+"mlp.mlp1_weight.blocks", p+"mlp.mlp1_weight.scales", 2*c.Intermediate, c.Hidden),
			Bias:   b.vector(p+"mlp.mlp1_bias", c.Experts, 2*c.Intermediate),
		},
		Down: Experts{
			Weight: b.mxfp4(p+"mlp.mlp2_weight.blocks", p+"mlp.mlp2_weight.scales", c.Hidden, c.Intermediate),
			Bias:   b.vector(p+"mlp.mlp2_bias", c.Experts, c.Hidden),
		},
	}
	qkv := b.linear(p+"attn.qkv", RoleAttention, q+2*kv, c.Hidden)
	b.splitQKV(qkv.Weight, qkv.Bias, l)
	return l
}

// hfLayer reads the names of Transformers and of those who follow it; layouts differ in the experts alone.
func (b *binder) hfLayer(n int) *Layer {
	c, p := b.cfg, fmt.Sprintf("layers.%d.", n)
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	l := &Layer{
		AttnNorm: b.vector(p+"input_layernorm.weight", c.Hidden),
		Q:        b.linear(p+"self_attn.q_proj", RoleAttention, q, c.Hidden),
		K:        b.linear(p+"self_attn.k_proj", RoleAttention, kv, c.Hidden),
		V:        b.linear(p+"self_attn.v_proj", RoleAttention, kv, c.Hidden),
		O:        b.linear(p+"self_attn.o_proj", RoleAttention, c.Hidden, q),
		Sinks:    b.vector(p+"self_attn.sinks", c.Heads),
		MLPNorm:  b.vector(p+"post_attention_layernorm.weight", c.Hidden),
		Router:   b.linear(p+"mlp.router", RoleRouter, c.Experts, c.Hidden),
	}
	p += "mlp.experts."
	switch b.layout {
	case HFMXFP4:
		l.GateUp.Weight = b.mxfp4(p+"gate_up_proj_blocks", p+"gate_up_proj_scales", 2*c.Intermediate, c.Hidden)
		l.Down.Weight = b.mxfp4(p+"down_proj_blocks", p+"down_proj_scales", c.Hidden, c.Intermediate)
		b.fusedBiases(p, l)
	case HFDense, FusedBNB:
		b.fusedExperts(p, l)
		b.fusedBiases(p, l)
	case PerExpertBNB, PerExpertDense:
		l.GateUp = b.perExpert(p+"gate_up_projs.%d", 2*c.Intermediate, c.Hidden)
		l.Down = b.perExpert(p+"down_projs.%d", c.Hidden, c.Intermediate)
		b.noMoreExperts(p + "gate_up_projs.%d.weight")
	case SplitExperts:
		b.splitExperts(p, l)
		b.noMoreExperts(p + "%d.down_proj.weight")
	}
	return l
}

func (b *binder) fusedBiases(p string, l *Layer) {
	c := b.cfg
	l.GateUp.Bias = b.vector(p+"gate_up_proj_bias", c.Experts, 2*c.Intermediate)
	l.Down.Bias = b.vector(p+"down_proj_bias", c.Experts, c.Hidden)
}

// fusedExperts reads rank-3 experts. Transformers stores them [experts, in, out]; some tools have written
// [experts, out, in]. gate_up is not square, so its shape tells which; down usually is square, so it follows gate_up.
// Where even gate_up is square (hidden = 2*intermediate), Transformers' orientation is assumed and noted. A 4-bit tensor
// states its shape (fusedTransposed).
func (b *binder) fusedExperts(p string, l *Layer) {
	c := b.cfg
	transposed, packedTransposed := true, b.fusedTransposed(p)
	if name := p + "gate_up_proj"; b.store.isQuantised(name) {
		l.GateUp.Weight = b.fusedQuantised(name, 2*c.Intermediate, c.Hidden, packedTransposed)
	} else if t := b.get(name); t != nil {
		transposed = b.orientation(t)
		l.GateUp.Weight = b.expertPlanes(t, 2*c.Intermediate, c.Hidden, transposed)
	}
	if name := p + "down_proj"; b.store.isQuantised(name) {
		l.Down.Weight = b.fusedQuantised(name, c.Hidden, c.Intermediate, packedTransposed)
	} else if transposed {
		t := b.shaped(name, c.Experts, c.Intermediate, c.Hidden)
		l.Down.Weight = b.expertPlanes(t, c.Hidden, c.Intermediate, true)
	} else {
		t := b.shaped(name, c.Experts, c.Hidden, c.Intermediate)
		l.Down.Weight = b.expertPlanes(t, c.Hidden, c.Intermediate, false)
	}
}

// orientation says whether gate_up is stored [experts, in, out].
func (b *binder) orientation(t *tensor) (transposed bool) {
	c := b.cfg
	in, out := c.Hidden, 2*c.Intermediate
	switch is := func(shape ...int) bool { return slices.Equal(t.shape, shape) }; {
	case is(c.Experts, in, out):
		if in == out {
			b.note("gate_up_proj is square, so its shape does not tell its orientation: Transformers' [experts, in, out] is assumed")
		}
		return true
	case is(c.Experts, out, in):
		b.note("gate_up_proj is stored [experts, out, in], not in Transformers' orientation: down_proj is read the same way")
		return false
	}
	b.fail(t, "shape %v, but %s for [%d %d %d]", t.shape, b.asks, c.Experts, in, out)
	return false
}

// perExpert reads one linear layer per expert.
func (b *binder) perExpert(pattern string, rows, cols int) Experts {
	var x Experts
	for e := 0; e < b.cfg.Experts && b.err == nil; e++ {
		part := b.linear(fmt.Sprintf(pattern, e), RoleExperts, rows, cols)
		x.Weight.Even = append(x.Weight.Even, part.Weight)
		x.Bias = append(x.Bias, part.Bias...)
	}
	return x
}

// splitExperts reads experts.K.{gate,up,down}_proj, or experts.K.gate_up_proj with interleaved rows.
func (b *binder) splitExperts(p string, l *Layer) {
	c := b.cfg
	l.Down = b.perExpert(p+"%d.down_proj", c.Hidden, c.Intermediate)
	if b.store.has(p + "0.gate_up_proj.weight") {
		l.GateUp = b.perExpert(p+"%d.gate_up_proj", 2*c.Intermediate, c.Hidden)
		return
	}
	gate := b.perExpert(p+"%d.gate_proj", c.Intermediate, c.Hidden)
	up := b.perExpert(p+"%d.up_proj", c.Intermediate, c.Hidden)
	if b.err != nil {
		return
	}
	l.GateUp = Experts{
		Weight: dtype.Stack{Even: gate.Weight.Even, Odd: up.Weight.Even},
		Bias:   interleave(gate.Bias, up.Bias),
	}
}

// noMoreExperts refuses a set with more experts than the configuration has.
func (b *binder) noMoreExperts(pattern string) {
	if t := b.store.byName[fmt.Sprintf(pattern, b.cfg.Experts)]; t != nil {
		b.fail(t, "config.json has only %d experts (num_local_experts)", b.cfg.Experts)
	}
}
