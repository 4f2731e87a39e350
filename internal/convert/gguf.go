package convert

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
)

// ggufModel plans a GGUF file as llama.cpp's converter writes it: gate and up apart, small tensors in float32.
func (b *builder) ggufModel(c *checkpoint.Checkpoint) error {
	cfg := b.cfg
	if err := ggufHolds(cfg); err != nil {
		return err
	}
	b.ggufMatrix("token_embd.weight", weight{which: embedding})
	b.ggufMatrix("output.weight", weight{which: head})
	b.vector("output_norm.weight", -1, func(s *parts) ([]float32, error) { return s.src.FinalNorm() }, cfg.Hidden)
	for n := range cfg.Layers {
		b.ggufLayer(n)
	}
	if b.err != nil {
		return b.err
	}
	meta := &ggufMeta{}
	b.ggufKeys(meta)
	if err := b.ggufTokens(meta, c); err != nil {
		return err
	}
	name := "model.gguf"
	if b.plan.single {
		name = filepath.Base(b.plan.dst)
	}
	b.plan.gguf(name, meta)
	if !b.plan.single {
		return b.carry(folder(c.Path()))
	}
	return nil
}

// ggufHolds says whether llama.cpp's keys can express this model. Its code for GPT-OSS fixes what they cannot.
func ggufHolds(c *checkpoint.Config) error {
	lost := func(what string, v any) error {
		return fmt.Errorf("GGUF has no key for %s %v: the model would be another one; use hf-mxfp4", what, v)
	}
	switch {
	case c.SwigluAlpha != publishedAlpha:
		return lost("swiglu_alpha", c.SwigluAlpha)
	case c.SwigluLimit != publishedLimit:
		return lost("swiglu_limit", c.SwigluLimit)
	case !alternates(c.Windows):
		return lost("a pattern of sliding layers other than every second from the first:", c.Windows)
	case c.Rope.Truncate:
		return lost("rope_scaling.truncate", true)
	}
	return nil
}

func (b *builder) ggufLayer(n int) {
	if b.err != nil {
		return
	}
	cfg, p := b.cfg, fmt.Sprintf("blk.%d.", n)
	v := func(name string, f func(l *checkpoint.Layer) []float32, shape ...int) {
		b.vector(p+name, n, layerVector(n, f), shape...)
	}
	v("attn_norm.weight", func(l *checkpoint.Layer) []float32 { return l.AttnNorm }, cfg.Hidden)
	for _, x := range []struct {
		name  string
		which which
		rows  int
	}{
		{"attn_q", projQ, cfg.Heads * cfg.HeadDim}, {"attn_k", projK, cfg.KVHeads * cfg.HeadDim},
		{"attn_v", projV, cfg.KVHeads * cfg.HeadDim}, {"attn_output", projO, cfg.Hidden},
	} {
		b.ggufMatrix(p+x.name+".weight", weight{x.which, n})
		v(x.name+".bias", func(l *checkpoint.Layer) []float32 { return linear(l, x.which).Bias }, x.rows)
	}
	v("attn_sinks.weight", func(l *checkpoint.Layer) []float32 { return l.Sinks }, cfg.Heads)
	v("post_attention_norm.weight", func(l *checkpoint.Layer) []float32 { return l.MLPNorm }, cfg.Hidden)
	v("ffn_gate_inp.weight", routerWeight, cfg.Experts, cfg.Hidden)
	v("ffn_gate_inp.bias", func(l *checkpoint.Layer) []float32 { return l.Router.Bias }, cfg.Experts)
	b.ggufProjection(p+"ffn_gate_exps", weight{gateUp, n}, gateRows)
	v("ffn_gate_exps.bias", func(l *checkpoint.Layer) []float32 { return everySecond(l.GateUp.Bias, 0) }, cfg.Experts, cfg.Intermediate)
	b.ggufProjection(p+"ffn_up_exps", weight{gateUp, n}, upRows)
	v("ffn_up_exps.bias", func(l *checkpoint.Layer) []float32 { return everySecond(l.GateUp.Bias, 1) }, cfg.Experts, cfg.Intermediate)
	b.ggufProjection(p+"ffn_down_exps", weight{down, n}, allRows)
	v("ffn_down_exps.bias", func(l *checkpoint.Layer) []float32 { return l.Down.Bias }, cfg.Experts, cfg.Hidden)
}

// everySecond takes the gate (0) or up (1) half of interleaved biases.
func everySecond(v []float32, first int) []float32 {
	out := make([]float32, 0, len(v)/2)
	for i := first; i < len(v); i += 2 {
		out = append(out, v[i])
	}
	return out
}

func (b *builder) ggufMatrix(name string, w weight) {
	if b.err != nil {
		return
	}
	s, err := b.plan.src.stack(w)
	if err != nil {
		b.fail(err)
		return
	}
	p := &s.Even[0]
	b.ggufItem(name, &item{weight: w, from: formatName(p)}, b.dense(w, p), 1, p.Rows, p.Cols)
}

func (b *builder) ggufProjection(name string, w weight, sel rowsOf) {
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
	v := newView(s, 0, sel)
	b.ggufItem(name+".weight", &item{weight: w, rows: sel, from: formatName(v.even)}, c, s.Experts(), v.rows, v.cols)
}

// ggufItem plans an item that is one tensor [n, rows, cols], or [rows, cols] outside the experts.
func (b *builder) ggufItem(name string, it *item, c choice, n, rows, cols int) {
	it.codec, it.exact, it.to = c.codec, c.exact, c.to
	shape := []int{rows, cols}
	if it.weight.isExperts() {
		shape = []int{n, rows, cols}
	}
	f := dtype.MXFP4GGML
	switch c := c.codec.(type) {
	case floatCodec:
		f = c.format
	case blockCodec:
		f = c.format
	}
	t := b.tensor(name, c.to, 0, it.how(), shape...)
	t.Bytes = int64(n) * int64(rows) * int64(cols/f.BlockElems()) * int64(f.BlockBytes())
	t.gguf, _ = f.GGUFType()
	b.add(it, n, rows, cols, []*Tensor{t})
}

// ggufMeta collects the metadata of a file.
type ggufMeta struct {
	n int
	b []byte
}

// The kinds of values that are written.
const (
	ggufU32    = 4
	ggufI32    = 5
	ggufF32    = 6
	ggufString = 8
	ggufArray  = 9
)

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

func (m *ggufMeta) key(key string, kind uint32) {
	m.n++
	m.b = binary.LittleEndian.AppendUint32(appendString(m.b, key), kind)
}

func (m *ggufMeta) text(key, v string) {
	m.key(key, ggufString)
	m.b = appendString(m.b, v)
}

func (m *ggufMeta) u32(key string, v int) {
	m.key(key, ggufU32)
	m.b = binary.LittleEndian.AppendUint32(m.b, uint32(v))
}

func (m *ggufMeta) f32(key string, v float64) {
	m.key(key, ggufF32)
	m.b = binary.LittleEndian.AppendUint32(m.b, math.Float32bits(float32(v)))
}

func (m *ggufMeta) texts(key string, list []string) {
	m.key(key, ggufArray)
	m.b = binary.LittleEndian.AppendUint32(m.b, ggufString)
	m.b = binary.LittleEndian.AppendUint64(m.b, uint64(len(list)))
	for _, s := range list {
		m.b = appendString(m.b, s)
	}
}

func (m *ggufMeta) i32s(key string, list []int32) {
	m.key(key, ggufArray)
	m.b = binary.LittleEndian.AppendUint32(m.b, ggufI32)
	m.b = binary.LittleEndian.AppendUint64(m.b, uint64(len(list)))
	for _, v := range list {
		m.b = binary.LittleEndian.AppendUint32(m.b, uint32(v))
	}
}

// The numbers of llama.cpp's llama_ftype.
const (
	fileF32   = 0
	fileF16   = 1
	fileQ8_0  = 7
	fileBF16  = 32
	fileMXFP4 = 38
)

func (b *builder) fileType() int {
	for _, it := range b.plan.items {
		if !it.weight.isExperts() {
			continue
		}
		switch c := it.codec.(type) {
		case mxCodec:
			return fileMXFP4
		case floatCodec:
			return map[dtype.Format]int{dtype.F32: fileF32, dtype.F16: fileF16, dtype.BF16: fileBF16}[c.format]
		}
	}
	return fileQ8_0 // of the block formats, the only one that is common; llama.cpp shows it and nothing more
}

func (b *builder) ggufKeys(m *ggufMeta) {
	c, r := b.cfg, b.cfg.Rope
	name := filepath.Base(filepath.Clean(b.plan.src.src.Path()))
	m.text("general.architecture", "gpt-oss")
	m.text("general.type", "model")
	m.text("general.name", name)
	const p = "gpt-oss."
	m.u32(p+"block_count", c.Layers)
	m.u32(p+"context_length", c.MaxPosition)
	m.u32(p+"embedding_length", c.Hidden)
	m.u32(p+"feed_forward_length", c.Intermediate)
	m.u32(p+"expert_feed_forward_length", c.Intermediate)
	m.u32(p+"attention.head_count", c.Heads)
	m.u32(p+"attention.head_count_kv", c.KVHeads)
	m.u32(p+"attention.key_length", c.HeadDim)
	m.u32(p+"attention.value_length", c.HeadDim)
	m.f32(p+"attention.layer_norm_rms_epsilon", float64(c.Eps))
	m.u32(p+"attention.sliding_window", c.Windows[0])
	m.u32(p+"expert_count", c.Experts)
	m.u32(p+"expert_used_count", c.TopK)
	m.f32(p+"rope.freq_base", r.Theta)
	if r.Yarn {
		m.text(p+"rope.scaling.type", "yarn")
		m.f32(p+"rope.scaling.factor", r.Factor)
		m.u32(p+"rope.scaling.original_context_length", r.OriginalContext)
		m.f32(p+"rope.scaling.yarn_beta_fast", r.BetaFast)
		m.f32(p+"rope.scaling.yarn_beta_slow", r.BetaSlow)
	} else {
		m.text(p+"rope.scaling.type", "none")
	}
	m.u32("general.file_type", b.fileType())
	m.u32("general.quantization_version", 2)
}

// The token types of GGUF.
const (
	tokenNormal  = 1
	tokenControl = 3
	tokenUser    = 4
	tokenUnused  = 5
)

// ggufTokens adds the vocabulary: that of a GGUF source as it is, else the one of tokenizer.json.
func (b *builder) ggufTokens(m *ggufMeta, c *checkpoint.Checkpoint) error {
	v, err := b.vocabulary(c)
	if err != nil {
		return err
	}
	m.text("tokenizer.ggml.model", "gpt2")
	m.text("tokenizer.ggml.pre", "gpt-4o")
	m.texts("tokenizer.ggml.tokens", v.tokens)
	m.i32s("tokenizer.ggml.token_type", v.types)
	m.texts("tokenizer.ggml.merges", v.merges)
	for _, x := range []struct{ key, token string }{
		{"bos", "<|startoftext|>"}, {"eos", "<|return|>"}, {"padding", "<|endoftext|>"},
	} {
		if id := slices.Index(v.tokens, x.token); id >= 0 {
			m.u32("tokenizer.ggml."+x.key+"_token_id", id)
		}
	}
	if template := b.chatTemplate(c); template != "" {
		m.text("tokenizer.chat_template", template)
	}
	return nil
}

// chatTemplate finds the template of a source: a GGUF's own, a file, or a field of tokenizer_config.json.
func (b *builder) chatTemplate(c *checkpoint.Checkpoint) string {
	if list, ok := c.GGUFText("tokenizer.chat_template"); ok && len(list) == 1 {
		return list[0]
	}
	dir := folder(c.Path())
	if text, err := os.ReadFile(filepath.Join(dir, "chat_template.jinja")); err == nil {
		return string(text)
	}
	raw, err := readSide(dir, "tokenizer_config.json")
	if err != nil || raw == nil {
		return ""
	}
	var config struct {
		Template json.RawMessage `json:"chat_template"`
	}
	var text string
	if json.Unmarshal(raw, &config) != nil || json.Unmarshal(config.Template, &text) != nil {
		return ""
	}
	return text
}

const ggufAlignment = 32

// gguf places the tensors in one file and makes its header.
func (p *Plan) gguf(name string, m *ggufMeta) {
	h := []byte("GGUF")
	h = binary.LittleEndian.AppendUint32(h, 3)
	h = binary.LittleEndian.AppendUint64(h, uint64(len(p.Tensors)))
	h = binary.LittleEndian.AppendUint64(h, uint64(m.n))
	h = append(h, m.b...)
	at := int64(0)
	for _, t := range p.Tensors {
		h = appendString(h, t.Name)
		h = binary.LittleEndian.AppendUint32(h, uint32(len(t.Shape)))
		for _, n := range slices.Backward(t.Shape) { // the fastest axis first
			h = binary.LittleEndian.AppendUint64(h, uint64(n))
		}
		h = binary.LittleEndian.AppendUint32(h, t.gguf)
		h = binary.LittleEndian.AppendUint64(h, uint64(at))
		t.File, t.Offset = name, at
		at = (at + t.Bytes + ggufAlignment - 1) / ggufAlignment * ggufAlignment
	}
	for len(h)%ggufAlignment != 0 {
		h = append(h, 0)
	}
	for _, t := range p.Tensors {
		t.Offset += int64(len(h))
	}
	p.files = append(p.files, outFile{name: name, header: h, size: int64(len(h)) + at})
}
