package checkpoint

import (
	"strings"
)

func ggufNames(arch string) *fieldNames {
	k := func(name string) string { return `metadata "` + arch + "." + name + `"` }
	return &fieldNames{
		layers: k("block_count"), hidden: k("embedding_length"), intermediate: k("expert_feed_forward_length"),
		heads: k("attention.head_count"), kvHeads: k("attention.head_count_kv"), headDim: k("attention.key_length"),
		experts: k("expert_count"), topK: k("expert_used_count"), vocab: `metadata "` + ggufTokens + `"`,
		position: k("context_length"), eps: k("attention.layer_norm_rms_epsilon"), alpha: "swiglu_alpha", limit: "swiglu_limit",
		theta: k("rope.freq_base"), factor: k("rope.scaling.factor"), fast: k("rope.scaling.yarn_beta_fast"),
		slow: k("rope.scaling.yarn_beta_slow"), original: k("rope.scaling.original_context_length"),
	}
}

// ggufConfig reads the configuration from a file's metadata. What converters leave out or write as 0 takes GPT-OSS's
// own values.
func ggufConfig(m *metadata, v *vocabulary) (*Config, []string, error) {
	c := &Config{Vocab: v.size}
	c.Layers = m.size("block_count")
	c.Hidden = m.size("embedding_length")
	if _, ok := m.m[m.arch+".expert_feed_forward_length"]; ok {
		c.Intermediate = m.size("expert_feed_forward_length")
	} else {
		c.Intermediate = m.size("feed_forward_length")
	}
	c.Heads, c.KVHeads = m.size("attention.head_count"), m.size("attention.head_count_kv")
	c.HeadDim = m.size("attention.key_length")
	if n := m.size("attention.value_length"); n != c.HeadDim {
		m.fail(m.arch+".attention.value_length", "%d differs from key_length %d", n, c.HeadDim)
	}
	c.Experts, c.TopK = m.size("expert_count"), m.sizeOr(publishedTopK, "expert_used_count")
	c.MaxPosition = m.size("context_length")
	c.Eps = float32(m.realOr(publishedEps, "attention.layer_norm_rms_epsilon"))
	// GGUF has no keys for these two.
	c.SwigluAlpha, c.SwigluLimit = publishedAlpha, publishedLimit
	c.ggufRope(m)
	window := m.sizeOr(publishedWindow, "attention.sliding_window")
	c.EOS, c.Pad, c.BOS = v.ends(), v.id(m, "tokenizer.ggml.padding_token_id"), v.specialOr("<|startoftext|>", -1)
	if m.err != nil {
		return nil, nil, m.err
	}
	if err := c.check(ggufNames(m.arch)); err != nil {
		return nil, nil, err
	}
	if window < 1 || window > maxSize {
		m.fail(m.arch+".attention.sliding_window", "%d is not in 1..%d", window, maxSize)
	}
	c.Windows = alternate(c.Layers, window)
	c.ggufPattern(m, window)
	var notes []string
	if len(m.took) > 0 {
		notes = append(notes, "the file does not say, so GPT-OSS's own value is used: "+strings.Join(m.took, ", "))
	}
	return c, notes, m.err
}

func (c *Config) ggufRope(m *metadata) {
	c.Rope = Rope{
		Yarn:            true,
		Theta:           m.realOr(publishedTheta, "rope.freq_base"),
		Factor:          m.realOr(publishedFactor, "rope.scaling.factor"),
		OriginalContext: m.sizeOr(publishedOriginal, "rope.scaling.original_context_length"),
		BetaFast:        m.realOr(publishedFast, "rope.scaling.yarn_beta_fast"),
		BetaSlow:        m.realOr(publishedSlow, "rope.scaling.yarn_beta_slow"),
	}
	switch kind := m.text(m.arch + ".rope.scaling.type"); kind {
	case "yarn":
	case "":
		m.took = append(m.took, "rope.scaling.type yarn")
	case "none":
		c.Rope.Yarn = false
	default:
		m.fail(m.arch+".rope.scaling.type", "%q is not supported (yarn, none)", kind)
	}
	for _, name := range []string{"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_ext_factor"} {
		if key := m.arch + "." + name; m.m[key].data != nil {
			if x := m.real(key); x != 1 {
				m.fail(key, "%v is not supported (only 1)", x)
			}
		}
	}
}

// ggufPattern honours a stated pattern of sliding layers: a list of booleans, or the period 2 that GPT-OSS has.
func (c *Config) ggufPattern(m *metadata, window int) {
	key := m.arch + ".attention.sliding_window_pattern"
	v, ok := m.m[key]
	switch {
	case !ok:
	case v.kind == kindArray && v.elem == kindBool:
		if v.n != c.Layers {
			m.fail(key, "%d entries for %d layers", v.n, c.Layers)
			return
		}
		for i, slides := range v.data {
			c.Windows[i] = 0
			if slides != 0 {
				c.Windows[i] = window
			}
		}
	default:
		if x := m.real(key); x != 2 {
			m.fail(key, "%v is not supported (2, or a list of booleans)", x)
		}
	}
}
