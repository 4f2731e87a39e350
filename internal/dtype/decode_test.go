package dtype

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestMXFP4Fixture(t *testing.T) {
	x := readFixture(t, "mxfp4")
	blocks, want := x.get(t, "blocks"), x.floats(t, "bf16")
	p := Plane{Format: MXFP4, Rows: 255, Cols: 512, Data: unaligned(blocks.data), Scales: x.get(t, "scales").data}
	if err := sameBits(decode(t, &p), want); err != nil {
		t.Error(err)
	}
	ollama := Plane{Format: MXFP4Ollama, Rows: 255, Cols: 512}
	for i, e := range p.Scales {
		ollama.Data = append(append(ollama.Data, e), p.Data[16*i:16*i+16]...)
	}
	if err := sameBits(decode(t, &ollama), want); err != nil {
		t.Errorf("Ollama's blocks: %v", err)
	}
}

func TestGGUFFixture(t *testing.T) {
	x := readFixture(t, "gguf")
	n := 0
	for f := range formats {
		f := Format(f)
		if _, ok := f.GGUFType(); !ok || f.BlockElems() < 32 || f == MXFP4Ollama {
			continue
		}
		n++
		name := strings.TrimSuffix(f.String(), " (GGUF)")
		t.Run(name, func(t *testing.T) {
			b, want := x.get(t, name+".blocks"), x.floats(t, name+".float32")
			p := Plane{Format: f, Rows: b.Shape[0], Cols: f.BlockElems(), Data: unaligned(b.data)}
			got := decode(t, &p)
			if f == MXFP4GGML { // ggml reads code 8 as +0, this package as -0: see decodeMXFP4GGML
				for i, v := range got {
					if v == 0 {
						got[i] = 0
					}
				}
			}
			if err := sameBits(got, want); err != nil {
				t.Error(err)
			}
		})
	}
	if n != 13 {
		t.Errorf("%d types tested, the fixture has 13", n)
	}
}

// bnbCase is one tensor of the bitsandbytes fixture with its quant_state.
type bnbCase struct {
	name  string
	plane Plane
	state struct {
		Type   string  `json:"quant_type"`
		Block  int     `json:"blocksize"`
		DType  string  `json:"dtype"`
		Shape  [2]int  `json:"shape"`
		Nested int     `json:"nested_blocksize"`
		Offset float64 `json:"nested_offset"`
	}
}

func bnbCases(t testing.TB, x fixture) []bnbCase {
	var cases []bnbCase
	for _, key := range sortedKeys(x) {
		name, kind, ok := strings.Cut(key, ".weight.quant_state.bitsandbytes__")
		if !ok {
			continue
		}
		c := bnbCase{name: name}
		if err := json.Unmarshal(x[key].data, &c.state); err != nil {
			t.Fatal(err)
		}
		format := map[string]Format{"nf4": NF4, "fp4": FP4}[kind]
		q := &Quant{Block: c.state.Block, Round: map[string]Format{"bfloat16": BF16, "float16": F16, "float32": F32}[c.state.DType]}
		if err := CheckCodeMap(format, x.floats(t, name+".weight.quant_map")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		absmax := x.get(t, name+".weight.absmax")
		if c.state.Nested == 0 {
			q.Absmax = unaligned(absmax.data)
		} else {
			m := x.floats(t, name+".weight.nested_quant_map")
			if err := CheckNestedMap(m); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			q.Codes, q.Map = absmax.data, (*[256]float32)(m)
			q.Nested, q.NestedBlock = unaligned(x.get(t, name+".weight.nested_absmax").data), c.state.Nested
			q.Offset = float32(c.state.Offset)
		}
		c.plane = Plane{Format: format, Rows: c.state.Shape[0], Cols: c.state.Shape[1], Data: x.get(t, name+".weight").data, Quant: q}
		cases = append(cases, c)
	}
	if len(cases) != 19 {
		t.Errorf("%d cases, the fixture has 19", len(cases))
	}
	return cases
}

func TestBitsandbytesFixture(t *testing.T) {
	x := readFixture(t, "bitsandbytes")
	for _, c := range bnbCases(t, x) {
		t.Run(c.name, func(t *testing.T) {
			for round, dtype := range map[Format]string{BF16: "bfloat16", F16: "float16", F32: "float32"} {
				q := *c.plane.Quant
				q.Round = round
				p := c.plane
				p.Quant = &q
				if err := sameBits(decode(t, &p), x.floats(t, c.name+".dequantized."+dtype)); err != nil {
					t.Errorf("to %v: %v", round, err)
				}
			}
			if c.state.Nested == 0 {
				return
			}
			want := x.floats(t, c.name+".absmax.float32")
			got := make([]float32, len(want))
			for i := range got {
				got[i] = c.plane.Quant.Scale(i)
			}
			if err := sameBits(got, want); err != nil {
				t.Errorf("un-nested absmax: %v", err)
			}
		})
	}
}

func TestGoldenPoints(t *testing.T) {
	codes := make([]byte, 16)
	codes[0] = 0x21
	one := f32bytes([]float32{1})
	for _, c := range []struct {
		name  string
		plane Plane
		want  []float32
	}{
		{"MXFP4", Plane{Format: MXFP4, Rows: 1, Cols: 32, Data: codes, Scales: []byte{127}}, []float32{0.5, 1}},
		{"NF4", Plane{Format: NF4, Rows: 1, Cols: 2, Data: []byte{0x21}, Quant: &Quant{Block: 64, Round: F32, Absmax: one}},
			[]float32{-0.5250730514526367, -0.6961928009986877}},
		{"FP4", Plane{Format: FP4, Rows: 1, Cols: 2, Data: []byte{0xA1}, Quant: &Quant{Block: 64, Round: F32, Absmax: one}},
			[]float32{-8. / 12, 1. / 192}},
	} {
		if err := sameBits(decode(t, &c.plane)[:2], c.want); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	nan := Plane{Format: MXFP4, Rows: 1, Cols: 32, Data: codes, Scales: []byte{255}}
	if v := decode(t, &nan)[0]; v == v {
		t.Errorf("a block with scale 255 has value %v, want NaN", v)
	}
	if v := FromE8M0(0); math.Float32bits(v) != 0x0040_0000 {
		t.Errorf("scale 0 is %v, want 2^-127", v)
	}
}
