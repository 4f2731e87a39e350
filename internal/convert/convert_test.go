package convert

import (
	"context"
	"path/filepath"
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

func TestSmoke(t *testing.T) {
	for _, f := range []string{"tiny-a/hf-mxfp4", "tiny-a/unsloth-nf4-dq", "tiny-a/fused-nf4", "tiny-a/gguf-bf16", "tiny-a/gguf-q8_0", "tiny-a/unsloth-nf4-dq-attn", "tiny-a/per-expert-split-bf16"} {
		for _, to := range Targets() {
			t.Run(f+" "+to, func(t *testing.T) {
				p, err := New(open(t, testmodel.Dir(t, f)), filepath.Join(t.TempDir(), "out"), Options{To: Target(to)})
				if err != nil {
					t.Fatal(err)
				}
				r, err := p.Run(context.Background(), RunOptions{})
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range r.Parts {
					t.Log(x.Kind, x.From, x.To, x.Bytes, x.Exact, x.Error)
				}
				t.Log(p.Notes)
			})
		}
	}
}
