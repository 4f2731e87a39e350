package model

import (
	"fmt"
	"math"

	"hearth/internal/checkpoint"
	"hearth/internal/device"
)

// NewSpec turns a checkpoint's configuration into what a device must know.
func NewSpec(c *checkpoint.Config) (device.Spec, error) {
	freq, scale, err := rotary(c.HeadDim, &c.Rope)
	if err != nil {
		return device.Spec{}, err
	}
	return device.Spec{
		Layers: c.Layers, Hidden: c.Hidden, Intermediate: c.Intermediate,
		Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim,
		Experts: c.Experts, TopK: c.TopK, Vocab: c.Vocab,
		Eps: c.Eps, SwigluAlpha: c.SwigluAlpha, SwigluLimit: c.SwigluLimit,
		Windows: c.Windows, InvFreq: freq, RopeScale: scale,
	}, nil
}

// rotary gives the dim/2 frequencies of the rotary embedding after YaRN, and the factor on cosine and sine
// (spec/model.md 5; Peng et al. 2023, "YaRN"). Frequencies above the ramp stay, those below are divided by the
// factor, and the ramp's ends are not rounded to whole indices unless the configuration says truncate.
func rotary(dim int, r *checkpoint.Rope) (freq []float32, scale float32, err error) {
	if r.Theta <= 1 {
		return nil, 0, fmt.Errorf("rope_theta is %v: want more than 1", r.Theta)
	}
	freq = make([]float32, dim/2)
	if !r.Yarn {
		for i := range freq {
			freq[i] = float32(math.Pow(r.Theta, -2*float64(i)/float64(dim)))
		}
		return freq, 1, nil
	}
	if r.Factor < 1 || r.OriginalContext < 1 || r.BetaFast <= 0 || r.BetaSlow <= 0 {
		return nil, 0, fmt.Errorf("YaRN with factor %v, original context %d, beta_fast %v, beta_slow %v: want a factor of 1 or more and the rest positive",
			r.Factor, r.OriginalContext, r.BetaFast, r.BetaSlow)
	}
	// index at which a dimension turns beta times over the original context
	index := func(beta float64) float64 {
		return float64(dim) * math.Log(float64(r.OriginalContext)/(beta*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high := index(r.BetaFast), index(r.BetaSlow)
	if r.Truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(dim-1))
	if low == high {
		high += 0.001 // a step instead of a ramp; transformers' guard against the division
	}
	for i := range freq {
		plain := math.Pow(r.Theta, -2*float64(i)/float64(dim))
		ramp := max(0, min(1, (float64(i)-low)/(high-low)))
		freq[i] = float32(ramp*plain/r.Factor + (1-ramp)*plain)
	}
	return freq, float32(0.1*math.Log(r.Factor) + 1), nil
}
