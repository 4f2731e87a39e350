package convert

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

func onLoad(t *testing.T, folder string, o LoadOptions) (*Requantised, []string) {
	t.Helper()
	r, warnings, err := OnLoad(open(t, testmodel.Dir(t, folder)), o)
	if err != nil {
		t.Fatal(err)
	}
	return r, warnings
}

func layer(t *testing.T, s Source, n int) *checkpoint.Layer {
	t.Helper()
	l, err := s.Layer(n)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func values(p *dtype.Plane) []float32 {
	v := make([]float32, p.Rows*p.Cols)
	p.DecodeRows(v, 0, p.Rows)
	return v
}

// Quantising on load gives the planes that a conversion to Unsloth's layout gives.
func TestOnLoadAsConversion(t *testing.T) {
	for _, from := range []string{"tiny-a/hf-bf16", "tiny-a/hf-mxfp4", "tiny-a/gguf-bf16", "tiny-square/hf-bf16"} {
		r, warnings := onLoad(t, from, LoadOptions{Quantization: "bitsandbytes"})
		want := open(t, convert(t, testmodel.Dir(t, from), Options{To: UnslothBNB, Experts: NF4DQ}))
		if len(warnings) != 1 {
			t.Errorf("%s: warnings %q", from, warnings)
		}
		for n := range r.Config().Layers {
			a, b := layer(t, r, n), layer(t, want, n)
			for e := range a.GateUp.Weight.Even {
				for _, x := range [][2]*dtype.Plane{{&a.GateUp.Weight.Even[e], &b.GateUp.Weight.Even[e]}, {&a.Down.Weight.Even[e], &b.Down.Weight.Even[e]}} {
					if err := x[0].Check(); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(x[0].Data, x[1].Data) || !bytes.Equal(x[0].Quant.Codes, x[1].Quant.Codes) ||
						!bytes.Equal(x[0].Quant.Nested, x[1].Quant.Nested) || x[0].Quant.Offset != x[1].Quant.Offset {
						t.Fatalf("%s: layer %d, expert %d is quantised otherwise than by a conversion", from, n, e)
					}
				}
			}
			if &a.Q.Weight.Data[0] == nil || a.Q.Weight.Format != dtype.BF16 {
				t.Errorf("%s: attention became %v", from, a.Q.Weight.Format)
			}
		}
		for _, x := range r.Parts() {
			if x.Kind != KindGateUp && x.Kind != KindDown {
				t.Errorf("%s: %s was changed", from, x.Kind)
			}
			if x.Error.Relative() < 0.01 || x.Error.Relative() > 0.15 || x.Error.Cosine() < 0.99 {
				t.Errorf("%s: error of %s is %v", from, x.Kind, x.Error)
			}
		}
		if len(r.Parts()) != 2 {
			t.Errorf("%s: %d parts changed, want 2", from, len(r.Parts()))
		}
	}
}

// MXFP4 that went through BF16 comes back exact.
func TestOnLoadMXFP4(t *testing.T) {
	r, _ := onLoad(t, "tiny-a/hf-bf16", LoadOptions{Quantization: "mxfp4"})
	want := open(t, testmodel.Dir(t, "tiny-a/hf-mxfp4"))
	for n := range r.Config().Layers {
		a, b := layer(t, r, n), layer(t, want, n)
		for e := range a.Down.Weight.Even {
			x, y := values(&a.Down.Weight.Even[e]), values(&b.Down.Weight.Even[e])
			for i := range x {
				if math.Float32bits(x[i]) != math.Float32bits(y[i]) {
					t.Fatalf("layer %d, expert %d: value %d is %v, want %v", n, e, i, x[i], y[i])
				}
			}
		}
	}
	for _, x := range r.Parts() {
		if !x.Error.Exact() {
			t.Errorf("%s: %v", x.Kind, x.Error)
		}
	}
}

// What is in the wanted format already is passed on as it is.
func TestOnLoadKeeps(t *testing.T) {
	for _, x := range []struct {
		folder string
		o      LoadOptions
	}{
		{"tiny-a/hf-mxfp4", LoadOptions{Quantization: "mxfp4"}},
		{"tiny-a/gguf-bf16", LoadOptions{Quantization: "mxfp4"}},
		{"tiny-a/unsloth-nf4-dq", LoadOptions{Quantization: "bitsandbytes"}},
		{"tiny-a/fused-nf4", LoadOptions{Quantization: "bitsandbytes"}},
		{"tiny-a/hf-mxfp4", LoadOptions{Quantization: "none", DType: "bfloat16"}},
		{"tiny-a/hf-mxfp4", LoadOptions{DType: "float32"}},
		{"tiny-a/hf-mxfp4", LoadOptions{DType: "auto"}},
	} {
		r, _ := onLoad(t, x.folder, x.o)
		a, b := layer(t, r, 1), layer(t, r.Source, 1)
		if &a.GateUp.Weight.Even[0].Data[0] != &b.GateUp.Weight.Even[0].Data[0] || &a.O.Weight.Data[0] != &b.O.Weight.Data[0] {
			t.Errorf("%s %+v: planes were copied", x.folder, x.o)
		}
		if len(r.Parts()) != 0 {
			t.Errorf("%s %+v: parts %v", x.folder, x.o, r.Parts())
		}
	}
}

func TestOnLoadFloat16(t *testing.T) {
	r, _ := onLoad(t, "tiny-a/hf-bf16", LoadOptions{Quantization: "bitsandbytes", DType: "float16"})
	l, own := layer(t, r, 0), layer(t, r.Source, 0)
	if l.Q.Weight.Format != dtype.F16 || l.GateUp.Weight.Even[0].Quant.Round != dtype.F16 {
		t.Errorf("attention %v, experts rounded to %v", l.Q.Weight.Format, l.GateUp.Weight.Even[0].Quant.Round)
	}
	x, y := values(&l.Q.Weight), values(&own.Q.Weight)
	for i := range x {
		if want := dtype.FromF16(dtype.ToF16(y[i])); x[i] != want {
			t.Fatalf("value %d is %v, want %v", i, x[i], want)
		}
	}
}

// big is a source with a norm that no half can hold.
type big struct{ Source }

func (b big) FinalNorm() ([]float32, error) { return []float32{1e6}, nil }

func TestOnLoadRefuses(t *testing.T) {
	src := open(t, testmodel.Dir(t, "tiny-a/hf-mxfp4"))
	for _, x := range []struct {
		o    LoadOptions
		want string
	}{
		{LoadOptions{Quantization: "awq"}, `--quantization "awq"`},
		{LoadOptions{DType: "int8"}, `--dtype "int8"`},
	} {
		if _, _, err := OnLoad(src, x.o); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v", x.o, err)
		}
	}
	r, _, err := OnLoad(big{src}, LoadOptions{DType: "float16"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.FinalNorm(); err == nil || !strings.Contains(err.Error(), "1e+06 does not fit --dtype float16") {
		t.Errorf("overflow: %v", err)
	}
}
