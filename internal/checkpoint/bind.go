package checkpoint

import (
	"fmt"
	"slices"

	"hearth/internal/dtype"
)

// claim records what a tensor is used for.
type claim struct {
	role   Role
	format dtype.Format // of the values that the tensor holds or helps to decode
	shape  []int        // logical shape, where the stored one says nothing
}

// binder turns the tensors of a store into canonical parts. The same code runs at Open over all layers, to check
// them and to claim their tensors, and later for each layer that is asked for. The first failure is kept in err;
// calls after it return zero values.
type binder struct {
	store    *store
	cfg      *Config
	layout   Layout
	tied     bool   // the head may be the embedding
	asks     string // "config.json asks": who says what shapes should be
	where    string // the source, for messages about tensors that are not there
	checking bool   // vectors are checked but not decoded
	claims   map[*tensor]claim
	visit    func(t *tensor, expert int, p dtype.Plane) // told of every plane, if not nil; vectors are planes of one row
	maps     map[string]*[256]float32                   // nested tables of this run by their bytes: usually one
	notes    []string
	err      error
}

// run returns a binder over the same store for one pass.
func (b *binder) run() *binder {
	r := *b
	r.checking, r.claims, r.visit, r.notes, r.err = false, nil, nil, nil, nil
	r.maps = map[string]*[256]float32{}
	return &r
}

func (b *binder) fail(t *tensor, format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("%s: tensor %q: %s", t.file, t.name, fmt.Sprintf(format, args...))
	}
}

func (b *binder) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); b.checking && !slices.Contains(b.notes, n) {
		b.notes = append(b.notes, n)
	}
}

func (b *binder) claim(t *tensor, role Role, format dtype.Format, shape ...int) {
	if b.claims == nil {
		return
	}
	if len(shape) == 0 {
		shape = t.shape
	}
	b.claims[t] = claim{role, format, shape}
}

// visited tells of planes: one that is not an expert (-1), or the experts from number first on.
func (b *binder) visited(t *tensor, first int, planes ...dtype.Plane) {
	if b.visit == nil || b.err != nil {
		return
	}
	for i, p := range planes {
		b.visit(t, first+i, p)
	}
}

// walk binds every part of the model once.
func (b *binder) walk() {
	b.embedding()
	for n := 0; n < b.cfg.Layers && b.err == nil; n++ {
		b.layer(n)
	}
	b.finalNorm()
	b.head()
}

// get finds a tensor that must be there; nil after a failure.
func (b *binder) get(name string) *tensor {
	if b.err != nil {
		return nil
	}
	t := b.store.byName[name]
	if t == nil {
		b.err = fmt.Errorf("%s: tensor %q is missing", b.where, b.store.shown(name))
	}
	return t
}

// shaped finds a tensor that must be there in a given shape.
func (b *binder) shaped(name string, shape ...int) *tensor {
	t := b.get(name)
	if t != nil && !slices.Equal(t.shape, shape) {
		b.fail(t, "shape %v, but %s for %v", t.shape, b.asks, shape)
		return nil
	}
	return t
}

// isFloat says whether a format is plain numbers that every device can decode.
func isFloat(f dtype.Format) bool { return f == dtype.BF16 || f == dtype.F16 || f == dtype.F32 }

// floats decodes a small tensor of plain numbers: a norm, bias or sink vector.
func (b *binder) floats(t *tensor) []float32 {
	if t == nil || b.err != nil {
		return nil
	}
	if !isFloat(t.format) {
		b.fail(t, "dtype %s, want F32, F16 or BF16", t.stored)
		return nil
	}
	b.claim(t, RoleVectors, t.format)
	n := len(t.data) / t.format.BlockBytes()
	b.visited(t, -1, dtype.Plane{Format: t.format, Rows: 1, Cols: n, Data: t.data})
	if b.checking {
		return nil
	}
	v, err := dtype.DecodeVector(t.format, t.data)
	if err != nil {
		b.fail(t, "%v", err)
	}
	return v
}

func (b *binder) vector(name string, shape ...int) []float32 {
	return b.floats(b.shaped(name, shape...))
}

// matrix gives a weight [rows, cols] that is stored in plain numbers or as a bitsandbytes 4-bit tensor.
func (b *binder) matrix(name string, role Role, rows, cols int) dtype.Plane {
	if b.store.isQuantised(name) {
		return b.quantised(name, role, rows, cols)
	}
	return b.dense(b.shaped(name, rows, cols), role, rows, cols)
}

// dense is the plane of a tensor [rows, cols] in plain numbers or in self-contained blocks.
func (b *binder) dense(t *tensor, role Role, rows, cols int) dtype.Plane {
	if t == nil || b.err != nil {
		return dtype.Plane{}
	}
	if t.format == dtype.Invalid || t.format == dtype.U8 {
		b.fail(t, "dtype %s is not supported for a weight; %s", t.stored, readable)
		return dtype.Plane{}
	}
	p := dtype.Plane{Format: t.format, Rows: rows, Cols: cols, Data: t.data}
	if err := p.Check(); err != nil {
		b.fail(t, "%v", err)
	}
	b.claim(t, role, t.format)
	b.visited(t, -1, p)
	return p
}

func (b *binder) linear(name string, role Role, rows, cols int) Linear {
	return Linear{Weight: b.matrix(name+".weight", role, rows, cols), Bias: b.vector(name+".bias", rows)}
}

// splitQKV cuts a fused projection, rows q then k then v, into three.
func (b *binder) splitQKV(w dtype.Plane, bias []float32, l *Layer) {
	q, kv := b.cfg.Heads*b.cfg.HeadDim, b.cfg.KVHeads*b.cfg.HeadDim
	cut := func(first, n int) Linear {
		part := Linear{}
		var ok bool
		if b.err != nil {
			return part
		}
		if part.Weight, ok = w.Slice(first, n); !ok {
			b.err = fmt.Errorf("%s: %s rows %d to %d of the fused q, k and v cannot be cut out: blocks straddle them", b.where, w.Format, first, first+n-1)
		}
		if bias != nil {
			part.Bias = bias[first : first+n : first+n]
		}
		return part
	}
	l.Q, l.K, l.V = cut(0, q), cut(q, kv), cut(q+kv, kv)
}

// layer gives layer n.
func (b *binder) layer(n int) *Layer {
	switch b.layout {
	case OpenAI:
		return b.openAILayer(n)
	case GGUF, GGUFOllama:
		return b.ggufLayer(n)
	default:
		return b.hfLayer(n)
	}
}

// endNames are the names of the tensors outside the layers, and of one that every layer has.
type endNames struct{ embed, norm, head, inLayer string }

func (b *binder) ends() endNames {
	switch b.layout {
	case OpenAI:
		return endNames{"embedding.weight", "norm.scale", "unembedding.weight", "block.%d.attn.norm.scale"}
	case GGUF, GGUFOllama:
		return endNames{"token_embd.weight", "output_norm.weight", "output.weight", "blk.%d.attn_norm.weight"}
	default:
		return endNames{"embed_tokens.weight", "norm.weight", "lm_head.weight", "layers.%d.input_layernorm.weight"}
	}
}

func (b *binder) embedding() dtype.Plane {
	return b.matrix(b.ends().embed, RoleEmbed, b.cfg.Vocab, b.cfg.Hidden)
}

func (b *binder) finalNorm() []float32 { return b.vector(b.ends().norm, b.cfg.Hidden) }

func (b *binder) head() dtype.Plane {
	name := b.ends().head
	if b.tied && !b.store.has(name) {
		b.note("the head is the embedding: config.json says tie_word_embeddings, and there is no %s", b.store.shown(name))
		return b.embedding()
	}
	return b.matrix(name, RoleHead, b.cfg.Vocab, b.cfg.Hidden)
}

// noMoreLayers refuses a checkpoint with more layers than the configuration has.
func (b *binder) noMoreLayers() {
	if t := b.store.byName[fmt.Sprintf(b.ends().inLayer, b.cfg.Layers)]; t != nil && b.err == nil {
		b.fail(t, "but %s for only %d layers", b.asks, b.cfg.Layers)
	}
}

// expertPlanes splits a rank-3 tensor [experts, rows, cols] into its planes.
func (b *binder) expertPlanes(t *tensor, rows, cols int, transposed bool) dtype.Stack {
	if t == nil || b.err != nil {
		return dtype.Stack{}
	}
	if t.format == dtype.Invalid || t.format == dtype.U8 {
		b.fail(t, "experts of dtype %s are not supported; %s", t.stored, readable)
		return dtype.Stack{}
	}
	b.claim(t, RoleExperts, t.format)
	planes := make([]dtype.Plane, b.cfg.Experts)
	size := len(t.data) / len(planes)
	for e := range planes {
		planes[e] = dtype.Plane{
			Format: t.format, Rows: rows, Cols: cols, Transposed: transposed, Data: t.data[e*size : (e+1)*size : (e+1)*size],
		}
	}
	if err := planes[0].Check(); err != nil { // all are alike
		b.fail(t, "%v", err)
	}
	b.visited(t, 0, planes...)
	return dtype.Stack{Even: planes}
}

// mxfp4 gives the experts of a tensor stored as codes [experts, rows, cols/32, 16] and scales [experts, rows, cols/32].
func (b *binder) mxfp4(blocks, scales string, rows, cols int) dtype.Stack {
	const group = 32
	if b.err == nil && cols%group != 0 {
		b.err = fmt.Errorf("%s: tensor %q: an input width of %d is not a multiple of %d", b.where, b.store.shown(blocks), cols, group)
	}
	n := b.cfg.Experts
	codes, exps := b.shaped(blocks, n, rows, cols/group, group/2), b.shaped(scales, n, rows, cols/group)
	for _, t := range []*tensor{codes, exps} {
		if t != nil && t.format != dtype.U8 {
			b.fail(t, "dtype %s, want U8", t.stored)
		}
	}
	if b.err != nil {
		return dtype.Stack{}
	}
	b.claim(codes, RoleExperts, dtype.MXFP4, n, rows, cols)
	b.claim(exps, RoleExperts, dtype.MXFP4)
	planes := make([]dtype.Plane, n)
	c, s := len(codes.data)/n, len(exps.data)/n
	for e := range planes {
		planes[e] = dtype.Plane{
			Format: dtype.MXFP4, Rows: rows, Cols: cols,
			Data: codes.data[e*c : (e+1)*c : (e+1)*c], Scales: exps.data[e*s : (e+1)*s : (e+1)*s],
		}
	}
	b.visited(codes, 0, planes...)
	return dtype.Stack{Even: planes}
}

// interleave gives [experts, 2*width] from gate and up biases [experts, width]: even entries gate, odd ones up.
func interleave(gate, up []float32) []float32 {
	out := make([]float32, 0, len(gate)+len(up))
	for i := range gate {
		out = append(out, gate[i], up[i])
	}
	return out
}
