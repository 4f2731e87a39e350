package convert

import (
	"fmt"
	"slices"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
)

// dialect is how a layout spells the tensors of a model: whole names, or stems to which ".weight" and ".bias" are added.
type dialect struct {
	embedding, head, norm string
	layer                 string // begins the names of a layer, with its number
	attnNorm, sinks       string
	q, k, v               string // stems
	qkv                   string // stem, where they are one matrix
	o, router             string // stems
	mlpNorm               string
	experts               func(prefix string, n int) // plans the experts of layer n
}

// model plans all tensors of a model and the files beside them.
func (b *builder) model(c *checkpoint.Checkpoint) error {
	var d *dialect
	var finish func(c *checkpoint.Checkpoint) error
	var err error
	switch b.plan.opt.To {
	case OpenAI:
		d, finish, err = b.openAI(), b.openAIFiles, openAIHolds(b.cfg)
	case GGUF:
		d, finish, err = b.gguf(), b.ggufFile, ggufHolds(b.cfg)
	default:
		d, finish = b.hf(), b.hfFiles
	}
	if err != nil {
		return err
	}
	b.matrix(d.embedding, weight{which: embedding})
	b.matrix(d.head, weight{which: head})
	b.vector(d.norm, -1, func(s *parts) ([]float32, error) { return s.src.FinalNorm() }, b.cfg.Hidden)
	for n := range b.cfg.Layers {
		b.layer(d, n)
	}
	if b.err != nil {
		return b.err
	}
	if b.plan.opt.To != GGUF {
		b.plan.shard("model")
	}
	return finish(c)
}

func (b *builder) layer(d *dialect, n int) {
	cfg, p := b.cfg, fmt.Sprintf(d.layer, n)
	v := func(name string, f func(l *checkpoint.Layer) []float32, shape ...int) {
		b.vector(p+name, n, layerVector(n, f), shape...)
	}
	q, kv := cfg.Heads*cfg.HeadDim, cfg.KVHeads*cfg.HeadDim
	projection := func(stem string, which which, rows int) {
		b.matrix(p+stem+".weight", weight{which, n})
		v(stem+".bias", func(l *checkpoint.Layer) []float32 { return linear(l, which).Bias }, rows)
	}
	v(d.attnNorm, func(l *checkpoint.Layer) []float32 { return l.AttnNorm }, cfg.Hidden)
	if d.qkv != "" {
		b.fusedQKV(p+d.qkv+".weight", n)
		v(d.qkv+".bias", func(l *checkpoint.Layer) []float32 { return slices.Concat(l.Q.Bias, l.K.Bias, l.V.Bias) }, q+2*kv)
	} else {
		projection(d.q, projQ, q)
		projection(d.k, projK, kv)
		projection(d.v, projV, kv)
	}
	projection(d.o, projO, cfg.Hidden)
	v(d.sinks, func(l *checkpoint.Layer) []float32 { return l.Sinks }, cfg.Heads)
	v(d.mlpNorm, func(l *checkpoint.Layer) []float32 { return l.MLPNorm }, cfg.Hidden)
	v(d.router+".weight", routerWeight, cfg.Experts, cfg.Hidden)
	v(d.router+".bias", func(l *checkpoint.Layer) []float32 { return l.Router.Bias }, cfg.Experts)
	d.experts(p, n)
}

// layerVector reads a vector of a layer.
func layerVector(n int, f func(l *checkpoint.Layer) []float32) func(s *parts) ([]float32, error) {
	return func(s *parts) ([]float32, error) {
		l, err := s.layer(n)
		if err != nil {
			return nil, err
		}
		return f(l), nil
	}
}

// routerWeight decodes the router's matrix: it is small and always kept exactly, as a vector is.
func routerWeight(l *checkpoint.Layer) []float32 {
	p := &l.Router.Weight
	v := make([]float32, p.Rows*p.Cols)
	p.DecodeRows(v, 0, p.Rows)
	return v
}

// expertsBias gives the biases of a projection of the experts.
func expertsBias(which which) func(l *checkpoint.Layer) []float32 {
	if which == down {
		return func(l *checkpoint.Layer) []float32 { return l.Down.Bias }
	}
	return func(l *checkpoint.Layer) []float32 { return l.GateUp.Bias }
}

// newItem begins an item: the decision about a weight. It gives nil once planning has failed.
func (b *builder) newItem(w weight) (*item, *dtype.Stack) {
	if b.err != nil {
		return nil, nil
	}
	s, err := b.plan.src.stack(w)
	if err != nil {
		b.fail(err)
		return nil, nil
	}
	var c choice
	if w.isExperts() {
		c, err = b.experts(w, s)
	} else {
		c = b.dense(w, &s.Even[0])
	}
	if err != nil {
		b.fail(err)
		return nil, nil
	}
	return &item{weight: w, codec: c.codec, exact: c.exact, from: formatName(&s.Even[0]), to: c.to}, s
}

// matrix plans a dense matrix [out, in].
func (b *builder) matrix(name string, w weight) {
	it, s := b.newItem(w)
	if it == nil {
		return
	}
	if bnb, ok := it.codec.(bnbCodec); ok {
		b.bnbTensors(it, bnb, []string{name}, s)
		return
	}
	rows, cols := s.Shape()
	b.add(it, 1, rows, cols, []*Tensor{b.encoded(name, it, rows, cols)})
}

// encoded adds a tensor of plain numbers or of self-contained blocks.
func (b *builder) encoded(name string, it *item, shape ...int) *Tensor {
	f := dtype.MXFP4GGML
	switch c := it.codec.(type) {
	case floatCodec:
		f = c.format
	case blockCodec:
		f = c.format
	}
	t := b.tensor(name, it.to, 1, it.how(), shape...)
	t.Bytes = t.Bytes / int64(f.BlockElems()) * int64(f.BlockBytes())
	t.gguf, _ = f.GGUFType()
	return t
}

// mxTensors plans experts in MXFP4, codes and scales apart.
func (b *builder) mxTensors(it *item, s *dtype.Stack, blocks, scales string) {
	n := s.Experts()
	rows, cols := s.Shape()
	b.add(it, n, rows, cols,
		[]*Tensor{b.tensor(blocks, "U8", 1, it.how(), n, rows, cols/32, 16)},
		[]*Tensor{b.tensor(scales, "U8", 1, it.how(), n, rows, cols/32)})
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
