package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hearth/internal/checkpoint"
)

// sideFiles go with a model unchanged wherever the source has them.
func sideFiles() []string {
	return []string{
		"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json",
		"chat_template.jinja", "chat_template.json", "LICENSE", "USAGE_POLICY", "NOTICE",
	}
}

// maxSideFile is far more than any of them has.
const maxSideFile = 64 << 20

// folder is where a source's small files lie.
func folder(path string) string {
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return path
	}
	return filepath.Dir(path)
}

// read gives a small file of the source; nil if it has none.
func readSide(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxSideFile {
		return nil, fmt.Errorf("%s has %d bytes: more than such a file can hold", path, fi.Size())
	}
	return os.ReadFile(path)
}

// hfFiles adds config.json, rewritten for the target, and the small files.
func (b *builder) hfFiles(c *checkpoint.Checkpoint) error {
	dir := folder(c.Path())
	own := map[string]json.RawMessage{}
	isGGUF := c.Layout() == checkpoint.GGUF || c.Layout() == checkpoint.GGUFOllama
	if !isGGUF && c.Layout() != checkpoint.OpenAI {
		raw, err := readSide(dir, "config.json")
		if err != nil {
			return err
		}
		if err := json.Unmarshal(raw, &own); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, "config.json"), err)
		}
	}
	config, err := b.hfConfig(own)
	if err != nil {
		return err
	}
	b.plan.extra = append(b.plan.extra, sideFile{"config.json", config})
	if err := b.carry(dir); err != nil {
		return err
	}
	if isGGUF {
		return b.vocabularyFiles(c)
	}
	if c.TokenizerFile() == "" && b.plan.opt.Tokenizer == "" {
		b.note("the source has no tokenizer.json, so the result has none either: --tokenizer names one")
	}
	return nil
}

// carry adds the small files of a source's folder.
func (b *builder) carry(dir string) error {
	for _, name := range sideFiles() {
		path := filepath.Join(dir, name)
		data, err := readSide(dir, name)
		if name == "tokenizer.json" && b.plan.opt.Tokenizer != "" {
			path = b.plan.opt.Tokenizer
			data, err = os.ReadFile(path)
		}
		if err != nil {
			return err
		}
		if data != nil {
			b.plan.extra = append(b.plan.extra, sideFile{name, data})
		}
	}
	return nil
}

func (b *builder) hasFile(name string) bool {
	return slices.ContainsFunc(b.plan.extra, func(f sideFile) bool { return f.name == name })
}

// hfConfig is the source's config.json, or the same made from OpenAI's or a GGUF's, with what the target changes.
func (b *builder) hfConfig(own map[string]json.RawMessage) ([]byte, error) {
	out := map[string]any{}
	for k, v := range own {
		out[k] = v
	}
	if len(own) == 0 {
		b.freshConfig(out)
	}
	b.ropeConfig(out)
	delete(out, "quantization_config")
	out["tie_word_embeddings"] = false // the head is always written
	switch b.plan.opt.To {
	case HFMXFP4:
		out["quantization_config"] = map[string]any{
			"quant_method":           "mxfp4",
			"modules_to_not_convert": []string{"model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"},
		}
	case UnslothBNB, FusedNF4:
		if q := b.bnbConfig(); q != nil {
			out["quantization_config"] = q
		}
	}
	if out["dtype"] == nil && out["torch_dtype"] == nil {
		out["torch_dtype"] = "bfloat16"
	}
	return indented(out), nil
}

// freshConfig fills in what Transformers' configuration states of the model.
func (b *builder) freshConfig(out map[string]any) {
	c := b.cfg
	types := make([]string, c.Layers)
	window := 0
	for i, w := range c.Windows {
		types[i] = "full_attention"
		if w > 0 {
			types[i], window = "sliding_attention", w
		}
	}
	for k, v := range map[string]any{
		"architectures": []string{"GptOssForCausalLM"}, "model_type": "gpt_oss", "attention_bias": true, "attention_dropout": real(0, 64),
		"experts_per_token": c.TopK, "num_experts_per_tok": c.TopK, "num_local_experts": c.Experts, "head_dim": c.HeadDim,
		"hidden_act": "silu", "hidden_size": c.Hidden, "initial_context_length": c.Rope.OriginalContext, "initializer_range": 0.02,
		"intermediate_size": c.Intermediate, "layer_types": types, "max_position_embeddings": c.MaxPosition,
		"num_attention_heads": c.Heads, "num_key_value_heads": c.KVHeads, "num_hidden_layers": c.Layers, "output_router_logits": false,
		"rms_norm_eps": real(float64(c.Eps), 32), "router_aux_loss_coef": 0.9, "swiglu_limit": real(float64(c.SwigluLimit), 32), "tie_word_embeddings": false,
		"use_cache": true, "vocab_size": c.Vocab,
	} {
		out[k] = v
	}
	if c.SwigluAlpha != publishedAlpha {
		out["swiglu_alpha"] = real(float64(c.SwigluAlpha), 32)
	}
	if window > 0 {
		out["sliding_window"] = window
	}
	if len(c.EOS) > 0 {
		out["eos_token_id"] = c.EOS[0]
	}
	if c.Pad >= 0 {
		out["pad_token_id"] = c.Pad
	}
	if c.Rope.OriginalContext == 0 {
		delete(out, "initial_context_length")
	}
}

// ropeConfig writes rope_theta and rope_scaling, which every version of Transformers reads, in place of version 5's
// rope_parameters, which older ones ignore without a word.
func (b *builder) ropeConfig(out map[string]any) {
	r := b.cfg.Rope
	delete(out, "rope_parameters")
	out["rope_theta"] = r.Theta
	if !r.Yarn {
		out["rope_scaling"] = nil
		return
	}
	out["rope_scaling"] = map[string]any{
		"rope_type": "yarn", "factor": real(r.Factor, 64), "beta_fast": real(r.BetaFast, 64), "beta_slow": real(r.BetaSlow, 64),
		"original_max_position_embeddings": r.OriginalContext, "truncate": r.Truncate,
	}
}

// bnbConfig is the quantization_config of a bitsandbytes checkpoint; nil if nothing in it is 4-bit.
func (b *builder) bnbConfig() map[string]any {
	kind, double, attention := "", false, false
	round := "bfloat16"
	for _, it := range b.plan.items {
		c, ok := it.codec.(bnbCodec)
		if !ok {
			continue
		}
		kind, double, round = strings.ToLower(c.format.String()), double || c.nested > 0, dtypeName(c.round)
		attention = attention || it.weight.kind() == KindAttention
	}
	if kind == "" {
		return nil
	}
	skip := []string{"lm_head", "router", "mlp.gate"}
	if !attention {
		skip = append(skip, "self_attn")
	}
	return map[string]any{
		"quant_method": "bitsandbytes", "load_in_4bit": true, "load_in_8bit": false, "_load_in_4bit": true, "_load_in_8bit": false,
		"bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": double, "bnb_4bit_compute_dtype": round,
		"bnb_4bit_quant_storage": "uint8", "llm_int8_skip_modules": skip, "llm_int8_threshold": real(6, 64),
		"llm_int8_enable_fp32_cpu_offload": false, "llm_int8_has_fp16_weight": false,
	}
}

// openAIFiles adds OpenAI's form of config.json and the small files.
func (b *builder) openAIFiles(src *checkpoint.Checkpoint) error {
	c, r := b.cfg, b.cfg.Rope
	config := fmt.Appendf(nil, `{"num_hidden_layers": %d, "num_experts": %d, "experts_per_token": %d, "vocab_size": %d, "hidden_size": %d, `+
		`"intermediate_size": %d, "swiglu_limit": %s, "head_dim": %d, "num_attention_heads": %d, "num_key_value_heads": %d, `+
		`"sliding_window": %d, "initial_context_length": %d, "rope_theta": %v, "rope_scaling_factor": %s, "rope_ntk_alpha": %v, "rope_ntk_beta": %v}`,
		c.Layers, c.Experts, c.TopK, c.Vocab, c.Hidden, c.Intermediate, real(float64(c.SwigluLimit), 32), c.HeadDim, c.Heads, c.KVHeads,
		c.Windows[0], r.OriginalContext, r.Theta, real(r.Factor, 64), r.BetaSlow, r.BetaFast)
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, config, "", "  "); err != nil {
		return err
	}
	pretty.WriteByte('\n')
	b.plan.extra = append(b.plan.extra, sideFile{"config.json", pretty.Bytes()})
	return b.carry(folder(src.Path()))
}

// real prints a number with a point: Transformers takes 7 for an integer and refuses it where it wants a float. bits is
// the precision that the number came in.
func real(x float64, bits int) json.RawMessage {
	s := strconv.FormatFloat(x, 'g', -1, bits)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return json.RawMessage(s)
}
