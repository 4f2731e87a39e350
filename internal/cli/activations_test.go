package cli

import (
	"encoding/json"
	"math"
	"testing"

	"hearth/internal/testmodel"
)

// Rounded activations against transformers in float64, prompt by prompt: further off than float32 may be, so that they are
// known to be at work, and not by much: the weights are random, so what is lost on the way is not made good again.
func TestInt8ActivationsOnFixtures(t *testing.T) {
	for folder, values := range map[string]string{
		"tiny-a/hf-mxfp4":            "tiny-a/mxfp4",     // experts, codes of neighbours in a byte
		"tiny-a/gguf-ollama-v0.12.6": "tiny-a/mxfp4",     // experts, codes of weights 16 apart
		"tiny-a/gguf-q8_0":           "tiny-a/gguf-q8_0", // everything but the router
		"tiny-square/hf-mxfp4":       "tiny-square/mxfp4",
	} {
		t.Run(folder, func(t *testing.T) {
			var want struct {
				Prompts []struct {
					Name      string
					IDs       []int32
					Positions []int
					Next      []*float64 `json:"next_logprobs"`
				}
			}
			if err := json.Unmarshal(testmodel.Expected(t, values+".json"), &want); err != nil {
				t.Fatal(err)
			}
			url := startServerOn(t, testmodel.Dir(t, folder), deviceFlags{device: "cpu", activations: "int8"}) + "/v1/completions"
			var worst, sum, n float64
			for _, p := range want.Prompts {
				if len(p.IDs) > 300 || len(p.IDs) > 100 && testmodel.Race {
					continue
				}
				c := post(t, url, map[string]any{"prompt": p.IDs, "echo": true, "logprobs": 0, "max_tokens": 0})
				if c.Error != nil || len(c.Choices) != 1 {
					t.Fatalf("%s: %+v", p.Name, c)
				}
				got := c.Choices[0].Logprobs.TokenLogprobs
				for i, at := range p.Positions {
					if p.Next[i] == nil {
						continue
					}
					d := math.Abs(*got[at+1] - *p.Next[i])
					worst, sum, n = max(worst, d), sum+d, n+1
				}
			}
			t.Logf("off by up to %.2g, %.2g in the mean of %v", worst, sum/n, n)
			if sum/n < meanTolerance || sum/n > 0.1 || worst > 2 {
				t.Errorf("off by up to %.2g, %.2g in the mean of %v", worst, sum/n, n)
			}
		})
	}
}
