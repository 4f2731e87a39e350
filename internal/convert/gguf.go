package convert

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
)

// gguf spells the names of llama.cpp's converter: gate and up apart, small tensors in float32.
func (b *builder) gguf() *dialect {
	return &dialect{
		embedding: "token_embd.weight", head: "output.weight", norm: "output_norm.weight", layer: "blk.%d.",
		attnNorm: "attn_norm.weight", sinks: "attn_sinks.weight", mlpNorm: "post_attention_norm.weight",
		q: "attn_q", k: "attn_k", v: "attn_v", o: "attn_output", router: "ffn_gate_inp",
		experts: func(prefix string, n int) {
			b.ggufExperts(prefix+"ffn_gate_exps", weight{gateUp, n}, gateRows)
			b.ggufExperts(prefix+"ffn_up_exps", weight{gateUp, n}, upRows)
			b.ggufExperts(prefix+"ffn_down_exps", weight{down, n}, allRows)
		},
	}
}

// ggufFile plans the file's header and the files beside it.
func (b *builder) ggufFile(c *checkpoint.Checkpoint) error {
	meta := &ggufMeta{}
	b.ggufKeys(meta)
	if err := b.ggufTokens(meta, c); err != nil {
		return err
	}
	if b.plan.single {
		b.plan.placeGGUF(filepath.Base(b.plan.dst), meta)
		return nil
	}
	b.plan.placeGGUF("model.gguf", meta)
	return b.carry(folder(c.Path()))
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

// ggufExperts plans a projection of the experts, or half of it: one tensor [experts, rows, cols].
func (b *builder) ggufExperts(stem string, w weight, sel rowsOf) {
	it, s := b.newItem(w)
	if it == nil {
		return
	}
	it.rows = sel
	n, v := s.Experts(), newView(s, 0, sel)
	b.add(it, n, v.rows, v.cols, []*Tensor{b.encoded(stem+".weight", it, n, v.rows, v.cols)})
	bias := expertsBias(w.which)
	b.vector(stem+".bias", w.layer, layerVector(w.layer, func(l *checkpoint.Layer) []float32 { return sel.of(bias(l)) }), n, v.rows)
}

// of takes the rows out of the biases of all experts, in which gate and up take turns.
func (sel rowsOf) of(v []float32) []float32 {
	if sel == allRows {
		return v
	}
	out := make([]float32, 0, len(v)/2)
	for i := int(sel - gateRows); i < len(v); i += 2 {
		out = append(out, v[i])
	}
	return out
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

// modelName is the name of a folder, or of a file without what its format adds.
func modelName(path string) string {
	if abs, err := filepath.Abs(path); err == nil { // of "." and the like
		path = abs
	}
	name := filepath.Base(path)
	for _, ext := range []string{".gguf", ".safetensors"} {
		name = strings.TrimSuffix(name, ext)
	}
	return name
}

func (b *builder) ggufKeys(m *ggufMeta) {
	c, r := b.cfg, b.cfg.Rope
	m.text("general.architecture", "gpt-oss")
	m.text("general.type", "model")
	m.text("general.name", cmp.Or(b.plan.opt.Name, modelName(b.plan.src.src.Path())))
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

// placeGGUF places the tensors in one file and makes its header.
func (p *Plan) placeGGUF(name string, m *ggufMeta) {
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
