package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

// ggufTensor is a tensor to be written; ne lists the fastest axis first, as the file does.
type ggufTensor struct {
	ne   []uint64
	id   uint32
	data []byte
}

// tinyGGUF is a generated GGUF model that a test may spoil before it is written.
type tinyGGUF struct {
	version uint32
	meta    map[string]any // uint32, float32, string, []string, []int32, []bool
	tensors map[string]*ggufTensor
}

func ggmlTensor(f dtype.Format, ne ...uint64) *ggufTensor {
	id, _ := f.GGUFType()
	n := uint64(1)
	for _, d := range ne {
		n *= d
	}
	x := &ggufTensor{ne: ne, id: id, data: make([]byte, int(n)/f.BlockElems()*f.BlockBytes())}
	for i := range x.data {
		x.data[i] = byte(i % 101)
	}
	if f == dtype.F32 { // small whole numbers
		for i := range int(n) {
			binary.LittleEndian.PutUint32(x.data[4*i:], math.Float32bits(float32(i%9)))
		}
	}
	return x
}

func newTinyGGUF(arch string) *tinyGGUF {
	m := &tinyGGUF{version: 3, tensors: map[string]*ggufTensor{}, meta: map[string]any{
		"general.architecture": arch, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-4o", "tokenizer.ggml.padding_token_id": uint32(1 << 20),
	}}
	for k, v := range map[string]any{
		"block_count": tinyLayers, "embedding_length": tinyH, "feed_forward_length": tinyI, "attention.head_count": tinyHeads,
		"attention.head_count_kv": tinyKV, "attention.key_length": tinyDim, "attention.value_length": tinyDim,
		"expert_count": tinyE, "expert_used_count": 1, "context_length": 4096, "attention.layer_norm_rms_epsilon": float32(1e-5),
		"rope.freq_base": float32(150000), "rope.scaling.factor": float32(32), "rope.scaling.original_context_length": 128,
		"rope.scaling.type": "yarn", "attention.sliding_window": 8,
	} {
		if n, ok := v.(int); ok {
			v = uint32(n)
		}
		m.meta[arch+"."+k] = v
	}
	tokens, types := make([]string, tinyV), make([]int32, tinyV)
	for i := range tokens {
		tokens[i], types[i] = fmt.Sprintf("t%d", i), 1
	}
	tokens[1], tokens[2] = "Ġa", "Ċ"
	tokens[30], types[30] = "<|return|>", 3
	tokens[31], types[31] = "<|call|>", 4
	tokens[38], types[38] = "[PAD38]", 5
	tokens[39], types[39] = "[PAD0]", 4
	m.meta[ggufTokens], m.meta[ggufTypes] = tokens, types
	m.tensors["token_embd.weight"] = ggmlTensor(dtype.Q8_0, tinyH, tinyV)
	m.tensors["output.weight"] = ggmlTensor(dtype.Q8_0, tinyH, tinyV)
	m.tensors["output_norm.weight"] = ggmlTensor(dtype.F32, tinyH)
	for n := range tinyLayers {
		p := fmt.Sprintf("blk.%d.", n)
		m.tensors[p+"attn_norm.weight"] = ggmlTensor(dtype.F32, tinyH)
		m.tensors[p+"post_attention_norm.weight"] = ggmlTensor(dtype.F32, tinyH)
		m.tensors[p+"attn_sinks.weight"] = ggmlTensor(dtype.F32, tinyHeads)
		m.linear(p+"attn_q", tinyH, tinyHeads*tinyDim)
		m.linear(p+"attn_k", tinyH, tinyKV*tinyDim)
		m.linear(p+"attn_v", tinyH, tinyKV*tinyDim)
		m.linear(p+"attn_output", tinyHeads*tinyDim, tinyH)
		m.linear(p+"ffn_gate_inp", tinyH, tinyE)
		m.experts(p+"ffn_gate_exps", tinyH, tinyI)
		m.experts(p+"ffn_up_exps", tinyH, tinyI)
		m.experts(p+"ffn_down_exps", tinyI, tinyH)
	}
	return m
}

func (m *tinyGGUF) linear(name string, in, out uint64) {
	m.tensors[name+".weight"], m.tensors[name+".bias"] = ggmlTensor(dtype.Q8_0, in, out), ggmlTensor(dtype.F32, out)
}

func (m *tinyGGUF) experts(name string, in, out uint64) {
	m.tensors[name+".weight"], m.tensors[name+".bias"] = ggmlTensor(dtype.MXFP4GGML, in, out, tinyE), ggmlTensor(dtype.F32, out, tinyE)
}

func ggufText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// bytes writes the file: header, metadata and tensors in the order of their names, data aligned to 32 bytes.
func (m *tinyGGUF) bytes() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte(ggufMagic), m.version)
	b = le.AppendUint64(le.AppendUint64(b, uint64(len(m.tensors))), uint64(len(m.meta)))
	for _, key := range slices.Sorted(maps.Keys(m.meta)) {
		b = ggufText(b, key)
		switch v := m.meta[key].(type) {
		case uint32:
			b = le.AppendUint32(le.AppendUint32(b, uint32(kindU32)), v)
		case float32:
			b = le.AppendUint32(le.AppendUint32(b, uint32(kindF32)), math.Float32bits(v))
		case string:
			b = ggufText(le.AppendUint32(b, uint32(kindString)), v)
		case []string:
			b = le.AppendUint64(le.AppendUint32(le.AppendUint32(b, uint32(kindArray)), uint32(kindString)), uint64(len(v)))
			for _, s := range v {
				b = ggufText(b, s)
			}
		case []int32:
			b = le.AppendUint64(le.AppendUint32(le.AppendUint32(b, uint32(kindArray)), uint32(kindI32)), uint64(len(v)))
			for _, x := range v {
				b = le.AppendUint32(b, uint32(x))
			}
		case []bool:
			b = le.AppendUint64(le.AppendUint32(le.AppendUint32(b, uint32(kindArray)), uint32(kindBool)), uint64(len(v)))
			for _, x := range v {
				b = append(b, map[bool]byte{true: 1}[x])
			}
		default:
			panic(fmt.Sprintf("metadata of type %T", v))
		}
	}
	var data []byte
	for _, name := range slices.Sorted(maps.Keys(m.tensors)) {
		x := m.tensors[name]
		b = le.AppendUint32(ggufText(b, name), uint32(len(x.ne)))
		for _, n := range x.ne {
			b = le.AppendUint64(b, n)
		}
		b = le.AppendUint64(le.AppendUint32(b, x.id), uint64(len(data)))
		data = append(append(data, x.data...), make([]byte, -len(x.data)&31)...)
	}
	return append(append(b, make([]byte, -len(b)&31)...), data...)
}

func openBytes(t testing.TB, name string, b []byte) (*Checkpoint, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return Open(path)
}

func TestGGUFSpoiled(t *testing.T) {
	const block = "gpt-oss.block_count"
	for _, x := range []struct {
		name  string
		spoil func(m *tinyGGUF)
		want  []string
	}{
		{"version 1", func(m *tinyGGUF) { m.version = 1 }, []string{"version 1"}},
		{"big-endian", func(m *tinyGGUF) { m.version = 3 << 24 }, []string{"big-endian"}},
		{"another model", func(m *tinyGGUF) { m.meta["general.architecture"] = "llama" }, []string{"general.architecture", "llama"}},
		{"architecture is a number", func(m *tinyGGUF) { m.meta["general.architecture"] = uint32(1) }, []string{"general.architecture", "u32"}},
		{"no layers", func(m *tinyGGUF) { delete(m.meta, block) }, []string{block, "missing"}},
		{"layers are text", func(m *tinyGGUF) { m.meta[block] = "24" }, []string{block, "string"}},
		{"layers 0", func(m *tinyGGUF) { m.meta[block] = uint32(0) }, []string{block, "0 is not in"}},
		{"layers 2.5", func(m *tinyGGUF) { m.meta[block] = float32(2.5) }, []string{block, "2.5"}},
		{"layers NaN", func(m *tinyGGUF) { m.meta[block] = float32(math.NaN()) }, []string{block, "NaN"}},
		{"fewer layers", func(m *tinyGGUF) { m.meta[block] = uint32(1) }, []string{"blk.1.attn_norm", "only 1 layers"}},
		{"value length", func(m *tinyGGUF) { m.meta["gpt-oss.attention.value_length"] = uint32(4) }, []string{"value_length", "key_length 8"}},
		{"odd head", func(m *tinyGGUF) {
			m.meta["gpt-oss.attention.key_length"], m.meta["gpt-oss.attention.value_length"] = uint32(7), uint32(7)
		}, []string{"attention.key_length", "odd"}},
		{"more chosen than experts", func(m *tinyGGUF) { m.meta["gpt-oss.expert_used_count"] = uint32(3) }, []string{"expert_used_count", "expert_count"}},
		{"linear rope", func(m *tinyGGUF) { m.meta["gpt-oss.rope.scaling.type"] = "linear" }, []string{"rope.scaling.type", "linear"}},
		{"own attention factor", func(m *tinyGGUF) { m.meta["gpt-oss.rope.scaling.attn_factor"] = float32(2) }, []string{"attn_factor", "2"}},
		{"another pattern", func(m *tinyGGUF) { m.meta["gpt-oss.attention.sliding_window_pattern"] = uint32(6) }, []string{"sliding_window_pattern", "6"}},
		{"short pattern", func(m *tinyGGUF) { m.meta["gpt-oss.attention.sliding_window_pattern"] = []bool{true} }, []string{"sliding_window_pattern", "1 entries"}},
		{"no tokens", func(m *tinyGGUF) { delete(m.meta, ggufTokens) }, []string{ggufTokens, "missing"}},
		{"tokens are numbers", func(m *tinyGGUF) { m.meta[ggufTokens] = []int32{1} }, []string{ggufTokens, "not an array"}},
		{"fewer types than tokens", func(m *tinyGGUF) { m.meta[ggufTypes] = []int32{1} }, []string{ggufTypes, "1 entries for 40"}},
		{"a token outside the alphabet", func(m *tinyGGUF) { m.meta[ggufTokens].([]string)[5] = "a b" }, []string{"token 5", "alphabet"}},
		{"a broken token", func(m *tinyGGUF) { m.meta[ggufTokens].([]string)[5] = "a\xff" }, []string{"token 5", "alphabet"}},
		{"a special token twice", func(m *tinyGGUF) { m.meta[ggufTokens].([]string)[31] = "<|return|>" }, []string{"<|return|>", "30", "31"}},
		{"embedding of another size", func(m *tinyGGUF) { m.tensors["token_embd.weight"] = ggmlTensor(dtype.F32, tinyH, 41) }, []string{"token_embd", "[41 64]", "metadata asks", "[40 64]"}},
		{"missing bias", func(m *tinyGGUF) { delete(m.tensors, "blk.1.ffn_up_exps.bias") }, []string{"blk.1.ffn_up_exps.bias", "missing"}},
		{"missing head", func(m *tinyGGUF) { delete(m.tensors, "output.weight") }, []string{"output.weight", "missing"}},
		{"unread type", func(m *tinyGGUF) { m.tensors["output.weight"].id = 40 }, []string{"output.weight", "type 40", "NVFP4"}},
		{"type 4 outside Ollama", func(m *tinyGGUF) { m.tensors["blk.0.ffn_up_exps.weight"].id = 4 }, []string{"blk.0.ffn_up_exps.weight", "Ollama"}},
		{"five axes", func(m *tinyGGUF) { m.tensors["output.weight"].ne = []uint64{1, 1, 1, 1, 1} }, []string{"output.weight", "5 axes"}},
		{"an empty axis", func(m *tinyGGUF) { m.tensors["output.weight"].ne = []uint64{64, 0} }, []string{"output.weight", "empty"}},
		{"an overflowing shape", func(m *tinyGGUF) { m.tensors["output.weight"].ne = []uint64{1 << 40, 1 << 40} }, []string{"output.weight", "overflows"}},
		{"past the end", func(m *tinyGGUF) { m.tensors["token_embd.weight"].ne = []uint64{64, 1 << 20} }, []string{"token_embd.weight", "past the end"}},
		{"rows of half a block", func(m *tinyGGUF) { m.tensors["output.weight"].ne = []uint64{48, 40} }, []string{"output.weight", "blocks of 32"}},
		{"overlap", func(m *tinyGGUF) { m.tensors["blk.0.attn_k.bias"].ne = []uint64{128} }, []string{"overlaps", "blk.0.attn_k.bias"}},
		{"alignment 3", func(m *tinyGGUF) { m.meta["general.alignment"] = uint32(3) }, []string{"general.alignment", "3"}},
		{"coarser alignment", func(m *tinyGGUF) { m.meta["general.alignment"] = uint32(1 << 16) }, []string{"alignment 65536"}},
		{"a part alone", func(m *tinyGGUF) { m.meta["split.count"] = uint32(3) }, []string{"split.count", "there are 1"}},
		{"Ollama from BF16", func(m *tinyGGUF) { m.tensors["blk.0.mlp.experts.gate_up_proj"] = ggmlTensor(dtype.F32, 32) }, []string{"blk.0.mlp.experts.gate_up_proj", "Ollama"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := newTinyGGUF("gpt-oss")
			x.spoil(m)
			c, err := openBytes(t, "m.gguf", m.bytes())
			if err == nil {
				c.Close()
			}
			wantError(t, err, append(x.want, "m.gguf")...)
		})
	}
}

// TestGGUFCut cuts a file at every length; none may pass, panic or be taken for something else.
func TestGGUFCut(t *testing.T) {
	b := newTinyGGUF("gpt-oss").bytes()
	header := bytes.Index(b, []byte("token_embd.weight"))
	for n := 4; n < header; n += 3 {
		if _, err := parseGGUF(b[:n]); err == nil {
			t.Fatalf("%d of %d bytes pass", n, len(b))
		}
	}
	for n := len(b) - 1; n > len(b)-4000; n -= 97 {
		if _, err := parseGGUF(b[:n]); err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
	}
}

// TestGGUFSpellings: what differs between converters and still means the same.
func TestGGUFSpellings(t *testing.T) {
	rename := func(m *tinyGGUF, old, new string) {
		for name, x := range maps.Clone(m.tensors) {
			if strings.Contains(name, old) {
				delete(m.tensors, name)
				m.tensors[strings.Replace(name, old, new, 1)] = x
			}
		}
	}
	base, err := openBytes(t, "m.gguf", newTinyGGUF("gpt-oss").bytes())
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	want := canonical(t, base)
	for _, x := range []struct {
		name   string
		arch   string
		change func(m *tinyGGUF)
		note   string
	}{
		{"version 2", "gpt-oss", func(m *tinyGGUF) { m.version = 2 }, ""},
		{"Ollama's names", "gptoss", func(m *tinyGGUF) {
			rename(m, "attn_output", "attn_out")
			rename(m, "attn_sinks.weight", "attn_sinks")
			rename(m, "post_attention_norm", "ffn_norm")
			delete(m.meta, "gptoss.rope.scaling.type")
		}, "rope.scaling.type yarn"},
		{"doubled suffix", "gptoss", func(m *tinyGGUF) { rename(m, "_exps.weight", "_exps.weight.weight") }, ""},
		{"no suffix", "gptoss", func(m *tinyGGUF) { rename(m, "_exps.weight", "_exps") }, ""},
		{"zeros", "gptoss", func(m *tinyGGUF) {
			m.meta["gptoss.rope.freq_base"], m.meta["gptoss.rope.scaling.factor"] = float32(0), float32(0)
		}, "rope.freq_base 150000, rope.scaling.factor 32"},
		{"merged, gate then up", "gpt-oss", func(m *tinyGGUF) { mergeGateUp(m, false) }, "gate rows of an expert, then its up rows"},
		{"merged, interleaved", "gptoss", func(m *tinyGGUF) { mergeGateUp(m, true) }, ""},
		{"pattern 2", "gpt-oss", func(m *tinyGGUF) { m.meta["gpt-oss.attention.sliding_window_pattern"] = uint32(2) }, ""},
		{"pattern listed", "gpt-oss", func(m *tinyGGUF) { m.meta["gpt-oss.attention.sliding_window_pattern"] = []bool{true, false} }, ""},
		{"own intermediate size", "gpt-oss", func(m *tinyGGUF) {
			m.meta["gpt-oss.expert_feed_forward_length"], m.meta["gpt-oss.feed_forward_length"] = uint32(tinyI), uint32(1)
		}, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := newTinyGGUF(x.arch)
			x.change(m)
			c, err := openBytes(t, "sha256-0123", m.bytes()) // as in Ollama's blobs: no extension
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if d := cmp.Diff(base.Config(), c.Config()); d != "" {
				t.Error(d)
			}
			got := canonical(t, c)
			for name := range want {
				diff(t, name, got[name], want[name])
			}
			if notes := strings.Join(c.Notes(), "\n"); !strings.Contains(notes, x.note) {
				t.Errorf("notes %q do not say %q", notes, x.note)
			}
		})
	}
}

// mergeGateUp stores gate and up in one tensor, row by row in turn or one after the other.
func mergeGateUp(m *tinyGGUF, inTurn bool) {
	for n := range tinyLayers {
		p := fmt.Sprintf("blk.%d.ffn_", n)
		for _, part := range []string{"weight", "bias"} {
			gate, up := m.tensors[p+"gate_exps."+part], m.tensors[p+"up_exps."+part]
			delete(m.tensors, p+"gate_exps."+part)
			delete(m.tensors, p+"up_exps."+part)
			rows := tinyE // of bytes to alternate
			if inTurn {
				rows = tinyE * tinyI
			}
			size := len(gate.data) / rows
			merged := &ggufTensor{id: gate.id, ne: slices.Clone(gate.ne)}
			merged.ne[len(merged.ne)-2] *= 2
			for r := range rows {
				merged.data = append(append(merged.data, gate.data[r*size:(r+1)*size]...), up.data[r*size:(r+1)*size]...)
			}
			m.tensors[p+"gate_up_exps."+part] = merged
		}
	}
}

// TestGGUFParts opens a model that is split into two files, by the folder and by the second part.
func TestGGUFParts(t *testing.T) {
	whole := newTinyGGUF("gpt-oss")
	whole.meta["split.count"], whole.meta["split.tensors.count"] = uint32(2), uint32(len(whole.tensors))
	rest := &tinyGGUF{version: 3, meta: map[string]any{"split.no": uint32(1)}, tensors: map[string]*ggufTensor{}}
	for name, x := range maps.Clone(whole.tensors) {
		if strings.HasPrefix(name, "blk.1.") {
			rest.tensors[name] = x
			delete(whole.tensors, name)
		}
	}
	dir := t.TempDir()
	for i, b := range [][]byte{whole.bytes(), rest.bytes()} {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("m-%05d-of-00002.gguf", i+1)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{dir, filepath.Join(dir, "m-00002-of-00002.gguf")} {
		canonical(t, open(t, path))
	}
	if err := os.Remove(filepath.Join(dir, "m-00002-of-00002.gguf")); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir)
	wantError(t, err, "m-00002-of-00002.gguf", "one of 2 parts")
}

func TestGGUFOtherPreTokenizer(t *testing.T) {
	for pre, noted := range map[string]bool{"gpt-4o": false, "default": false, "llama-bpe": true} {
		m := newTinyGGUF("gpt-oss")
		m.meta["tokenizer.ggml.pre"] = pre
		c, err := openBytes(t, "m.gguf", m.bytes())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := strings.Contains(strings.Join(c.Notes(), "\n"), "pre-tokenizer"); got != noted {
			t.Errorf("%s: notes %q", pre, c.Notes())
		}
	}
}

// TestVocabulary compares the vocabulary of two converters: padding rows differ in the files and are dropped.
func TestVocabulary(t *testing.T) {
	c := open(t, testmodel.Dir(t, "tiny-a/gguf-bf16"))
	tokens, special, ok := c.Vocabulary()
	if !ok || len(tokens) != 640 || len(special) != 21 {
		t.Fatalf("%d tokens, %d special, ok %v", len(tokens), len(special), ok)
	}
	other, otherSpecial, _ := open(t, testmodel.Dir(t, "tiny-a/gguf-ollama-v0.11.1")).Vocabulary()
	if d := cmp.Diff(tokens, other); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(special, otherSpecial); d != "" {
		t.Error(d)
	}
	for id := range 256 { // the first ids of this vocabulary are the single bytes
		if len(tokens[id]) != 1 {
			t.Errorf("token %d is %q", id, tokens[id])
		}
	}
	if string(tokens[599]) != " N" || tokens[604] != nil || special["<|return|>"] != 604 || tokens[639] != nil {
		t.Errorf("tokens 599 %q, 604 %q, 639 %q; <|return|> %d", tokens[599], tokens[604], tokens[639], special["<|return|>"])
	}
	if _, _, ok := open(t, testmodel.Dir(t, "tiny-a/hf-mxfp4")).Vocabulary(); ok {
		t.Error("safetensors have a vocabulary")
	}
}
