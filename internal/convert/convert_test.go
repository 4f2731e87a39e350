package convert

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth/internal/checkpoint"
	"hearth/internal/testmodel"
)

func open(t testing.TB, path string) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// convert runs a conversion and returns where its result lies.
func convert(t testing.TB, src string, o Options) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), string(o.To))
	p, err := New(open(t, src), dst, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(context.Background(), RunOptions{}); err != nil {
		t.Fatal(err)
	}
	return dst
}

// Every layout into every target: what is planned as exact reads back so (Run verifies it), whatever it came from.
func TestEveryPair(t *testing.T) {
	for _, f := range []string{"tiny-a/fused-nf4-dq", "tiny-a/gguf-q8_0", "tiny-a/unsloth-nf4-dq-attn", "tiny-a/per-expert-split-bf16"} {
		for _, to := range Targets() {
			t.Run(f+" to "+to, func(t *testing.T) {
				if testmodel.Race && f != "tiny-a/unsloth-nf4-dq-attn" {
					t.Skip("the race detector is on: one source runs")
				}
				t.Parallel()
				p, err := New(open(t, testmodel.Dir(t, f)), filepath.Join(t.TempDir(), "out"), Options{To: Target(to)})
				if err != nil {
					t.Fatal(err)
				}
				r, err := p.Run(context.Background(), RunOptions{})
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range r.Parts {
					if !x.Exact && (x.Error == nil || x.Error.Relative() > 0.15) {
						t.Errorf("%s from %s to %s: %v", x.Kind, x.From, x.To, x.Error)
					}
				}
			})
		}
	}
}

// Transformers refuses an integer where it wants a float.
func TestFreshConfigHasFloats(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(convert(t, testmodel.Dir(t, "tiny-a/openai-original"), Options{To: HFMXFP4}), "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"swiglu_limit": 7.0`, `"rms_norm_eps": 1e-05`, `"factor": 32.0`, `"beta_fast": 32.0`, `"attention_dropout": 0.0`, `"rope_theta": 150000`} {
		if !strings.Contains(string(b), want+",") && !strings.Contains(string(b), want+"\n") {
			t.Errorf("config.json has no %s", want)
		}
	}
}
