package checkpoint

import (
	"math"
	"strings"
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

// TestFixtures opens every fixture, compares its configuration, compares the folders of one value set tensor by
// tensor, compares bitsandbytes tensors with what dequantize_4bit gives, and scans all values.
func TestFixtures(t *testing.T) {
	first := map[string]map[string][]float32{}
	for _, f := range fixtures {
		t.Run(f.name, func(t *testing.T) {
			c := open(t, testmodel.Dir(t, f.name))
			if c.Layout() != f.layout {
				t.Errorf("layout %q, want %q", c.Layout(), f.layout)
			}
			checkConfig(t, f.name, c)
			checkTensors(t, c)
			got := canonical(t, c)
			want, ok := first[f.values]
			if !ok {
				first[f.values] = got
				if f.layout == PerExpertBNB || f.layout == FusedBNB {
					checkDequantised(t, f.values, got)
				}
			}
			if f.values == "tiny-a/gguf-q8_0" { // dense matrices are rounded, everything else is not
				for name, v := range first["tiny-a/mxfp4"] {
					dense := strings.HasSuffix(name, ".weight") && !strings.Contains(name, "_up.") && !strings.Contains(name, "down.") && !strings.Contains(name, "router.")
					if !dense && name != "embed" && name != "head" {
						diff(t, name, got[name], v)
					}
				}
			}
			if ok && len(got) != len(want) {
				t.Errorf("%d canonical tensors, want %d", len(got), len(want))
			}
			for name := range want {
				diff(t, name, got[name], want[name])
			}
			checkVerify(t, c)
		})
	}
}

// checkDequantised compares with what bitsandbytes gives for layer 1, first four experts.
func checkDequantised(t *testing.T, values string, got map[string][]float32) {
	list, err := readSafetensors("expected", testmodel.Expected(t, values+".dequantized.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range list {
		v, err := dtype.DecodeVector(want.format, want.data)
		if err != nil {
			t.Fatal(err)
		}
		have := got[want.name+".weight"]
		if len(have) < len(v) {
			t.Fatalf("%s: %d values, want at least %d", want.name, len(have), len(v))
		}
		diff(t, want.name, have[:len(v)], v)
	}
}

func checkConfig(t *testing.T, name string, c *Checkpoint) {
	want := Config{
		Layers: 3, Hidden: 192, Intermediate: 64, Heads: 4, KVHeads: 2, HeadDim: 64, Experts: 8, TopK: 3, Vocab: 640,
		MaxPosition: 131072, Eps: 1e-5, SwigluAlpha: 1.702, SwigluLimit: 7, Windows: []int{16, 0, 16},
		Rope: Rope{Theta: 150000, Yarn: true, Factor: 32, BetaFast: 32, BetaSlow: 1, OriginalContext: 4096},
		EOS:  []int32{604, 601, 614}, Pad: 601, BOS: 600,
	}
	if strings.HasPrefix(name, "tiny-square/") {
		want.Intermediate, want.Experts, want.TopK, want.Windows = 192, 4, 2, []int{0, 16, 0}
		want.Eps, want.SwigluLimit = 1e-3, 5
		want.Rope = Rope{Theta: 10000, Yarn: true, Factor: 8, BetaFast: 16, BetaSlow: 1, OriginalContext: 1024}
	}
	if c.Layout() == OpenAI {
		want.EOS, want.Pad, want.BOS = nil, -1, -1
	}
	if d := cmp.Diff(&want, c.Config()); d != "" {
		t.Error(d)
	}
	if wantFile := c.Layout() != OpenAI && c.Layout() != GGUF && c.Layout() != GGUFOllama; (c.TokenizerFile() != "") != wantFile {
		t.Errorf("tokenizer file %q", c.TokenizerFile())
	}
	for _, n := range c.Notes() {
		if !strings.Contains(n, "GPT-OSS's own value") {
			t.Errorf("unexpected note: %s", n)
		}
	}
}

// checkTensors makes sure that every tensor has a use and that the roles add up to the whole.
func checkTensors(t *testing.T, c *Checkpoint) {
	var total int64
	roles := map[Role]bool{}
	for _, x := range c.Tensors() {
		total += x.Bytes
		roles[x.Canonical] = true
		if x.Canonical == "" || x.Format == dtype.Invalid {
			t.Errorf("%s: role %q, format %s", x.Name, x.Canonical, x.Format)
		}
	}
	if len(roles) != 6 {
		t.Errorf("roles %v", roles)
	}
	if total > c.Size() || total < c.Size()*9/10 {
		t.Errorf("tensors of %d bytes in files of %d", total, c.Size())
	}
}

func checkVerify(t *testing.T, c *Checkpoint) {
	var last, all int64
	r := c.Verify(func(done, total int64) {
		if done < last || done > total {
			t.Errorf("progress went from %d to %d of %d", last, done, total)
		}
		last, all = done, total
	})
	if len(r.Findings) > 0 {
		t.Errorf("a sound checkpoint has findings: %v", r.Findings)
	}
	if last != all || all != r.Bytes || r.Weights < 3*17 {
		t.Errorf("progress ended at %d of %d bytes; %d weights of %d bytes", last, all, r.Weights, r.Bytes)
	}
}
