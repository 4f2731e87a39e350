package checkpoint

import (
	"fmt"
	"math"
)

// The published constants of GPT-OSS, for configurations that do not state them.
const (
	publishedEps      = 1e-5
	publishedAlpha    = 1.702
	publishedLimit    = 7.0
	publishedWindow   = 128
	publishedTheta    = 150000
	publishedFactor   = 32
	publishedOriginal = 4096
	publishedFast     = 32
	publishedSlow     = 1
	publishedTopK     = 4
)

// Config is the architecture of one GPT-OSS model, from any dialect of configuration. All values have been checked:
// sizes are at least 1 and fit each other.
type Config struct {
	Layers, Hidden, Intermediate  int
	Heads, KVHeads, HeadDim       int
	Experts, TopK                 int
	Vocab                         int // rows of the embedding
	MaxPosition                   int // longest context
	Eps, SwigluAlpha, SwigluLimit float32
	Windows                       []int // per layer: keys that a query sees, itself included; 0 is full attention
	Rope                          Rope
	EOS                           []int32 // ids that end generation, as far as the checkpoint says
	Pad, BOS                      int32   // -1: absent
}

// Rope holds the constants of the rotary embedding.
type Rope struct {
	Theta              float64
	Yarn               bool // the values below apply
	Factor             float64
	BetaFast, BetaSlow float64
	OriginalContext    int
	Truncate           bool // round the ends of the ramp to whole dimensions
}

// Upper limits that no model comes near, so that a corrupt file cannot ask for absurd work.
const (
	maxLayers = 1 << 12
	maxSize   = 1 << 20
)

// fieldNames are the names under which a dialect states the sizes, for messages.
type fieldNames struct {
	layers, hidden, intermediate, heads, kvHeads, headDim, experts, topK, vocab, position string
	eps, alpha, limit, theta, factor, fast, slow, original                                string
}

// check makes sure that the values are possible and fit each other.
func (c *Config) check(f *fieldNames) error {
	sizes := []struct {
		name  string
		value int
		most  int
	}{
		{f.layers, c.Layers, maxLayers}, {f.hidden, c.Hidden, maxSize}, {f.intermediate, c.Intermediate, maxSize},
		{f.heads, c.Heads, maxSize}, {f.kvHeads, c.KVHeads, maxSize}, {f.headDim, c.HeadDim, maxSize},
		{f.experts, c.Experts, maxSize}, {f.topK, c.TopK, maxSize}, {f.vocab, c.Vocab, maxSize},
		{f.position, c.MaxPosition, maxSize},
	}
	for _, s := range sizes {
		if s.value < 1 || s.value > s.most {
			return fmt.Errorf("%s: %d is not in 1..%d", s.name, s.value, s.most)
		}
	}
	switch {
	case c.HeadDim%2 != 0:
		return fmt.Errorf("%s: %d is odd: rotary embedding needs pairs", f.headDim, c.HeadDim)
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("%s: %d is not a multiple of %s %d", f.heads, c.Heads, f.kvHeads, c.KVHeads)
	case c.TopK > c.Experts:
		return fmt.Errorf("%s: %d is more than %s %d", f.topK, c.TopK, f.experts, c.Experts)
	case int64(c.Heads)*int64(c.HeadDim) > maxSize:
		return fmt.Errorf("%s: %d heads of %d are wider than %d", f.heads, c.Heads, c.HeadDim, maxSize)
	}
	return c.checkReals(f)
}

func (c *Config) checkReals(f *fieldNames) error {
	positive := func(x float64) bool { return x > 0 && !math.IsInf(x, 0) }
	switch r := &c.Rope; {
	case !(c.Eps > 0 && c.Eps < 1):
		return fmt.Errorf("%s: %v is not between 0 and 1", f.eps, c.Eps)
	case !positive(float64(c.SwigluAlpha)):
		return fmt.Errorf("%s: %v is not a positive number", f.alpha, c.SwigluAlpha)
	case !positive(float64(c.SwigluLimit)):
		return fmt.Errorf("%s: %v is not a positive number", f.limit, c.SwigluLimit)
	case !positive(r.Theta) || r.Theta <= 1:
		return fmt.Errorf("%s: %v is not above 1", f.theta, r.Theta)
	case !r.Yarn:
		return nil
	case !positive(r.Factor) || r.Factor < 1:
		return fmt.Errorf("%s: %v is below 1", f.factor, r.Factor)
	case r.OriginalContext < 1 || r.OriginalContext > maxSize:
		return fmt.Errorf("%s: %d is not in 1..%d", f.original, r.OriginalContext, maxSize)
	case !positive(r.BetaSlow):
		return fmt.Errorf("%s: %v is not a positive number", f.slow, r.BetaSlow)
	case !positive(r.BetaFast) || r.BetaFast <= r.BetaSlow:
		return fmt.Errorf("%s: %v is not above %s %v", f.fast, r.BetaFast, f.slow, r.BetaSlow)
	}
	return nil
}

// alternate gives the windows of a model that does not list its layers: even layers slide, odd ones see everything.
func alternate(layers, window int) []int {
	w := make([]int, layers)
	for i := 0; i < layers; i += 2 {
		w[i] = window
	}
	return w
}
