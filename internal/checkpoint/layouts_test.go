package checkpoint

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

// fixtures are the tiny models; values names the set of weights: folders of one set hold the same numbers.
var fixtures = []struct {
	name   string
	layout Layout
	values string
}{
	{"tiny-a/hf-mxfp4", HFMXFP4, "tiny-a/mxfp4"},
	{"tiny-a/openai-original", OpenAI, "tiny-a/mxfp4"},
	{"tiny-a/hf-bf16", HFDense, "tiny-a/mxfp4"},
	{"tiny-a/per-expert-bf16", PerExpertDense, "tiny-a/mxfp4"},
	{"tiny-a/per-expert-split-bf16", SplitExperts, "tiny-a/mxfp4"},
	{"tiny-a/gguf-bf16", GGUF, "tiny-a/mxfp4"},
	{"tiny-a/gguf-fused-qkv", GGUF, "tiny-a/mxfp4"},
	{"tiny-a/gguf-ollama-v0.11.1", GGUFOllama, "tiny-a/mxfp4"},
	{"tiny-a/gguf-ollama-v0.11.8", GGUFOllama, "tiny-a/mxfp4"},
	{"tiny-a/gguf-ollama-v0.12.6", GGUFOllama, "tiny-a/mxfp4"},
	{"tiny-a/gguf-ollama-v0.30.0", GGUF, "tiny-a/mxfp4"},
	{"tiny-a/gguf-q8_0", GGUF, "tiny-a/gguf-q8_0"},
	{"tiny-a/unsloth-nf4-dq", PerExpertBNB, "tiny-a/unsloth-nf4-dq"},
	{"tiny-a/unsloth-nf4-dq-attn", PerExpertBNB, "tiny-a/unsloth-nf4-dq-attn"},
	{"tiny-a/unsloth-nf4", PerExpertBNB, "tiny-a/unsloth-nf4"},
	{"tiny-a/unsloth-fp4-dq", PerExpertBNB, "tiny-a/unsloth-fp4-dq"},
	{"tiny-a/fused-nf4", FusedBNB, "tiny-a/fused-nf4"},
	{"tiny-a/fused-nf4-dq", FusedBNB, "tiny-a/fused-nf4-dq"},
	{"tiny-square/hf-mxfp4", HFMXFP4, "tiny-square/mxfp4"},
	{"tiny-square/hf-bf16", HFDense, "tiny-square/mxfp4"},
	{"tiny-square/unsloth-nf4-dq", PerExpertBNB, "tiny-square/unsloth-nf4-dq"},
	{"tiny-square/fused-nf4", FusedBNB, "tiny-square/fused-nf4"},
}

func open(t testing.TB, path string) *Checkpoint {
	t.Helper()
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// canonical decodes a whole checkpoint: canonical name -> values.
func canonical(t testing.TB, c *Checkpoint) map[string][]float32 {
	t.Helper()
	m := map[string][]float32{}
	plane := func(name string, p dtype.Plane, err error) {
		if err == nil {
			err = p.Check()
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m[name] = make([]float32, p.Rows*p.Cols)
		p.DecodeRows(m[name], 0, p.Rows)
	}
	linear := func(name string, l Linear) {
		plane(name+".weight", l.Weight, nil)
		m[name+".bias"] = l.Bias
	}
	experts := func(name string, x Experts) {
		rows, cols := x.Weight.Shape()
		for _, p := range append(x.Weight.Even, x.Weight.Odd...) {
			if err := p.Check(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		v := make([]float32, x.Weight.Experts()*rows*cols)
		for e := range x.Weight.Experts() {
			x.Weight.DecodeRows(v[e*rows*cols:], e, 0, rows)
		}
		m[name+".weight"], m[name+".bias"] = v, x.Bias
	}
	p, err := c.Embedding()
	plane("embed", p, err)
	p, err = c.Head()
	plane("head", p, err)
	if m["final_norm"], err = c.FinalNorm(); err != nil {
		t.Fatal(err)
	}
	for n := range c.Config().Layers {
		l, err := c.Layer(n)
		if err != nil {
			t.Fatal(err)
		}
		at := string(rune('0'+n)) + "."
		m[at+"attn_norm"], m[at+"mlp_norm"], m[at+"sinks"] = l.AttnNorm, l.MLPNorm, l.Sinks
		linear(at+"q", l.Q)
		linear(at+"k", l.K)
		linear(at+"v", l.V)
		linear(at+"o", l.O)
		linear(at+"router", l.Router)
		experts(at+"gate_up", l.GateUp)
		experts(at+"down", l.Down)
	}
	return m
}

// diff compares values bit for bit, except that the two zeros are equal: ggml decodes MXFP4 code 8 to +0.
func diff(t *testing.T, name string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", name, len(got), len(want))
		return
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) && !(got[i] == 0 && want[i] == 0) {
			t.Errorf("%s: value %d is %v, want %v", name, i, got[i], want[i])
			return
		}
	}
}

// TestLayoutsAgree opens every fixture and compares the folders of one value set tensor by tensor.
func TestLayoutsAgree(t *testing.T) {
	first := map[string]map[string][]float32{}
	for _, f := range fixtures {
		t.Run(f.name, func(t *testing.T) {
			c := open(t, testmodel.Dir(t, f.name))
			if c.Layout() != f.layout {
				t.Errorf("layout %q, want %q", c.Layout(), f.layout)
			}
			got := canonical(t, c)
			want, ok := first[f.values]
			if !ok {
				first[f.values] = got
				return
			}
			if len(got) != len(want) {
				t.Errorf("%d canonical tensors, want %d", len(got), len(want))
			}
			for name := range want {
				diff(t, name, got[name], want[name])
			}
		})
	}
}

// TestDequantised compares with what bitsandbytes' dequantize_4bit gives for layer 1, first four experts.
func TestDequantised(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range fixtures {
		if seen[f.values] || f.layout != PerExpertBNB && f.layout != FusedBNB {
			continue
		}
		seen[f.values] = true
		t.Run(f.name, func(t *testing.T) {
			got := canonical(t, open(t, testmodel.Dir(t, f.name)))
			list, err := readSafetensors("expected", testmodel.Expected(t, f.values+".dequantized.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range list {
				v, err := dtype.DecodeVector(want.format, want.data)
				if err != nil {
					t.Fatal(err)
				}
				values := got[want.name+".weight"]
				if len(values) < len(v) {
					t.Fatalf("%s: %d values, want at least %d", want.name, len(values), len(v))
				}
				diff(t, want.name, values[:len(v)], v)
			}
		})
	}
}

// TestConfigs compares the configuration of every fixture with the one written down here.
func TestConfigs(t *testing.T) {
	tinyA := Config{
		Layers: 3, Hidden: 192, Intermediate: 64, Heads: 4, KVHeads: 2, HeadDim: 64, Experts: 8, TopK: 3, Vocab: 640,
		MaxPosition: 131072, Eps: 1e-5, SwigluAlpha: 1.702, SwigluLimit: 7, Windows: []int{16, 0, 16},
		Rope: Rope{Theta: 150000, Yarn: true, Factor: 32, BetaFast: 32, BetaSlow: 1, OriginalContext: 4096},
		EOS:  []int32{604, 601, 614}, Pad: 601, BOS: 600,
	}
	square := tinyA
	square.Intermediate, square.Experts, square.TopK, square.Windows = 192, 4, 2, []int{0, 16, 0}
	square.Eps, square.SwigluLimit = 1e-3, 5
	square.Rope = Rope{Theta: 10000, Yarn: true, Factor: 8, BetaFast: 16, BetaSlow: 1, OriginalContext: 1024}
	for _, f := range fixtures {
		t.Run(f.name, func(t *testing.T) {
			want := tinyA
			if f.name[:6] == "tiny-s" {
				want = square
			}
			if f.layout == OpenAI {
				want.EOS, want.Pad, want.BOS = nil, -1, -1
			}
			c := open(t, testmodel.Dir(t, f.name))
			if d := cmp.Diff(&want, c.Config()); d != "" {
				t.Error(d)
			}
			for _, n := range c.Notes() {
				t.Log(n)
			}
		})
	}
}
