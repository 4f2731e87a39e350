package convert

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

// stored is a tensor of a safetensors folder.
type stored struct {
	dtype string
	shape string
	data  []byte
}

// readTensors reads every tensor of the safetensors files in a folder.
func readTensors(t testing.TB, dir string) map[string]stored {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no safetensors files (%v)", dir, err)
	}
	all := map[string]stored{}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for name, x := range parseSafetensors(t, b) {
			all[name] = x
		}
	}
	return all
}

func parseSafetensors(t testing.TB, b []byte) map[string]stored {
	t.Helper()
	n := binary.LittleEndian.Uint64(b)
	var header map[string]struct {
		DType   string
		Shape   json.RawMessage
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(b[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	delete(header, "__metadata__")
	all := map[string]stored{}
	for name, h := range header {
		all[name] = stored{h.DType, strings.ReplaceAll(string(h.Shape), " ", ""), b[8+n:][h.Offsets[0]:h.Offsets[1]]}
	}
	return all
}

// sameTensors compares two folders tensor by tensor, byte by byte.
func sameTensors(t *testing.T, got, want map[string]stored) {
	t.Helper()
	for name, w := range want {
		switch g, ok := got[name]; {
		case !ok:
			t.Errorf("tensor %q is missing", name)
		case g.dtype != w.dtype || g.shape != w.shape:
			t.Errorf("tensor %q is %s %s, want %s %s", name, g.dtype, g.shape, w.dtype, w.shape)
		case !bytes.Equal(g.data, w.data):
			t.Errorf("tensor %q differs", name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d tensors, want %d", len(got), len(want))
	}
}

// Renames, fusion, shuffles and what goes back: the fixtures were written by the libraries that own the formats, so a
// conversion into a fixture's layout must give its bytes.
func TestIntoFixtures(t *testing.T) {
	mxfp4 := []string{"hf-mxfp4", "openai-original", "gguf-bf16", "gguf-fused-qkv", "gguf-ollama-v0.11.1", "gguf-ollama-v0.11.8", "gguf-ollama-v0.12.6", "gguf-ollama-v0.30.0"}
	bf16 := append([]string{"hf-bf16", "per-expert-bf16", "per-expert-split-bf16"}, mxfp4...)
	for _, x := range []struct {
		to      Target
		experts string
		want    string
		from    []string
	}{
		{HFMXFP4, Auto, "hf-mxfp4", mxfp4},
		{OpenAI, Auto, "openai-original", mxfp4},
		{HFBF16, Auto, "hf-bf16", bf16},
		{UnslothBNB, BF16, "per-expert-bf16", bf16},
		{UnslothBNB, Auto, "unsloth-nf4-dq", []string{"unsloth-nf4-dq"}},
		{UnslothBNB, Keep, "unsloth-nf4-dq-attn", []string{"unsloth-nf4-dq-attn"}},
		{UnslothBNB, Auto, "unsloth-nf4", []string{"unsloth-nf4"}},
		{UnslothBNB, Auto, "unsloth-fp4-dq", []string{"unsloth-fp4-dq"}},
		{FusedNF4, Auto, "fused-nf4", []string{"fused-nf4"}},
	} {
		for _, from := range x.from {
			t.Run(from+" to "+string(x.to), func(t *testing.T) {
				t.Parallel()
				got := convert(t, testmodel.Dir(t, "tiny-a/"+from), Options{To: x.to, Experts: x.experts, RequireExact: true})
				sameTensors(t, readTensors(t, got), readTensors(t, testmodel.Dir(t, "tiny-a/"+x.want)))
			})
		}
	}
	t.Run("tiny-square", func(t *testing.T) {
		hf, bf := testmodel.Dir(t, "tiny-square/hf-mxfp4"), testmodel.Dir(t, "tiny-square/hf-bf16")
		sameTensors(t, readTensors(t, convert(t, hf, Options{To: HFBF16, RequireExact: true})), readTensors(t, bf))
		dq := testmodel.Dir(t, "tiny-square/unsloth-nf4-dq")
		sameTensors(t, readTensors(t, convert(t, dq, Options{To: UnslothBNB, RequireExact: true})), readTensors(t, dq))
	})
}

// There and back: what a GGUF widens to float32 becomes BF16 again, un-nested scales stay as they are.
func TestRoundTrips(t *testing.T) {
	for _, x := range []struct {
		start string
		via   []Options
	}{
		{"tiny-a/hf-mxfp4", []Options{{To: OpenAI}, {To: GGUF}, {To: HFMXFP4}}},
		{"tiny-a/hf-mxfp4", []Options{{To: GGUF}, {To: OpenAI}, {To: HFMXFP4, ShardBytes: 100_000}}},
		{"tiny-a/openai-original", []Options{{To: HFMXFP4}, {To: OpenAI}}},
		{"tiny-a/unsloth-nf4", []Options{{To: FusedNF4}, {To: UnslothBNB}}},
		{"tiny-a/unsloth-fp4-dq", []Options{{To: FusedNF4, KeepNested: true}, {To: UnslothBNB}}},
		{"tiny-a/unsloth-nf4-dq", []Options{{To: FusedNF4, KeepNested: true}, {To: UnslothBNB}}},
		{"tiny-a/unsloth-nf4-dq-attn", []Options{{To: FusedNF4, KeepNested: true}, {To: UnslothBNB}}},
		{"tiny-square/unsloth-nf4-dq", []Options{{To: FusedNF4, KeepNested: true}, {To: UnslothBNB}}},
	} {
		t.Run(x.start, func(t *testing.T) {
			if testmodel.Race && x.start != "tiny-a/unsloth-nf4" {
				t.Skip("the race detector is on: one round trip runs")
			}
			t.Parallel()
			start := testmodel.Dir(t, x.start)
			at := start
			for _, o := range x.via {
				o.RequireExact = true
				if o.To == GGUF {
					o.Tokenizer = filepath.Join(testmodel.Dir(t, "tiny-a/hf-mxfp4"), "tokenizer.json")
				}
				at = convert(t, at, o)
			}
			sameTensors(t, readTensors(t, at), readTensors(t, start))
		})
	}
}

// Fusing experts is putting their bytes one after another; scales are un-nested, which loses nothing.
func TestFusionIsConcatenation(t *testing.T) {
	for _, from := range []string{"tiny-a/unsloth-nf4-dq", "tiny-a/unsloth-nf4", "tiny-square/unsloth-nf4-dq", "tiny-a/unsloth-fp4-dq"} {
		t.Run(from, func(t *testing.T) {
			dir := testmodel.Dir(t, from)
			src, out := open(t, dir), readTensors(t, convert(t, dir, Options{To: FusedNF4, RequireExact: true}))
			in := readTensors(t, dir)
			for n := range src.Config().Layers {
				l, err := src.Layer(n)
				if err != nil {
					t.Fatal(err)
				}
				for name, planes := range map[string][]dtype.Plane{"gate_up_proj": l.GateUp.Weight.Even, "down_proj": l.Down.Weight.Even} {
					prefix := "model.layers." + string(rune('0'+n)) + ".mlp.experts." + name
					var codes, scales []byte
					for e := range planes {
						codes = append(codes, in[prefix+"s."+string(rune('0'+e))+".weight"].data...)
						for i := range planes[e].Rows * planes[e].Cols / 64 {
							scales = float32s(scales, []float32{planes[e].Quant.Scale(i)})
						}
					}
					if !bytes.Equal(out[prefix].data, codes) {
						t.Errorf("%s: the codes are not the experts' one after another", prefix)
					}
					if !bytes.Equal(out[prefix+".absmax"].data, scales) {
						t.Errorf("%s: the scales are not the experts' un-nested ones", prefix)
					}
				}
			}
		})
	}
}

// A conversion to plain numbers gives what bitsandbytes' dequantize_4bit gives, to the bit.
func TestDequantisedAsBitsandbytes(t *testing.T) {
	for _, from := range []string{"unsloth-nf4-dq", "unsloth-nf4-dq-attn", "unsloth-nf4", "unsloth-fp4-dq", "fused-nf4", "fused-nf4-dq"} {
		t.Run(from, func(t *testing.T) {
			want := parseSafetensors(t, testmodel.Expected(t, "tiny-a/"+from+".dequantized.safetensors"))
			got := readTensors(t, convert(t, testmodel.Dir(t, "tiny-a/"+from), Options{To: HFBF16, RequireExact: true}))
			for name, rows := range map[string]int{"gate_up": 128, "down": 192} {
				cols := 192*64*2/rows - 0
				if name == "down" {
					cols = 64
				}
				have := got["model.layers.1.mlp.experts."+name+"_proj"].data
				w := want["1."+name].data
				for i := 0; i < len(w)/2; i++ { // [expert, out, in] against [expert, in, out]
					e, r, c := i/(rows*cols), i/cols%rows, i%cols
					j := (e*cols+c)*rows + r
					if w[2*i] != have[2*j] || w[2*i+1] != have[2*j+1] {
						t.Fatalf("%s: expert %d, row %d, column %d differs", name, e, r, c)
					}
				}
			}
			for _, x := range []string{"q", "k", "v", "o"} {
				if w, ok := want["1."+x]; ok && !bytes.Equal(w.data, got["model.layers.1.self_attn."+x+"_proj.weight"].data) {
					t.Errorf("%s differs", x)
				}
			}
		})
	}
}

// Quantising gives the codes and scales of bitsandbytes, through the whole of a conversion: package dtype compares its
// encoders with what the library wrote, and here the files hold just that.
func TestQuantisesAsEncoders(t *testing.T) {
	dir := testmodel.Dir(t, "tiny-a/hf-bf16")
	src := open(t, dir)
	for _, experts := range []string{NF4, NF4DQ} {
		out := readTensors(t, convert(t, dir, Options{To: UnslothBNB, Experts: experts}))
		for n := range src.Config().Layers {
			l, err := src.Layer(n)
			if err != nil {
				t.Fatal(err)
			}
			for e := range l.Down.Weight.Even {
				p := &l.Down.Weight.Even[e]
				v := make([]float32, p.Rows*p.Cols)
				p.DecodeRows(v, 0, p.Rows)
				codes, absmax := make([]byte, len(v)/2), make([]float32, len(v)/64)
				if err := dtype.QuantizeNF4(codes, absmax, v, 64); err != nil {
					t.Fatal(err)
				}
				name := "model.layers." + string(rune('0'+n)) + ".mlp.experts.down_projs." + string(rune('0'+e)) + ".weight"
				if !bytes.Equal(out[name].data, codes) {
					t.Fatalf("%s: other codes", name)
				}
				scales := float32s(nil, absmax)
				if experts == NF4DQ {
					inner, nested, offset, err := dtype.QuantizeScales(absmax, 256)
					if err != nil {
						t.Fatal(err)
					}
					scales = inner
					if !bytes.Equal(out[name+".nested_absmax"].data, float32s(nil, nested)) {
						t.Fatalf("%s: other nested scales", name)
					}
					var state struct {
						Offset float64 `json:"nested_offset"`
					}
					if err := json.Unmarshal(out[name+".quant_state.bitsandbytes__nf4"].data, &state); err != nil || float32(state.Offset) != offset {
						t.Fatalf("%s: offset %v (%v), want %v", name, state.Offset, err, offset)
					}
				}
				if !bytes.Equal(out[name+".absmax"].data, scales) {
					t.Fatalf("%s: other scales", name)
				}
			}
		}
	}
}

// A GGUF of ours holds the tensors of llama.cpp's, byte for byte, whatever it was made from.
func TestGGUFAsLlamaCpp(t *testing.T) {
	want := open(t, testmodel.Dir(t, "tiny-a/gguf-bf16"))
	for _, from := range []string{"hf-mxfp4", "gguf-ollama-v0.11.1", "gguf-bf16"} {
		got := open(t, convert(t, testmodel.Dir(t, "tiny-a/"+from), Options{To: GGUF, RequireExact: true}))
		if len(got.Tensors()) != len(want.Tensors()) {
			t.Errorf("%s: %d tensors, want %d", from, len(got.Tensors()), len(want.Tensors()))
		}
		for _, x := range want.Tensors() {
			a, _ := want.SHA256(x.Name)
			if b, ok := got.SHA256(x.Name); a != b || !ok {
				t.Errorf("%s: tensor %q differs (there: %v)", from, x.Name, ok)
			}
		}
		wantTokens, _ := want.GGUFText("tokenizer.ggml.merges")
		if tokens, _ := got.GGUFText("tokenizer.ggml.merges"); !slices.Equal(tokens, wantTokens) {
			t.Errorf("%s: %d merges, want %d", from, len(tokens), len(wantTokens))
		}
	}
}
