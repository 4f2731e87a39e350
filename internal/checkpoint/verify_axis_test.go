package checkpoint

import (
	"testing"

	"hearth/internal/testmodel"
)

// tiny-square hides an orientation from every shape; the blocks show it.
func TestBlockAxes(t *testing.T) {
	c := open(t, testmodel.Dir(t, "tiny-square/hf-bf16"))
	for l := range c.Config().Layers {
		w, err := c.Layer(l)
		if err != nil {
			t.Fatal(err)
		}
		p := w.Down.Weight.Even[0]
		if in, out := blockAxes(&p); !in || out {
			t.Errorf("layer %d as it is: blocks along in %v, out %v", l, in, out)
		}
		p.Transposed = !p.Transposed
		if in, out := blockAxes(&p); in || !out {
			t.Errorf("layer %d read the wrong way: blocks along in %v, out %v", l, in, out)
		}
	}
	w, err := open(t, testmodel.Dir(t, "tiny-square/unsloth-nf4-dq")).Layer(0)
	if err != nil {
		t.Fatal(err)
	}
	if in, out := blockAxes(&w.Down.Weight.Even[0]); in || out {
		t.Errorf("NF4 values form MXFP4 blocks: in %v, out %v", in, out)
	}
}

func TestVerifySquareModels(t *testing.T) {
	for _, name := range []string{"tiny-square/hf-bf16", "tiny-a/hf-bf16", "tiny-a/per-expert-bf16"} {
		if r := open(t, testmodel.Dir(t, name)).Verify(nil); len(r.Findings) > 0 {
			t.Errorf("%s: %v", name, r.Findings)
		}
	}
}
