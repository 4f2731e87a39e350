package checkpoint

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

// headerSeeds are safetensors files, most of them broken, by the words that the error must hold; "" is a sound file.
var headerSeeds = []struct {
	name string
	b    []byte
	want string
}{
	{"sound", frame(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"__metadata__":{"k":"v"}}`, "xy"), ""},
	{"scalar and empty", frame(`{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[0,7],"data_offsets":[1,1]}}  `, "x"), ""},
	{"no tensors", frame(`{}`, ""), ""},
	{"nothing", nil, "too few"},
	{"long header", frame("{}", "")[:9], "cut off"},
	{"huge header", []byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"), "not a safetensors file"},
	{"limit", []byte("\x01\xe1\xf5\x05\x00\x00\x00\x00{}"), "not a safetensors file"},
	{"empty header", frame("", ""), "not a JSON object"},
	{"list", frame("[]", ""), "not a JSON object"},
	{"unclosed", frame(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}`, "xy"), "EOF"},
	{"two objects", frame(`{}{}`, ""), "after the JSON object"},
	{"a tensor is a list", frame(`{"a":[]}`, ""), `tensor "a"`},
	{"a tensor is null", frame(`{"a":null}`, ""), `tensor "a": unknown dtype ""`},
	{"metadata is text", frame(`{"__metadata__":"x"}`, ""), "__metadata__"},
	{"metadata of numbers", frame(`{"__metadata__":{"a":1}}`, ""), "__metadata__"},
	{"unknown dtype", frame(`{"a":{"dtype":"Q9","shape":[2],"data_offsets":[0,2]}}`, "xy"), `tensor "a": unknown dtype "Q9"`},
	{"no shape", frame(`{"a":{"dtype":"U8","data_offsets":[0,2]}}`, "xy"), `tensor "a": no shape`},
	{"negative shape", frame(`{"a":{"dtype":"U8","shape":[-2],"data_offsets":[0,2]}}`, "xy"), `tensor "a"`},
	{"fraction", frame(`{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,2]}}`, "xy"), `tensor "a"`},
	{"shape past uint64", frame(`{"a":{"dtype":"U8","shape":[36893488147419103232],"data_offsets":[0,2]}}`, "xy"), `tensor "a"`},
	{"product overflows", frame(`{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, ""), "overflows"},
	{"product overflows to the right size", frame(`{"a":{"dtype":"U8","shape":[9223372036854775809,2],"data_offsets":[0,2]}}`, "xy"), "overflows"},
	{"no offsets", frame(`{"a":{"dtype":"U8","shape":[2]}}`, "xy"), "data_offsets has 0"},
	{"one offset", frame(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0]}}`, "xy"), "data_offsets has 1"},
	{"three offsets", frame(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2,4]}}`, "xy"), "data_offsets has 3"},
	{"backwards", frame(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}}`, "xy"), "backwards"},
	{"past the end", frame(`{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}`, "xy"), "cut off"},
	{"far past the end", frame(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[18446744073709551613,18446744073709551615]}}`, "xy"), "cut off"},
	{"too short for its shape", frame(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,2]}}`, "xy"), "does not fit its 2 bytes"},
	{"half a byte", frame(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}`, "xy"), "does not fit"},
	{"overlap", frame(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, "xyz"), `tensor "b": overlaps tensor "a"`},
	{"the same bytes twice", frame(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, "xy"), "overlaps"},
	{"gap", frame(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, "xyz"), `tensor "b": 1 bytes before it`},
	{"gap at the start", frame(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "xy"), "1 bytes before it"},
	{"gap at the end", frame(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "xy"), "last 1 bytes"},
	{"only data", frame(`{}`, "xy"), "last 2 bytes"},
	{"a name twice", frame(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "xy"), `tensor "a": listed twice`},
}

func TestSafetensorsHeader(t *testing.T) {
	for _, x := range headerSeeds {
		t.Run(x.name, func(t *testing.T) {
			_, err := readSafetensors("f.safetensors", x.b)
			if x.want != "" {
				wantError(t, err, "f.safetensors: ", x.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func FuzzSafetensorsHeader(f *testing.F) {
	for _, x := range headerSeeds {
		f.Add(x.b)
	}
	f.Add(safetensorsFile(newTiny(PerExpertBNB).tensors))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := readSafetensors("f", b)
		if err != nil {
			return
		}
		bytes := 0
		for _, x := range list {
			bytes += len(x.data)
		}
		if bytes >= len(b) {
			t.Errorf("tensors of %d bytes in a file of %d", bytes, len(b))
		}
	})
}

func FuzzIndex(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `{"weight_map":{}}`, `{"weight_map":{"a":"b.safetensors"}}`, `{"weight_map":{"a":"../b"}}`, `{"weight_map":{"a":"C:\\b"}}`,
		`{"weight_map":{"a":""}}`, `{"weight_map":{"a":".."}}`, `{"weight_map":{"a":1}}`, `{"weight_map":[]}`, `{"weight_map":null}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseIndex(b)
		if err != nil {
			return
		}
		dir := filepath.FromSlash("/models/x")
		for name, file := range m {
			if got := filepath.Dir(filepath.Join(dir, file)); got != dir {
				t.Errorf("tensor %q: file %q lies in %s", name, file, got)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	for _, name := range []string{"tiny-a/hf-mxfp4", "tiny-a/openai-original", "tiny-a/hf-bf16", "tiny-square/fused-nf4"} {
		b, err := os.ReadFile(filepath.Join(testmodel.Dir(f, name), "config.json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range spoiledConfigs() {
		m := newTiny(s.layout)
		s.spoil(m)
		b, err := json.Marshal(m.config)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig(b)
		if err != nil {
			return
		}
		if err := c.check(&c.names); err != nil {
			t.Errorf("accepted and yet: %v", err)
		}
		if len(c.Windows) != c.Layers {
			t.Errorf("%d windows for %d layers", len(c.Windows), c.Layers)
		}
		for _, id := range append(c.EOS, max(c.Pad, 0), max(c.BOS, 0)) {
			if id < 0 || int(id) >= c.Vocab {
				t.Errorf("token %d in a vocabulary of %d", id, c.Vocab)
			}
		}
		c.parseGeneration(b) // must not panic
	})
}

func FuzzQuantState(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `null`, `{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [128, 192]}`,
		`{"quant_type": "fp4", "blocksize": 64, "dtype": "float32", "shape": [8, 64, 192], "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.0788167342543602}`,
		`{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [128, 192], "nested_blocksize": 256}`,
		`{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [128, 192], "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 1e39}`,
	} {
		f.Add([]byte(s))
	}
	for _, s := range spoiledTensors() {
		if s.layout != PerExpertBNB {
			continue
		}
		m := newTiny(s.layout)
		s.spoil(m)
		if r := m.tensors["model.layers.0.mlp.experts.gate_up_projs.0.weight"+quantState+"nf4"]; r != nil {
			f.Add(r.data)
		}
	}
	const name = "layers.0.mlp.experts.down_projs.0.weight"
	sides := map[string]*raw{}
	for n, r := range newTiny(PerExpertBNB).tensors {
		if strings.HasPrefix(n, "model."+name) && !strings.Contains(n, quantState) {
			sides[n] = r
		}
	}
	list, err := readSafetensors("f", safetensorsFile(sides))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// The whole way: a weight with this quant state binds or is refused, and what binds can be decoded.
		state := tensor{name: name + quantState + "nf4", stored: "U8", format: dtype.U8, shape: []int{len(b)}, data: b}
		s, err := newStore(append([]tensor{state}, list...), normaliseHF)
		if err != nil {
			t.Fatal(err)
		}
		r := (&binder{store: s, cfg: &Config{}, layout: PerExpertBNB}).run()
		p := r.quantised(name, RoleExperts, tinyH, tinyI)
		if r.err != nil {
			return
		}
		if _, err := parseQuantState(b); err != nil {
			t.Fatalf("bound, and yet: %v", err)
		}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		p.DecodeRows(make([]float32, tinyH*tinyI), 0, tinyH)
	})
}

func FuzzGGUF(f *testing.F) {
	for _, arch := range []string{"gpt-oss", "gptoss"} {
		m := newTinyGGUF(arch)
		if arch == "gptoss" {
			mergeGateUp(m, true)
		}
		m.meta[arch+".block_count"] = uint32(1)
		maps.DeleteFunc(m.tensors, func(name string, _ *ggufTensor) bool { return strings.HasPrefix(name, "blk.1.") })
		f.Add(m.bytes())
	}
	small := &tinyGGUF{
		version: 3, tensors: map[string]*ggufTensor{"a": ggmlTensor(dtype.Q8_0, 32, 2), "b": ggmlTensor(dtype.F32, 3)},
		meta: map[string]any{"general.architecture": "gpt-oss", "general.alignment": uint32(32), "x": []string{"y", ""}, "z": []bool{true}},
	}
	f.Add(small.bytes())
	for _, name := range []string{"gguf-ollama-v0.11.1/model.gguf", "gguf-bf16/model-mxfp4-bf16.gguf"} {
		folder, file := filepath.Split(name)
		b, err := os.ReadFile(filepath.Join(testmodel.Dir(f, "tiny-a/"+filepath.Clean(folder)), file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:2000]) // metadata, cut off: long inputs keep the fuzzer from exploring
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &Checkpoint{files: []*mapping{{path: "f", data: b}}}
		bind, err := c.newGGUFBinder()
		if err != nil {
			return
		}
		if c.check(bind) != nil {
			return
		}
		c.binder = bind
		for n := range c.config.Layers {
			if _, err := c.Layer(n); err != nil {
				t.Errorf("opened, and yet: %v", err)
			}
		}
	})
}

// TestParsersAllocateLittle: no input makes a parser allocate more than a multiple of its size.
func TestParsersAllocateLittle(t *testing.T) {
	allocated := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	check := func(name string, b []byte, parse func()) {
		least := uint64(math.MaxUint64) // of three runs: other goroutines of the runtime allocate too
		for range 3 {
			least = min(least, allocated(parse))
		}
		if limit := uint64(64*len(b) + 64<<10); least > limit {
			t.Errorf("%s: %d bytes allocated for an input of %d", name, least, len(b))
		}
	}
	for _, x := range headerSeeds {
		check(x.name, x.b, func() { readSafetensors("f", x.b) })
	}
	for _, s := range spoiledConfigs() {
		m := newTiny(s.layout)
		s.spoil(m)
		b, err := json.Marshal(m.config)
		if err != nil {
			t.Fatal(err)
		}
		check(s.name, b, func() { parseConfig(b) })
	}
	// Counts and lengths of a GGUF header, each replaced by the largest number.
	whole := newTinyGGUF("gpt-oss").bytes()
	for at := 8; at < min(len(whole), 4000); at++ {
		b := append([]byte{}, whole...)
		copy(b[at:at+8], "\xff\xff\xff\xff\xff\xff\xff\x7f")
		if at%8 == 0 || at < 64 {
			check("GGUF", b, func() { (&Checkpoint{files: []*mapping{{path: "f", data: b}}}).newGGUFBinder() })
		}
	}
	sparse := newTiny(HFMXFP4)
	sparse.config["num_local_experts"] = 1 << 20
	dir := sparse.write(t)
	check("many experts", make([]byte, 64<<10), func() {
		if c, err := Open(dir); err == nil {
			c.Close()
			t.Error("a model without its experts opens")
		}
	})
}

// BenchmarkOpen opens folders with as many tensors as Unsloth's gpt-oss-120b.
func BenchmarkOpen(b *testing.B) {
	m := newTiny(PerExpertBNB)
	m.config["num_hidden_layers"], m.config["num_local_experts"] = 36, 128
	one := newTiny(PerExpertBNB).tensors
	for n := range 36 {
		for name, r := range one {
			copyLayer(m, name, r, n)
		}
	}
	dir := m.write(b)
	b.ResetTimer()
	for b.Loop() {
		c, err := Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
	b.ReportMetric(float64(len(m.tensors)), "tensors")
}

// copyLayer adds layer n to a model, made from the tensors of layer 0, with 128 copies of expert 0.
func copyLayer(m *tiny, name string, r *raw, n int) {
	rest, ok := strings.CutPrefix(name, "model.layers.0.")
	if !ok || strings.Contains(name, "_projs.1.") {
		return
	}
	p := fmt.Sprintf("model.layers.%d.", n)
	before, after, ok := strings.Cut(rest, "_projs.0.")
	switch {
	case ok:
		for e := range 128 {
			m.tensors[fmt.Sprintf("%s%s_projs.%d.%s", p, before, e, after)] = r
		}
	case rest == "mlp.router.weight":
		m.tensors[p+rest] = bf16(128, tinyH)
	case rest == "mlp.router.bias":
		m.tensors[p+rest] = bf16(128)
	default:
		m.tensors[p+rest] = r
	}
}
