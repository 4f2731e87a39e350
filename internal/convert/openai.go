package convert

import (
	"errors"
	"fmt"
	"slices"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
)

// openAI plans the names of OpenAI's own files: q, k and v in one matrix, experts in MXFP4, one file.
func (b *builder) openAI() error {
	cfg := b.cfg
	if err := openAIHolds(cfg); err != nil {
		return err
	}
	b.hfMatrix("embedding.weight", weight{which: embedding})
	b.hfMatrix("unembedding.weight", weight{which: head})
	b.vector("norm.scale", -1, func(s *parts) ([]float32, error) { return s.src.FinalNorm() }, cfg.Hidden)
	for n := range cfg.Layers {
		b.openAILayer(n)
	}
	if b.err != nil {
		return b.err
	}
	if err := b.openAIFiles(); err != nil {
		return err
	}
	b.plan.opt.ShardBytes = 1 << 62 // gpt-oss-20b's is one file
	b.plan.shard("model")
	return nil
}

// openAIHolds says whether OpenAI's configuration has fields for all that this model needs.
func openAIHolds(c *checkpoint.Config) error {
	lost := func(what string, v any) error {
		return fmt.Errorf("OpenAI's config.json has no field for %s %v: the model would be another one; use hf-mxfp4", what, v)
	}
	switch r := c.Rope; {
	case c.Eps != publishedEps:
		return lost("rms_norm_eps", c.Eps)
	case c.SwigluAlpha != publishedAlpha:
		return lost("swiglu_alpha", c.SwigluAlpha)
	case !alternates(c.Windows):
		return lost("a pattern of sliding layers other than every second from the first:", c.Windows)
	case !r.Yarn:
		return lost("rotary embedding without", "YaRN")
	case r.Truncate:
		return lost("rope_scaling.truncate", true)
	case float64(c.MaxPosition) != float64(r.OriginalContext)*r.Factor:
		return lost("max_position_embeddings", c.MaxPosition)
	}
	return nil
}

// The constants of GPT-OSS that some formats have no field for.
const (
	publishedEps   = float32(1e-5)
	publishedAlpha = float32(1.702)
	publishedLimit = float32(7)
)

// alternates says whether even layers slide, all with one window, and odd layers see everything.
func alternates(windows []int) bool {
	for i, w := range windows {
		if i%2 == 0 && w != windows[0] || i%2 == 1 && w != 0 {
			return false
		}
	}
	return windows[0] > 0
}

func (b *builder) openAILayer(n int) {
	if b.err != nil {
		return
	}
	cfg, p := b.cfg, fmt.Sprintf("block.%d.", n)
	q, kv := cfg.Heads*cfg.HeadDim, cfg.KVHeads*cfg.HeadDim
	v := func(name string, f func(l *checkpoint.Layer) []float32, shape ...int) {
		b.vector(p+name, n, layerVector(n, f), shape...)
	}
	v("attn.norm.scale", func(l *checkpoint.Layer) []float32 { return l.AttnNorm }, cfg.Hidden)
	b.fusedQKV(p+"attn.qkv.weight", n)
	v("attn.qkv.bias", func(l *checkpoint.Layer) []float32 { return slices.Concat(l.Q.Bias, l.K.Bias, l.V.Bias) }, q+2*kv)
	b.hfMatrix(p+"attn.out.weight", weight{projO, n})
	v("attn.out.bias", func(l *checkpoint.Layer) []float32 { return l.O.Bias }, cfg.Hidden)
	v("attn.sinks", func(l *checkpoint.Layer) []float32 { return l.Sinks }, cfg.Heads)
	v("mlp.norm.scale", func(l *checkpoint.Layer) []float32 { return l.MLPNorm }, cfg.Hidden)
	v("mlp.gate.weight", routerWeight, cfg.Experts, cfg.Hidden)
	v("mlp.gate.bias", func(l *checkpoint.Layer) []float32 { return l.Router.Bias }, cfg.Experts)
	b.openAIExperts(p+"mlp.mlp1", weight{gateUp, n}, func(l *checkpoint.Layer) []float32 { return l.GateUp.Bias })
	b.openAIExperts(p+"mlp.mlp2", weight{down, n}, func(l *checkpoint.Layer) []float32 { return l.Down.Bias })
}

// fusedQKV plans one matrix of the rows of q, k and v.
func (b *builder) fusedQKV(name string, n int) {
	var planes [3]*dtype.Plane
	var choices [3]choice
	f := dtype.Invalid
	rows := 0
	for i, which := range []which{projQ, projK, projV} {
		s, err := b.plan.src.stack(weight{which, n})
		if err != nil {
			b.fail(err)
			return
		}
		planes[i] = &s.Even[0]
		choices[i] = b.dense(weight{which, n}, planes[i])
		rows += planes[i].Rows
		switch have := choices[i].codec.(floatCodec).format; {
		case f == dtype.Invalid:
			f = have
		case f != have:
			f = dtype.F32 // holds them all
		}
	}
	cols := planes[0].Cols
	t := b.floatTensor(name, f, "q, k and v one after another", rows, cols)
	line := int64(cols * f.BlockBytes())
	at := int64(0)
	for i, which := range []which{projQ, projK, projV} {
		c := floats(f, false, planes[i])
		it := &item{weight: weight{which, n}, codec: c.codec, exact: c.exact, from: formatName(planes[i]), to: c.to, at: at}
		size := int64(planes[i].Rows) * line
		it.out, it.shape, it.share, it.bytes = [][]*Tensor{{t}}, [3]int{1, planes[i].Rows, cols}, []int64{size}, size
		b.plan.items = append(b.plan.items, it)
		at += size
	}
}

func (b *builder) openAIExperts(name string, w weight, bias func(l *checkpoint.Layer) []float32) {
	if b.err != nil {
		return
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
	n := s.Experts()
	it := &item{weight: w, codec: c.codec, exact: c.exact, from: formatName(&s.Even[0]), to: c.to}
	b.add(it, n, rows, cols,
		[]*Tensor{b.tensor(name+"_weight.blocks", "U8", 1, it.how(), n, rows, cols/32, 16)},
		[]*Tensor{b.tensor(name+"_weight.scales", "U8", 1, it.how(), n, rows, cols/32)})
	b.vector(name+"_bias", w.layer, layerVector(w.layer, bias), n, rows)
}

var errNoTokenizer = errors.New("the source has no tokenizer, and a GGUF file holds its vocabulary: name a tokenizer.json with --tokenizer")
