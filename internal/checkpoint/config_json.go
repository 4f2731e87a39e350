package checkpoint

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// jsonNames are the names that every dialect of config.json shares; readers fill in the rest as they meet them.
func jsonNames(f *fields) fieldNames {
	return fieldNames{
		layers: "num_hidden_layers", hidden: "hidden_size", intermediate: "intermediate_size",
		heads: "num_attention_heads", kvHeads: "num_key_value_heads", headDim: "head_dim",
		experts: f.first("num_local_experts", "num_experts"), topK: f.first("num_experts_per_tok", "experts_per_token"),
		vocab: "vocab_size", position: "max_position_embeddings",
		eps: "rms_norm_eps", alpha: "swiglu_alpha", limit: "swiglu_limit", theta: "rope_theta",
	}
}

// modelConfig is what config.json says beyond the architecture.
type modelConfig struct {
	Config
	names  fieldNames
	tied   bool   // tie_word_embeddings
	method string // quantization_config.quant_method
	notes  []string
}

// readConfig reads config.json in the folder, and the end tokens of generation_config.json where there is one.
func readConfig(dir string) (*modelConfig, error) {
	path := filepath.Join(dir, "config.json")
	b, err := readJSONFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the model's configuration: %w", err)
	}
	c, err := parseConfig(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	path = filepath.Join(dir, "generation_config.json")
	b, err = readJSONFile(path)
	if os.IsNotExist(err) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if err := c.parseGeneration(b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// parseGeneration takes the end tokens of generation_config.json, which lists more of them than config.json.
func (c *modelConfig) parseGeneration(b []byte) error {
	f, err := parseFields(b)
	if err != nil {
		return err
	}
	if eos := f.ids("eos_token_id", c.Vocab); len(eos) > 0 {
		c.EOS = eos
	}
	if bos := f.id("bos_token_id", c.Vocab); bos >= 0 {
		c.BOS = bos
	}
	if n := f.pastNote("generation_config.json", c.Vocab); n != "" {
		c.notes = append(c.notes, n)
	}
	return f.err
}

// parseConfig reads a config.json in any dialect: OpenAI's, Transformers 4, Transformers 5.
func parseConfig(b []byte) (*modelConfig, error) {
	f, err := parseFields(b)
	if err != nil {
		return nil, err
	}
	if err := checkModelType(f); err != nil {
		return nil, err
	}
	c := &modelConfig{names: jsonNames(f)}
	c.Layers = f.size("num_hidden_layers")
	c.Hidden = f.size("hidden_size")
	c.Intermediate = f.size("intermediate_size")
	c.Heads = f.size("num_attention_heads")
	c.KVHeads = f.size("num_key_value_heads")
	c.HeadDim = f.size("head_dim")
	c.Experts = f.size(c.names.experts)
	c.TopK = f.size(c.names.topK)
	c.Vocab = f.size("vocab_size")
	c.SwigluAlpha = publishedAlpha // no published file states it, so its absence is no news
	if f.has("swiglu_alpha") {
		c.SwigluAlpha = float32(f.realOr(publishedAlpha, "swiglu_alpha"))
	}
	// OpenAI's own file states neither of these two.
	c.Eps = float32(f.realOr(publishedEps, "rms_norm_eps"))
	c.SwigluLimit = float32(f.realOr(publishedLimit, "swiglu_limit"))
	c.readRope(f)
	c.readPosition(f)
	c.tied = f.has("tie_word_embeddings") && f.boolOr(false, "tie_word_embeddings")
	if q := f.object("quantization_config"); q != nil {
		c.method = q.text("quant_method")
		f.join(q)
	}
	if f.err != nil {
		return nil, f.err
	}
	if err := c.check(&c.names); err != nil {
		return nil, err
	}
	// Only now: the vocabulary and the number of layers are known to be sane.
	c.EOS = f.ids("eos_token_id", c.Vocab)
	c.Pad, c.BOS = f.id("pad_token_id", c.Vocab), f.id("bos_token_id", c.Vocab)
	if c.readWindows(f); f.err != nil {
		return nil, f.err
	}
	if len(f.took) > 0 {
		c.notes = append(c.notes, "config.json does not say, so GPT-OSS's own value is used: "+strings.Join(f.took, ", "))
	}
	if n := f.pastNote("config.json", c.Vocab); n != "" {
		c.notes = append(c.notes, n)
	}
	return c, nil
}

// checkModelType refuses other models by what the file says of itself. OpenAI's own file says nothing.
func checkModelType(f *fields) error {
	if t := f.text("model_type"); t != "" && t != "gpt_oss" {
		return fmt.Errorf("model_type: %q is not gpt_oss: only GPT-OSS models can be read", t)
	}
	if f.err == nil && !f.has("model_type") && f.has("architectures") {
		var list []string
		if f.decode("architectures", &list) && !slices.Contains(list, "GptOssForCausalLM") {
			return fmt.Errorf("architectures: %q: only GPT-OSS models (GptOssForCausalLM) can be read", list)
		}
	}
	return f.err
}

// readRope reads rope_parameters (Transformers 5), rope_scaling (Transformers 4) or OpenAI's flat fields.
func (c *modelConfig) readRope(f *fields) {
	if !f.has("rope_scaling") && !f.has("rope_parameters") && f.has("rope_scaling_factor") {
		c.names.factor, c.names.original = "rope_scaling_factor", "initial_context_length"
		c.names.fast, c.names.slow = "rope_ntk_beta", "rope_ntk_alpha"
		c.Rope = Rope{
			Yarn: true, Theta: f.realOr(publishedTheta, "rope_theta"), Factor: f.realOr(publishedFactor, "rope_scaling_factor"),
			BetaFast:        f.realOr(publishedFast, "rope_ntk_beta"),
			BetaSlow:        f.realOr(publishedSlow, "rope_ntk_alpha"),
			OriginalContext: f.sizeOr(publishedOriginal, "initial_context_length"),
		}
		return
	}
	r := f.object(f.first("rope_parameters", "rope_scaling"))
	switch {
	case f.err != nil:
		return
	case r != nil:
		c.readYarn(f, r)
		f.join(r)
	default:
		if _, null := f.m["rope_scaling"]; null {
			c.notes = append(c.notes, "config.json says rope_scaling null: rotary embedding without YaRN")
			c.Rope = Rope{Theta: f.realOr(publishedTheta, "rope_theta")}
			return
		}
		c.names.original = "initial_context_length"
		f.took = append(f.took, "rope_scaling yarn, factor 32, original context 4096")
		c.Rope = Rope{
			Yarn: true, Theta: f.realOr(publishedTheta, "rope_theta"), Factor: publishedFactor,
			BetaFast: publishedFast, BetaSlow: publishedSlow,
			OriginalContext: f.sizeOr(publishedOriginal, "initial_context_length"),
		}
	}
}

// readYarn reads the object of rope_scaling or rope_parameters.
func (c *modelConfig) readYarn(f, r *fields) {
	if r.has("rope_theta") {
		c.names.theta = r.under + "rope_theta"
		c.Rope.Theta = r.realOr(publishedTheta, "rope_theta")
	} else {
		c.Rope.Theta = f.realOr(publishedTheta, "rope_theta")
	}
	kindName := r.first("rope_type", "type")
	switch kind := r.text(kindName); kind {
	case "default":
		c.notes = append(c.notes, fmt.Sprintf("config.json says %s%s default: rotary embedding without YaRN", r.under, kindName))
		return
	case "yarn":
	default:
		r.fail(kindName, "%q is not supported (yarn, default)", kind)
		return
	}
	c.names.factor, c.names.fast, c.names.slow = r.under+"factor", r.under+"beta_fast", r.under+"beta_slow"
	c.names.original = r.under + "original_max_position_embeddings"
	c.Rope.Yarn = true
	c.Rope.Factor = r.realOr(publishedFactor, "factor")
	c.Rope.BetaFast = r.realOr(publishedFast, "beta_fast")
	c.Rope.BetaSlow = r.realOr(publishedSlow, "beta_slow")
	if r.has("original_max_position_embeddings") {
		c.Rope.OriginalContext = r.size("original_max_position_embeddings")
	} else {
		c.names.original = "initial_context_length"
		c.Rope.OriginalContext = f.sizeOr(publishedOriginal, c.names.original)
	}
	c.Rope.Truncate = r.boolOr(false, "truncate")
	r.refuseScaled(c.Rope.Factor)
}

// refuseScaled refuses settings of YaRN's magnitude other than the formula 0.1 ln(factor) + 1, and partial rotation.
func (r *fields) refuseScaled(factor float64) {
	published := 0.1*math.Log(factor) + 1
	if r.has("attention_factor") {
		if a := r.realOr(0, "attention_factor"); math.Abs(a-published) > 1e-6*published {
			r.fail("attention_factor", "%v is not supported (only %v, which follows from factor)", a, published)
		}
	}
	for _, name := range []string{"mscale", "mscale_all_dim"} {
		if r.has(name) {
			r.fail(name, "not supported: GPT-OSS does not use it")
		}
	}
	if r.has("partial_rotary_factor") && r.realOr(1, "partial_rotary_factor") != 1 {
		r.fail("partial_rotary_factor", "only 1 is supported")
	}
}

// readPosition reads the longest context. OpenAI's own file leaves it to the reader to multiply.
func (c *modelConfig) readPosition(f *fields) {
	if f.has("max_position_embeddings") {
		c.MaxPosition = f.size("max_position_embeddings")
		return
	}
	n := float64(c.Rope.OriginalContext) * c.Rope.Factor
	if !(n >= 1 && n <= maxSize) {
		f.fail("max_position_embeddings", "missing, and %d x %v gives no context length", c.Rope.OriginalContext, c.Rope.Factor)
		return
	}
	c.MaxPosition = f.sizeOr(int(n), "max_position_embeddings")
}

// readWindows reads layer_types and sliding_window.
func (c *modelConfig) readWindows(f *fields) {
	var types []string
	if f.has("layer_types") {
		if !f.decode("layer_types", &types) {
			return
		}
		if len(types) != c.Layers {
			f.fail("layer_types", "%d entries for %d layers", len(types), c.Layers)
			return
		}
	}
	slides := types == nil || slices.Contains(types, "sliding_attention")
	window := 0
	if slides {
		if _, present := f.m["sliding_window"]; present && !f.has("sliding_window") {
			f.fail("sliding_window", "null, but layers slide")
			return
		}
		if window = f.sizeOr(publishedWindow, "sliding_window"); window < 1 || window > maxSize {
			f.fail("sliding_window", "%d is not in 1..%d", window, maxSize)
			return
		}
	}
	if c.Windows = alternate(c.Layers, window); types == nil {
		return
	}
	for i, t := range types {
		switch t {
		case "sliding_attention":
			c.Windows[i] = window
		case "full_attention":
			c.Windows[i] = 0
		default:
			f.fail("layer_types", "layer %d: %q is neither sliding_attention nor full_attention", i, t)
			return
		}
	}
}
