package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hearth/internal/dtype"
)

// The sizes of the generated models: hidden 64, intermediate 32, so gate_up is square (64 x 64).
const (
	tinyLayers, tinyH, tinyI, tinyHeads, tinyKV, tinyDim, tinyE, tinyV = 2, 64, 32, 4, 2, 8, 2, 40
)

// raw is a tensor to be written.
type raw struct {
	dtype string
	shape []int
	data  []byte
	file  string // "": model.safetensors
}

// tiny is a generated checkpoint that a test may spoil before it is written.
type tiny struct {
	config  map[string]any
	tensors map[string]*raw
	index   map[string]string // tensor -> file; nil: no index file
	extra   map[string]string // further files
}

func bf16(shape ...int) *raw {
	n := 1
	for _, d := range shape {
		n *= d
	}
	r := &raw{dtype: "BF16", shape: shape, data: make([]byte, 2*n)}
	for i := range n { // 1, 2, 3 ... 8 in turn, so that no two neighbours are equal
		binary.LittleEndian.PutUint16(r.data[2*i:], dtype.ToBF16(float32(i%8+1)))
	}
	return r
}

func u8(data []byte, shape ...int) *raw { return &raw{dtype: "U8", shape: shape, data: data} }

func f32s(v ...float32) *raw {
	r := &raw{dtype: "F32", shape: []int{len(v)}, data: make([]byte, 4*len(v))}
	for i, x := range v {
		binary.LittleEndian.PutUint32(r.data[4*i:], math.Float32bits(x))
	}
	return r
}

// newTiny generates a sound model with Transformers' names and the given kind of experts.
func newTiny(l Layout) *tiny {
	m := &tiny{tensors: map[string]*raw{}, extra: map[string]string{}, config: map[string]any{
		"architectures": []string{"GptOssForCausalLM"}, "model_type": "gpt_oss",
		"num_hidden_layers": tinyLayers, "hidden_size": tinyH, "intermediate_size": tinyI,
		"num_attention_heads": tinyHeads, "num_key_value_heads": tinyKV, "head_dim": tinyDim,
		"num_local_experts": tinyE, "num_experts_per_tok": 1, "vocab_size": tinyV, "max_position_embeddings": 4096,
		"rms_norm_eps": 1e-5, "swiglu_limit": 7.0, "swiglu_alpha": 1.702, "rope_theta": 150000, "sliding_window": 8,
		"rope_scaling": map[string]any{
			"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
			"original_max_position_embeddings": 128, "truncate": false,
		},
	}}
	m.tensors["model.embed_tokens.weight"] = bf16(tinyV, tinyH)
	m.tensors["lm_head.weight"] = bf16(tinyV, tinyH)
	m.tensors["model.norm.weight"] = bf16(tinyH)
	for n := range tinyLayers {
		p := fmt.Sprintf("model.layers.%d.", n)
		m.tensors[p+"input_layernorm.weight"] = bf16(tinyH)
		m.tensors[p+"post_attention_layernorm.weight"] = bf16(tinyH)
		m.tensors[p+"self_attn.sinks"] = bf16(tinyHeads)
		m.linear(p+"self_attn.q_proj", tinyHeads*tinyDim, tinyH)
		m.linear(p+"self_attn.k_proj", tinyKV*tinyDim, tinyH)
		m.linear(p+"self_attn.v_proj", tinyKV*tinyDim, tinyH)
		m.linear(p+"self_attn.o_proj", tinyH, tinyHeads*tinyDim)
		m.linear(p+"mlp.router", tinyE, tinyH)
		m.experts(l, p+"mlp.experts.")
	}
	return m
}

func (m *tiny) linear(name string, rows, cols int) {
	m.tensors[name+".weight"], m.tensors[name+".bias"] = bf16(rows, cols), bf16(rows)
}

func (m *tiny) experts(l Layout, p string) {
	if l == HFMXFP4 || l == HFDense || l == FusedBNB {
		m.tensors[p+"gate_up_proj_bias"], m.tensors[p+"down_proj_bias"] = bf16(tinyE, 2*tinyI), bf16(tinyE, tinyH)
	}
	switch l {
	case HFMXFP4:
		m.mxfp4(p+"gate_up_proj", 2*tinyI, tinyH)
		m.mxfp4(p+"down_proj", tinyH, tinyI)
		m.config["quantization_config"] = map[string]any{"quant_method": "mxfp4"}
	case HFDense:
		m.tensors[p+"gate_up_proj"], m.tensors[p+"down_proj"] = bf16(tinyE, tinyH, 2*tinyI), bf16(tinyE, tinyI, tinyH)
	case FusedBNB:
		m.bnb(p+"gate_up_proj", false, tinyE, tinyH, 2*tinyI)
		m.bnb(p+"down_proj", true, tinyE, tinyI, tinyH)
		m.config["quantization_config"] = map[string]any{"quant_method": "bitsandbytes"}
	case PerExpertDense, PerExpertBNB:
		for e := range tinyE {
			up, down := fmt.Sprintf("%sgate_up_projs.%d", p, e), fmt.Sprintf("%sdown_projs.%d", p, e)
			m.linear(up, 2*tinyI, tinyH)
			m.linear(down, tinyH, tinyI)
			if l == PerExpertBNB {
				m.bnb(up+".weight", true, 2*tinyI, tinyH)
				m.bnb(down+".weight", false, tinyH, tinyI)
				m.config["quantization_config"] = map[string]any{"quant_method": "bitsandbytes"}
			}
		}
	case SplitExperts:
		for e := range tinyE {
			m.linear(fmt.Sprintf("%s%d.gate_proj", p, e), tinyI, tinyH)
			m.linear(fmt.Sprintf("%s%d.up_proj", p, e), tinyI, tinyH)
			m.linear(fmt.Sprintf("%s%d.down_proj", p, e), tinyH, tinyI)
		}
	}
}

func (m *tiny) mxfp4(name string, rows, cols int) {
	n := tinyE * rows * cols
	m.tensors[name+"_blocks"] = u8(bytes.Repeat([]byte{0x21}, n/2), tinyE, rows, cols/32, 16)
	m.tensors[name+"_scales"] = u8(bytes.Repeat([]byte{127}, n/32), tinyE, rows, cols/32)
}

// bnb replaces a weight by a 4-bit tensor of the given logical shape.
func (m *tiny) bnb(name string, nested bool, shape ...int) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	m.tensors[name] = u8(bytes.Repeat([]byte{0x21}, n/2), n/2, 1)
	m.tensors[name+".quant_map"] = f32s(dtype.NF4Table[:]...)
	state := map[string]any{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": shape}
	if nested {
		blocks := n / 64
		m.tensors[name+".absmax"] = u8(bytes.Repeat([]byte{255}, blocks), blocks)
		m.tensors[name+".nested_absmax"] = f32s(slices.Repeat([]float32{0.5}, (blocks+255)/256)...)
		table := make([]float32, 256)
		for i := range table {
			table[i] = float32(i-127) / 128
		}
		m.tensors[name+".nested_quant_map"] = f32s(table...)
		state["nested_blocksize"], state["nested_dtype"], state["nested_offset"] = 256, "float32", 0.25
	} else {
		m.tensors[name+".absmax"] = f32s(slices.Repeat([]float32{1}, n/64)...)
	}
	m.setState(name, state)
}

// setState writes the quant state of a 4-bit tensor.
func (m *tiny) setState(name string, state map[string]any) {
	b, _ := json.Marshal(state)
	m.tensors[name+quantState+"nf4"] = u8(b, len(b))
}

// editState changes fields of a quant state; nil removes one.
func (m *tiny) editState(name string, fields map[string]any) {
	state := map[string]any{}
	json.Unmarshal(m.tensors[name+quantState+"nf4"].data, &state)
	for k, v := range fields {
		if state[k] = v; v == nil {
			delete(state, k)
		}
	}
	m.setState(name, state)
}

// toOpenAI renames a model with MXFP4 experts to OpenAI's own names and configuration.
func (m *tiny) toOpenAI() {
	rename := strings.NewReplacer("model.layers.", "block.", "model.embed_tokens", "embedding", "lm_head", "unembedding",
		"model.norm.weight", "norm.scale", "input_layernorm.weight", "attn.norm.scale", "post_attention_layernorm.weight", "mlp.norm.scale",
		"self_attn.", "attn.", "o_proj", "out", "mlp.router", "mlp.gate", "mlp.experts.gate_up_proj_bias", "mlp.mlp1_bias",
		"mlp.experts.down_proj_bias", "mlp.mlp2_bias", "mlp.experts.gate_up_proj_", "mlp.mlp1_weight.", "mlp.experts.down_proj_", "mlp.mlp2_weight.")
	old := m.tensors
	m.tensors = map[string]*raw{}
	for name, r := range old {
		m.tensors[rename.Replace(name)] = r
	}
	for n := range tinyLayers {
		for _, part := range []string{"weight", "bias"} {
			q := m.tensors[fmt.Sprintf("block.%d.attn.q_proj.%s", n, part)]
			fused := &raw{dtype: q.dtype, shape: slices.Clone(q.shape)}
			fused.shape[0] = 0
			for _, x := range []string{"q", "k", "v"} {
				name := fmt.Sprintf("block.%d.attn.%s_proj.%s", n, x, part)
				fused.shape[0] += m.tensors[name].shape[0]
				fused.data = append(fused.data, m.tensors[name].data...)
				delete(m.tensors, name)
			}
			m.tensors[fmt.Sprintf("block.%d.attn.qkv.%s", n, part)] = fused
		}
	}
	m.config = map[string]any{
		"num_hidden_layers": tinyLayers, "num_experts": tinyE, "experts_per_token": 1, "vocab_size": tinyV,
		"hidden_size": tinyH, "intermediate_size": tinyI, "swiglu_limit": 7.0, "head_dim": tinyDim,
		"num_attention_heads": tinyHeads, "num_key_value_heads": tinyKV, "sliding_window": 8, "initial_context_length": 128,
		"rope_theta": 150000, "rope_scaling_factor": 32.0, "rope_ntk_alpha": 1, "rope_ntk_beta": 32,
	}
}

// write puts the checkpoint into a folder.
func (m *tiny) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	byFile := map[string]map[string]*raw{}
	for name, r := range m.tensors {
		file := r.file
		if file == "" {
			file = "model.safetensors"
		}
		if byFile[file] == nil {
			byFile[file] = map[string]*raw{}
		}
		byFile[file][name] = r
	}
	files := maps.Clone(m.extra)
	for file, tensors := range byFile {
		files[file] = string(safetensorsFile(tensors))
	}
	if m.config != nil {
		b, err := json.Marshal(m.config)
		if err != nil {
			t.Fatal(err)
		}
		files["config.json"] = string(b)
	}
	if m.index != nil {
		b, _ := json.Marshal(map[string]any{"metadata": map[string]any{"total_size": 1}, "weight_map": m.index})
		files[indexName] = string(b)
	}
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// shard spreads the tensors over two files with an index.
func (m *tiny) shard() {
	m.index = map[string]string{}
	for i, name := range slices.Sorted(maps.Keys(m.tensors)) {
		file := fmt.Sprintf("model-%05d-of-00001.safetensors", i%2)
		m.tensors[name].file, m.index[name] = file, file
	}
}

// safetensorsFile writes tensors in the order of their names.
func safetensorsFile(tensors map[string]*raw) []byte {
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var data []byte
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		r := tensors[name]
		header[name] = map[string]any{
			"dtype": r.dtype, "shape": append([]int{}, r.shape...), "data_offsets": []int{len(data), len(data) + len(r.data)},
		}
		data = append(data, r.data...)
	}
	b, _ := json.Marshal(header)
	return frame(string(b), string(data))
}

// frame puts a header before data.
func frame(header, data string) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), data...)
}
