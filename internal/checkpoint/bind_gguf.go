package checkpoint

import (
	"fmt"
	"strings"

	"hearth/internal/dtype"
)

// normaliseGGUF reduces the names of Ollama's generations to those of llama.cpp.
func normaliseGGUF(name string) string {
	for strings.HasSuffix(name, ".weight.weight") {
		name = strings.TrimSuffix(name, ".weight")
	}
	if strings.HasSuffix(name, "_exps") || strings.HasSuffix(name, ".attn_sinks") {
		name += ".weight"
	}
	if before, after, ok := strings.Cut(name, ".attn_out."); ok {
		name = before + ".attn_output." + after
	}
	if before, ok := strings.CutSuffix(name, ".ffn_norm.weight"); ok {
		name = before + ".post_attention_norm.weight"
	}
	return name
}

// newGGUFBinder reads the headers of a GGUF file, or of all its parts.
func (c *Checkpoint) newGGUFBinder() (*binder, error) {
	var tensors []tensor
	var first *ggufFile
	for _, m := range c.files {
		f, err := readGGUF(m.path, m.data)
		if err != nil {
			return nil, err
		}
		if first == nil {
			first = f
		}
		tensors = append(tensors, f.tensors...)
	}
	b, err := c.bindGGUF(first, tensors)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.files[0].path, err)
	}
	return b, nil
}

func (c *Checkpoint) bindGGUF(f *ggufFile, tensors []tensor) (*binder, error) {
	m := &metadata{m: f.meta}
	m.arch = m.text("general.architecture")
	switch {
	case m.err != nil:
		return nil, m.err
	case m.arch == "gpt-oss":
		c.layout = GGUF
	case m.arch == "gptoss":
		c.layout = GGUFOllama
	default:
		return nil, fmt.Errorf("general.architecture is %q: only GPT-OSS models (gpt-oss, gptoss) can be read", m.arch)
	}
	if err := checkParts(m, len(c.files), len(tensors)); err != nil {
		return nil, err
	}
	s, err := newStore(tensors, normaliseGGUF)
	if err != nil {
		return nil, err
	}
	if t := s.find(func(name string) bool { return strings.Contains(name, ".mlp.experts.") }); t != nil {
		return nil, fmt.Errorf("tensor %q: Ollama's converter left this name of a BF16 checkpoint as it was, and Ollama cannot run the file either; "+
			"convert the MXFP4 release instead", t.name)
	}
	if c.vocabulary, err = readVocabulary(m); err != nil {
		return nil, err
	}
	if c.vocabulary.other != "" {
		c.notes = append(c.notes, fmt.Sprintf("the file's vocabulary is of kind %q, not the byte-level BPE of GPT-OSS: it is not read", c.vocabulary.other))
	}
	// A wrong splitter breaks Harmony's headers, not the text, so it would go unseen. "default" is Ollama's word for
	// gpt-4o before v0.30.0.
	if pre := m.text("tokenizer.ggml.pre"); pre != "gpt-4o" && pre != "default" {
		c.notes = append(c.notes, fmt.Sprintf("the file names the pre-tokenizer %q: text is split as gpt-4o does, which GPT-OSS was trained with", pre))
	}
	cfg, notes, err := ggufConfig(m, c.vocabulary)
	if err != nil {
		return nil, err
	}
	c.config, c.notes = cfg, append(c.notes, notes...)
	return &binder{store: s, cfg: cfg, layout: c.layout, asks: "the metadata asks"}, nil
}

// checkParts compares the parts of a split file with what the first one says.
func checkParts(m *metadata, files, tensors int) error {
	for _, x := range []struct {
		key  string
		have int
	}{{"split.count", files}, {"split.tensors.count", tensors}} {
		v, ok := m.m[x.key]
		if !ok {
			continue
		}
		want, isNumber := v.number()
		if !isNumber || x.key == "split.count" && want == 0 {
			continue
		}
		if want != float64(x.have) {
			return fmt.Errorf("metadata %q: %v, but there are %d: name the parts FILE-00001-of-0000N.gguf and keep them together", x.key, want, x.have)
		}
	}
	return nil
}

// ggufLayer reads llama.cpp's names.
func (b *binder) ggufLayer(n int) *Layer {
	c, p := b.cfg, fmt.Sprintf("blk.%d.", n)
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	l := &Layer{
		AttnNorm: b.vector(p+"attn_norm.weight", c.Hidden),
		O:        b.linear(p+"attn_output", RoleAttention, c.Hidden, q),
		Sinks:    b.vector(p+"attn_sinks.weight", c.Heads),
		MLPNorm:  b.vector(p+"post_attention_norm.weight", c.Hidden),
		Router:   b.linear(p+"ffn_gate_inp", RoleRouter, c.Experts, c.Hidden),
		Down:     b.ggufExperts(p+"ffn_down_exps", c.Hidden, c.Intermediate),
	}
	if b.store.has(p + "attn_qkv.weight") {
		qkv := b.linear(p+"attn_qkv", RoleAttention, q+2*kv, c.Hidden)
		b.splitQKV(qkv.Weight, qkv.Bias, l)
	} else {
		l.Q = b.linear(p+"attn_q", RoleAttention, q, c.Hidden)
		l.K = b.linear(p+"attn_k", RoleAttention, kv, c.Hidden)
		l.V = b.linear(p+"attn_v", RoleAttention, kv, c.Hidden)
	}
	switch {
	case !b.store.has(p + "ffn_gate_up_exps.weight"):
		gate := b.ggufExperts(p+"ffn_gate_exps", c.Intermediate, c.Hidden)
		up := b.ggufExperts(p+"ffn_up_exps", c.Intermediate, c.Hidden)
		l.GateUp = Experts{
			Weight: dtype.Stack{Even: gate.Weight.Even, Odd: up.Weight.Even}, Bias: interleave(gate.Bias, up.Bias),
		}
	case b.layout == GGUFOllama: // rows interleaved, as in the source
		l.GateUp = b.ggufExperts(p+"ffn_gate_up_exps", 2*c.Intermediate, c.Hidden)
	default:
		b.note("ffn_gate_up_exps holds the gate rows of an expert, then its up rows, as llama.cpp writes merged experts")
		l.GateUp = b.unmerge(b.ggufExperts(p+"ffn_gate_up_exps", 2*c.Intermediate, c.Hidden))
	}
	return l
}

func (b *binder) ggufExperts(name string, rows, cols int) Experts {
	t := b.shaped(name+".weight", b.cfg.Experts, rows, cols)
	if t != nil && t.format == dtype.MXFP4Ollama && b.layout != GGUFOllama {
		b.fail(t, "type 4 is Ollama's MXFP4 of August 2025, but the architecture is not gptoss")
	}
	return Experts{Weight: b.expertPlanes(t, rows, cols, false), Bias: b.vector(name+".bias", b.cfg.Experts, rows)}
}

// unmerge takes experts whose rows are all gate rows, then all up rows, apart.
func (b *binder) unmerge(x Experts) Experts {
	if b.err != nil {
		return Experts{}
	}
	half := b.cfg.Intermediate
	var out Experts
	for i := range x.Weight.Even {
		p := &x.Weight.Even[i]
		gate, _ := p.Slice(0, half) // rows of GGUF's formats are whole blocks
		up, _ := p.Slice(half, half)
		out.Weight.Even, out.Weight.Odd = append(out.Weight.Even, gate), append(out.Weight.Odd, up)
		if x.Bias != nil {
			bias := x.Bias[2*half*i:]
			out.Bias = append(out.Bias, interleave(bias[:half], bias[half:2*half])...)
		}
	}
	return out
}
