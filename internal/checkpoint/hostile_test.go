package checkpoint

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wantError checks that an error is there and holds all the words.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

// TestGenerated makes sure that the models which the other tests spoil are sound to begin with.
func TestGenerated(t *testing.T) {
	for l := HFMXFP4; l <= FusedBNB; l++ {
		t.Run(l.String(), func(t *testing.T) {
			c := open(t, newTiny(l).write(t))
			if c.Layout() != l {
				t.Errorf("layout %s", c.Layout())
			}
			for n := range tinyLayers {
				if _, err := c.Layer(n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	m := newTiny(HFMXFP4)
	m.toOpenAI()
	if c := open(t, m.write(t)); c.Layout() != OpenAI {
		t.Errorf("layout %s", c.Layout())
	}
}

const (
	layer1  = "model.layers.1."
	experts = layer1 + "mlp.experts."
)

// spoiled is one way to spoil a generated model, with words that the error must hold.
type spoiled struct {
	name   string
	layout Layout
	spoil  func(m *tiny)
	want   []string
}

func drop(name string) func(*tiny) { return func(m *tiny) { delete(m.tensors, name) } }

func put(name string, r *raw) func(*tiny) { return func(m *tiny) { m.tensors[name] = r } }

func set(field string, v any) func(*tiny) { return func(m *tiny) { m.config[field] = v } }

func state(name string, fields map[string]any) func(*tiny) {
	return func(m *tiny) { m.editState(name, fields) }
}

// spoiledTensors: what can be wrong with the tensors of a folder.
func spoiledTensors() []spoiled {
	const up0 = "model.layers.0.mlp.experts.gate_up_projs.0.weight"
	return []spoiled{
		{"missing norm", HFMXFP4, drop("model.norm.weight"), []string{"model.norm.weight", "missing"}},
		{"missing head", HFMXFP4, drop("lm_head.weight"), []string{`"lm_head.weight"`, "missing"}},
		{"missing bias in layer 1", HFMXFP4, drop(layer1 + "self_attn.k_proj.bias"), []string{layer1 + "self_attn.k_proj.bias", "missing"}},
		{"missing sinks", HFMXFP4, drop(layer1 + "self_attn.sinks"), []string{"sinks", "missing"}},
		{"missing scales", HFMXFP4, drop(experts + "down_proj_scales"), []string{"down_proj_scales", "missing"}},
		{"embedding of another vocabulary", HFMXFP4, put("model.embed_tokens.weight", bf16(tinyV+1, tinyH)), []string{"embed_tokens", "[41 64]", "config.json", "[40 64]"}},
		{"transposed q", HFMXFP4, put(layer1+"self_attn.q_proj.weight", bf16(tinyH, tinyHeads*tinyDim)), []string{"q_proj.weight", "[64 32]", "[32 64]"}},
		{"integer weight", HFMXFP4, put(layer1+"self_attn.q_proj.weight", &raw{dtype: "I8", shape: []int{32, 64}, data: make([]byte, 2048)}), []string{"q_proj.weight", "I8", "not supported"}},
		{"integer bias", HFMXFP4, put(layer1+"self_attn.q_proj.bias", &raw{dtype: "I16", shape: []int{32}, data: make([]byte, 64)}), []string{"q_proj.bias", "I16"}},
		{"float codes", HFMXFP4, put(experts+"down_proj_blocks", bf16(tinyE, tinyH, 1, 16)), []string{"down_proj_blocks", "BF16", "want U8"}},
		{"scales of another shape", HFMXFP4, put(experts+"down_proj_scales", u8(make([]byte, 256), tinyE, tinyH, 2)), []string{"down_proj_scales", "[2 64 2]", "[2 64 1]"}},
		{"a layer too many", HFMXFP4, put("model.layers.2.input_layernorm.weight", bf16(tinyH)), []string{"model.layers.2", "only 2 layers"}},
		{"both spellings", HFMXFP4, put("norm.weight", bf16(tinyH)), []string{`"model.norm.weight"`, `"norm.weight"`, "same meaning"}},
		{"LoRA names", HFDense, put("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", bf16(1, tinyH)), []string{"lora_A", "LoRA adapter", "merge"}},
		{"base layer names", HFDense, put("model.layers.0.self_attn.q_proj.base_layer.weight", bf16(1, tinyH)), []string{"base_layer", "LoRA adapter"}},
		{"packed weights", HFDense, put(experts+"0.up_proj.weight_packed", u8(nil, 0)), []string{"weight_packed", "compressed-tensors", "not supported"}},
		{"GPTQ", HFDense, put(layer1+"self_attn.q_proj.g_idx", u8(nil, 0)), []string{"g_idx", "GPTQ"}},
		{"AWQ", HFDense, put(layer1+"self_attn.q_proj.qweight", u8(nil, 0)), []string{"qweight", "AWQ"}},
		{"FP8 scales", HFDense, put(layer1+"self_attn.q_proj.weight_scale_inv", f32s(1)), []string{"weight_scale_inv", "FP8"}},
		{"8-bit bitsandbytes", HFDense, put(layer1+"self_attn.q_proj.SCB", f32s(1)), []string{"SCB", "8-bit"}},
		{"MLX", HFDense, put(layer1+"self_attn.q_proj.biases", f32s(1)), []string{"biases", "MLX"}},
		{"FP8 experts", HFDense, put("model.layers.0.mlp.experts.gate_up_proj", &raw{dtype: "F8_E5M2", shape: []int{2, 64, 64}, data: make([]byte, 8192)}), []string{"gate_up_proj", "F8_E5M2", "not supported"}},
		{"fused experts of a wrong shape", HFDense, put(experts+"gate_up_proj", bf16(tinyE, 32, 128)), []string{"gate_up_proj", "[2 32 128]"}},
		{"fused down in the other order", HFDense, put(experts+"down_proj", bf16(tinyE, tinyH, tinyI)), []string{"down_proj", "[2 64 32]", "[2 32 64]"}},
		{"a dense model", HFDense, func(m *tiny) {
			m.tensors = map[string]*raw{"model.layers.0.mlp.gate_proj.weight": bf16(2, 2)}
		}, []string{"dense model", "GPT-OSS"}},
		{"nothing known", HFDense, func(m *tiny) { m.tensors = map[string]*raw{"x": bf16(2)} }, []string{"no GPT-OSS experts"}},
		{"ragged experts", PerExpertDense, drop(experts + "gate_up_projs.1.weight"), []string{"gate_up_projs.1.weight", "missing"}},
		{"ragged biases", PerExpertDense, drop(experts + "down_projs.1.bias"), []string{"down_projs.1.bias", "missing"}},
		{"an expert too many", PerExpertDense, put(experts+"gate_up_projs.2.weight", bf16(64, 64)), []string{"gate_up_projs.2", "only 2 experts"}},
		{"ragged split experts", SplitExperts, drop(experts + "1.up_proj.weight"), []string{"1.up_proj.weight", "missing"}},
		{"a split expert too many", SplitExperts, put(experts+"2.down_proj.weight", bf16(64, 32)), []string{"2.down_proj", "only 2 experts"}},
		{"short codes", PerExpertBNB, put(up0, u8(make([]byte, 2047), 2047, 1)), []string{up0, "2047 bytes", "2048"}},
		{"no absmax", PerExpertBNB, drop(up0 + ".absmax"), []string{"absmax", "missing"}},
		{"short absmax", PerExpertBNB, put(up0+".absmax", u8(make([]byte, 63), 63)), []string{"absmax", "[63]", "[64]"}},
		{"float absmax of a nested tensor", PerExpertBNB, put(up0+".absmax", f32s(make([]float32, 64)...)), []string{"absmax", "F32 of shape", "want U8"}},
		{"no nested absmax", PerExpertBNB, drop(up0 + ".nested_absmax"), []string{"nested_absmax", "missing"}},
		{"long nested absmax", PerExpertBNB, put(up0+".nested_absmax", f32s(1, 1)), []string{"nested_absmax", "[2]", "[1]"}},
		{"no code table", PerExpertBNB, drop(up0 + ".quant_map"), []string{"quant_map", "missing"}},
		{"another code table", PerExpertBNB, put(up0+".quant_map", f32s(make([]float32, 16)...)), []string{"quant_map", "code 0"}},
		{"another scale table", PerExpertBNB, put(up0+".nested_quant_map", f32s(make([]float32, 256)...)), []string{"nested_quant_map", "ascend"}},
		{"short scale table", PerExpertBNB, put(up0+".nested_quant_map", f32s(make([]float32, 255)...)), []string{"nested_quant_map", "[255]", "[256]"}},
		{"state is no JSON", PerExpertBNB, put(up0+quantState+"nf4", u8([]byte("{"), 1)), []string{"quant_state", up0}},
		{"state of two objects", PerExpertBNB, put(up0+quantState+"nf4", u8([]byte(`{"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[64,64]}{}`), 72)), []string{"quant_state"}},
		{"state of another type", PerExpertBNB, state(up0, map[string]any{"quant_type": "fp4"}), []string{"quant_state", "fp4"}},
		{"state of unknown type", PerExpertBNB, state(up0, map[string]any{"quant_type": "int8"}), []string{"int8", "nf4 or fp4"}},
		{"block of 0", PerExpertBNB, state(up0, map[string]any{"blocksize": 0}), []string{"blocksize 0"}},
		{"block of 48", PerExpertBNB, state(up0, map[string]any{"blocksize": 48}), []string{"blocksize 48"}},
		{"negative block", PerExpertBNB, state(up0, map[string]any{"blocksize": -64}), []string{"blocksize -64"}},
		{"another block", PerExpertBNB, state(up0, map[string]any{"blocksize": 128}), []string{"absmax", "[64]", "[32]"}},
		{"unknown dtype", PerExpertBNB, state(up0, map[string]any{"dtype": "float8"}), []string{"float8"}},
		{"transposed state", PerExpertBNB, state("model.layers.0.mlp.experts.down_projs.0.weight", map[string]any{"shape": []int{32, 64}}), []string{"down_projs.0", "[32 64]", "[64 32]"}},
		{"flat state", PerExpertBNB, state(up0, map[string]any{"shape": []int{4096}}), []string{"1 axes"}},
		{"nested block of 0", PerExpertBNB, state(up0, map[string]any{"nested_blocksize": 0}), []string{"nested_blocksize"}},
		{"no nested offset", PerExpertBNB, state(up0, map[string]any{"nested_offset": nil}), []string{"nested_offset", "missing"}},
		{"huge nested offset", PerExpertBNB, state(up0, map[string]any{"nested_offset": 1e300}), []string{"nested_offset", "1e+300"}},
		{"nested half", PerExpertBNB, state(up0, map[string]any{"nested_dtype": "float16"}), []string{"nested_dtype", "float16"}},
		{"fused in one order and the other", FusedBNB, state(experts+"gate_up_proj", map[string]any{"shape": []int{2, 32, 128}}), []string{"gate_up_proj", "[2 32 128]", "[2 64 64]"}},
		{"fused and legacy", FusedBNB, func(m *tiny) { m.tensors[experts+"down_proj"].shape = []int{1, 2048} }, []string{"down_proj", "transposed storage"}},
		{"fused block over experts", FusedBNB, func(m *tiny) {
			m.bnb(experts+"down_proj", false, tinyE, tinyI, tinyH)
			m.editState(experts+"down_proj", map[string]any{"blocksize": 4096})
			m.tensors[experts+"down_proj.absmax"] = f32s(1)
		}, []string{"down_proj", "whole number of blocks"}},
		{"index without a shard", HFMXFP4, func(m *tiny) {
			m.shard()
			m.index["model.norm.weight"] = "model-00009-of-00001.safetensors"
		}, []string{indexName, "model-00009-of-00001.safetensors", "missing"}},
		{"index names the wrong shard", HFMXFP4, func(m *tiny) {
			m.shard()
			m.tensors["model.norm.weight"].file = "model-00000-of-00001.safetensors"
			m.index["model.norm.weight"] = "model-00001-of-00001.safetensors"
		}, []string{indexName, "model.norm.weight", "model-00001"}},
		{"index without a tensor", HFMXFP4, func(m *tiny) { m.shard(); delete(m.index, "model.norm.weight") }, []string{"model.norm.weight", "not in the index"}},
		{"index leaves the folder", HFMXFP4, func(m *tiny) { m.shard(); m.index["model.norm.weight"] = "../x.safetensors" }, []string{"weight_map", "../x.safetensors"}},
		{"empty index", HFMXFP4, func(m *tiny) { m.index = map[string]string{} }, []string{indexName, "weight_map"}},
		{"index is no JSON", HFMXFP4, func(m *tiny) { m.extra[indexName] = "[" }, []string{indexName}},
		{"a tensor twice", HFMXFP4, func(m *tiny) {
			m.extra["zz.safetensors"] = string(safetensorsFile(map[string]*raw{"model.norm.weight": bf16(tinyH)}))
		}, []string{"model.norm.weight", "model.safetensors", "zz.safetensors", "again"}},
		{"no config", HFMXFP4, func(m *tiny) { m.config = nil }, []string{"config.json"}},
		{"a cut file", HFMXFP4, func(m *tiny) {
			b := safetensorsFile(m.tensors)
			m.tensors = nil
			m.extra["model.safetensors"] = string(b[:len(b)-1])
		}, []string{"model.safetensors", "cut off"}},
		{"an empty file", HFMXFP4, func(m *tiny) { m.extra["z.safetensors"] = "" }, []string{"z.safetensors", "empty"}},
		{"nothing at all", HFMXFP4, func(m *tiny) { m.tensors = nil; m.extra["original/x"] = "" }, []string{"no *.safetensors", "original"}},
		{"pickles", HFMXFP4, func(m *tiny) { m.tensors = nil; m.extra["pytorch_model.bin"] = "x" }, []string{"pytorch_model.bin", "pickle"}},
		{"Metal", HFMXFP4, func(m *tiny) { m.tensors = nil; m.extra["model.bin"] = metalMagic }, []string{"model.bin", "Metal", "original/"}},
		{"an adapter", HFMXFP4, func(m *tiny) {
			m.extra["adapter_config.json"], m.extra["adapter_model.safetensors"], m.tensors = "{}", "x", nil
		}, []string{"adapter_config.json", "LoRA"}},
		{"two GGUF files", HFMXFP4, func(m *tiny) { m.tensors = nil; m.extra["a.gguf"], m.extra["b.gguf"] = "x", "x" }, []string{"a.gguf, b.gguf", "name the one"}},
		{"a GGUF part missing", HFMXFP4, func(m *tiny) { m.tensors = nil; m.extra["a-00001-of-00002.gguf"] = "x" }, []string{"a-00002-of-00002.gguf", "one of 2 parts"}},
	}
}

// spoiledConfigs: what can be wrong with config.json.
func spoiledConfigs() []spoiled {
	rope := func(fields map[string]any) func(*tiny) {
		return func(m *tiny) {
			r := maps.Clone(m.config["rope_scaling"].(map[string]any))
			maps.Copy(r, fields)
			m.config["rope_scaling"] = r
		}
	}
	long := make([]string, tinyLayers+1)
	list := []spoiled{
		{"another model", 0, set("model_type", "llama"), []string{"model_type", "llama"}},
		{"another architecture", 0, func(m *tiny) { delete(m.config, "model_type"); m.config["architectures"] = []string{"X"} }, []string{"architectures", "X"}},
		{"text for a size", 0, set("hidden_size", "64"), []string{"hidden_size"}},
		{"fraction for a size", 0, set("hidden_size", 64.5), []string{"hidden_size"}},
		{"list for a number", 0, set("rms_norm_eps", []int{1}), []string{"rms_norm_eps"}},
		{"odd head", 0, set("head_dim", 7), []string{"head_dim", "odd"}},
		{"huge layers", 0, set("num_hidden_layers", 1<<20), []string{"num_hidden_layers", "1048576"}},
		{"wide heads", 0, func(m *tiny) { m.config["head_dim"], m.config["num_attention_heads"] = 1<<20, 1<<20 }, []string{"num_attention_heads", "wider"}},
		{"heads and kv heads", 0, set("num_key_value_heads", 3), []string{"num_attention_heads", "num_key_value_heads 3"}},
		{"more chosen than experts", 0, set("num_experts_per_tok", 3), []string{"num_experts_per_tok", "num_local_experts 2"}},
		{"hidden not that of the tensors", 0, set("hidden_size", 128), []string{"embed_tokens", "[40 64]", "[40 128]"}},
		{"eps 0", 0, set("rms_norm_eps", 0), []string{"rms_norm_eps"}},
		{"negative limit", 0, set("swiglu_limit", -1), []string{"swiglu_limit"}},
		{"alpha 0", 0, set("swiglu_alpha", 0), []string{"swiglu_alpha"}},
		{"theta 0", 0, set("rope_theta", 0), []string{"rope_theta"}},
		{"huge theta", 0, func(m *tiny) { m.extra["config.json"] = `{"rope_theta": 1e999}`; m.config = nil }, []string{"config.json"}},
		{"window 0", 0, set("sliding_window", 0), []string{"sliding_window", "0"}},
		{"window null", 0, set("sliding_window", nil), []string{"sliding_window", "null"}},
		{"too many layer types", 0, set("layer_types", long), []string{"layer_types", "3 entries for 2 layers"}},
		{"unknown layer type", 0, set("layer_types", []string{"full_attention", "chunked"}), []string{"layer_types", "layer 1", "chunked"}},
		{"linear rope", 0, rope(map[string]any{"rope_type": "linear"}), []string{"rope_scaling.rope_type", "linear"}},
		{"rope factor 0", 0, rope(map[string]any{"factor": 0}), []string{"rope_scaling.factor"}},
		{"betas the wrong way", 0, rope(map[string]any{"beta_fast": 1, "beta_slow": 2}), []string{"rope_scaling.beta_fast", "rope_scaling.beta_slow"}},
		{"own attention factor", 0, rope(map[string]any{"attention_factor": 1.0}), []string{"rope_scaling.attention_factor"}},
		{"mscale", 0, rope(map[string]any{"mscale": 1.0}), []string{"rope_scaling.mscale"}},
		{"partial rotation", 0, rope(map[string]any{"partial_rotary_factor": 0.5}), []string{"partial_rotary_factor"}},
		{"rope is text", 0, set("rope_scaling", "yarn"), []string{"rope_scaling"}},
		{"original context 0", 0, rope(map[string]any{"original_max_position_embeddings": 0}), []string{"original_max_position_embeddings"}},
		{"OpenAI's betas", 0, func(m *tiny) { m.toOpenAI(); m.config["rope_ntk_beta"] = 0.5 }, []string{"rope_ntk_beta: 0.5", "rope_ntk_alpha 1"}},
		{"OpenAI's experts", 0, func(m *tiny) { m.toOpenAI(); m.config["num_experts"] = 0 }, []string{"num_experts: 0"}},
		{"OpenAI's context", 0, func(m *tiny) { m.toOpenAI(); m.config["rope_scaling_factor"] = 1e9 }, []string{"max_position_embeddings", "1e+09"}},
		{"no object", 0, func(m *tiny) { m.extra["config.json"] = `[]`; m.config = nil }, []string{"config.json"}},
	}
	for _, field := range []string{
		"num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim",
		"num_local_experts", "num_experts_per_tok", "vocab_size", "max_position_embeddings",
	} {
		if field != "max_position_embeddings" { // which follows from the rope
			list = append(list, spoiled{"no " + field, 0, func(m *tiny) { delete(m.config, field) }, []string{"config.json", field, "missing"}})
		}
		list = append(list,
			spoiled{field + " 0", 0, set(field, 0), []string{"config.json", field, "0 is not in"}},
			spoiled{field + " huge", 0, set(field, 1<<20+1), []string{"config.json", field, "is not in"}},
			spoiled{field + " past int64", 0, set(field, 1e30), []string{"config.json", field}})
	}
	for i := range list {
		list[i].layout = HFMXFP4
	}
	return list
}

func TestSpoiled(t *testing.T) {
	for _, s := range append(spoiledTensors(), spoiledConfigs()...) {
		t.Run(s.name, func(t *testing.T) {
			m := newTiny(s.layout)
			s.spoil(m)
			c, err := Open(m.write(t))
			if err == nil {
				c.Close()
			}
			wantError(t, err, s.want...)
		})
	}
}

// TestOpenPath: what can be wrong with the path itself.
func TestOpenPath(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	shard := newTiny(HFMXFP4)
	shard.shard()
	whole := shard.write(t)
	for _, x := range []struct {
		name, path string
		want       []string
	}{
		{"absent", filepath.Join(dir, "absent"), []string{"absent"}},
		{"Metal", file("m.bin", metalMagic+"rest"), []string{"m.bin", "Metal"}},
		{"text", file("t.safetensors", "hello, this is no model"), []string{"t.safetensors", "not a safetensors file"}},
		{"short", file("s.safetensors", "x"), []string{"s.safetensors", "too few"}},
		{"GGUF", file("g.gguf", "GGUF"), []string{"g.gguf", "cut off"}},
		{"one shard", filepath.Join(whole, "model-00001-of-00001.safetensors"), []string{"model-00001-of-00001.safetensors", "give the folder"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := Open(x.path)
			wantError(t, err, x.want...)
		})
	}
}

// TestSpellings: names and settings that differ and still mean the same.
func TestSpellings(t *testing.T) {
	renamed := func(f func(string) string) func(*tiny) {
		return func(m *tiny) {
			old := m.tensors
			m.tensors = map[string]*raw{}
			for name, r := range old {
				m.tensors[f(name)] = r
			}
		}
	}
	for _, x := range []struct {
		name   string
		layout Layout
		change func(*tiny)
		notes  []string
	}{
		{"no model prefix", HFMXFP4, renamed(func(n string) string { return strings.TrimPrefix(n, "model.") }), nil},
		{"PEFT prefix", PerExpertDense, renamed(func(n string) string { return "base_model.model." + n }), nil},
		{"router.linear", PerExpertBNB, renamed(func(n string) string { return strings.Replace(n, "mlp.router.", "mlp.router.linear.", 1) }), nil},
		{"parametrised", FusedBNB, renamed(func(n string) string {
			for _, p := range []string{"gate_up_proj", "down_proj"} {
				if before, after, ok := strings.Cut(n, ".experts."+p); ok && !strings.HasPrefix(after, "_bias") {
					return before + ".experts.parametrizations." + p + ".original" + after
				}
			}
			return n
		}), nil},
		{"interleaved split experts", SplitExperts, func(m *tiny) {
			for n := range tinyLayers {
				for e := range tinyE {
					p := fmt.Sprintf("model.layers.%d.mlp.experts.%d.", n, e)
					for _, part := range []string{"gate_proj", "up_proj"} {
						delete(m.tensors, p+part+".weight")
						delete(m.tensors, p+part+".bias")
					}
					m.linear(p+"gate_up_proj", 2*tinyI, tinyH)
				}
			}
		}, nil},
		{"codes labelled BF16", PerExpertBNB, func(m *tiny) {
			for name, r := range m.tensors {
				if strings.HasSuffix(name, ".weight") && m.tensors[name+quantState+"nf4"] != nil {
					r.dtype, r.shape = "BF16", []int{r.shape[0] / 2, 1}
				}
			}
		}, nil},
		{"stale config", HFDense, set("quantization_config", map[string]any{"quant_method": "mxfp4"}), []string{"mxfp4", "tensors decide"}},
		{"no config for 4 bits", PerExpertBNB, func(m *tiny) { delete(m.config, "quantization_config") }, []string{"no quantization_config"}},
		{"square gate_up", HFDense, func(m *tiny) {}, []string{"gate_up_proj is square"}},
		{"unused tensors", HFMXFP4, put("model.vision.weight", bf16(3)), []string{"1 tensors", "model.vision.weight"}},
		{"tied", HFMXFP4, func(m *tiny) { delete(m.tensors, "lm_head.weight"); m.config["tie_word_embeddings"] = true }, []string{"head is the embedding"}},
		{"shards", PerExpertBNB, (*tiny).shard, nil},
		{"a GGUF beside", HFMXFP4, func(m *tiny) { m.extra["x.gguf"] = "GGUF" }, []string{"x.gguf"}},
		{"end token outside", HFMXFP4, set("eos_token_id", []int{1, tinyV}), []string{"config.json names tokens past the vocabulary of 40", "eos_token_id 40"}},
		{"pad token outside", HFMXFP4, set("pad_token_id", 1<<30), []string{"pad_token_id 1073741824"}},
		{"generation config", HFMXFP4, func(m *tiny) { m.extra["generation_config.json"] = `{"eos_token_id": [99]}` }, []string{"generation_config.json names", "eos_token_id 99"}},
		{"bos null", HFMXFP4, set("bos_token_id", nil), nil},
		{"no truncate", HFMXFP4, func(m *tiny) { delete(m.config["rope_scaling"].(map[string]any), "truncate") }, []string{"rope_scaling.truncate false"}},
		{"no rope at all", HFMXFP4, func(m *tiny) { delete(m.config, "rope_scaling") }, []string{"rope_scaling yarn"}},
		{"rope default", HFMXFP4, set("rope_scaling", map[string]any{"type": "default"}), []string{"rope_scaling.type default", "without YaRN"}},
		{"rope null", HFMXFP4, set("rope_scaling", nil), []string{"without YaRN"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := newTiny(x.layout)
			x.change(m)
			c := open(t, m.write(t))
			if c.Layout() != x.layout {
				t.Errorf("layout %s, want %s", c.Layout(), x.layout)
			}
			canonical(t, c)
			notes := strings.Join(c.Notes(), "\n")
			for _, w := range x.notes {
				if !strings.Contains(notes, w) {
					t.Errorf("notes %q do not say %q", notes, w)
				}
			}
		})
	}
}

// TestOrientation reads one model in both orientations of rank-3 experts and wants the same matrices; a legacy 4-bit
// tensor is the transpose of what it stores.
func TestOrientation(t *testing.T) {
	const h, width = tinyH, 2 * tinyI
	m := newTiny(HFDense)
	m.config["intermediate_size"] = tinyI / 2 // gate_up [64, 32]: not square
	other := newTiny(HFDense)
	other.config["intermediate_size"] = tinyI / 2
	for n := range tinyLayers {
		p := fmt.Sprintf("model.layers.%d.mlp.experts.", n)
		for _, x := range []*tiny{m, other} {
			x.tensors[p+"gate_up_proj"] = bf16(tinyE, h, width/2)
			x.tensors[p+"gate_up_proj_bias"] = bf16(tinyE, width/2)
			x.tensors[p+"down_proj"] = bf16(tinyE, tinyI/2, h)
		}
		other.tensors[p+"gate_up_proj"] = transpose(m.tensors[p+"gate_up_proj"])
		other.tensors[p+"down_proj"] = transpose(m.tensors[p+"down_proj"])
	}
	c := open(t, other.write(t))
	want, got := canonical(t, open(t, m.write(t))), canonical(t, c)
	for name := range want {
		diff(t, name, got[name], want[name])
	}
	if !slices.ContainsFunc(c.Notes(), func(n string) bool { return strings.Contains(n, "[experts, out, in]") }) {
		t.Errorf("notes %q do not mention the orientation", c.Notes())
	}

	legacy := newTiny(PerExpertBNB)
	name := "model.layers.0.mlp.experts.down_projs.0.weight"
	legacy.tensors[name].shape = []int{1, 1024}
	legacy.tensors[name].data[0] = 0xF0
	legacy.editState(name, map[string]any{"shape": []int{tinyI, tinyH}})
	l, err := open(t, legacy.write(t)).Layer(0)
	if err != nil {
		t.Fatal(err)
	}
	// Element 0 of the storage has code 15 (1), element 1 has code 0 (-1): a column of the canonical matrix.
	v := make([]float32, tinyH*tinyI)
	l.Down.Weight.DecodeRows(v, 0, 0, tinyH)
	if v[0] != 1 || v[tinyI] != -1 {
		t.Errorf("first column begins %v, %v; want 1, -1", v[0], v[tinyI])
	}
}

// transpose swaps the last two axes of a rank-3 tensor of 2-byte numbers.
func transpose(r *raw) *raw {
	n, rows, cols := r.shape[0], r.shape[1], r.shape[2]
	out := &raw{dtype: r.dtype, shape: []int{n, cols, rows}, data: make([]byte, len(r.data))}
	for e := range n {
		for i := range rows {
			for j := range cols {
				copy(out.data[2*((e*cols+j)*rows+i):][:2], r.data[2*((e*rows+i)*cols+j):])
			}
		}
	}
	return out
}

// TestClosed: a closed checkpoint refuses what would read its files.
func TestClosed(t *testing.T) {
	c, err := Open(newTiny(HFMXFP4).write(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Layer(tinyLayers); err == nil {
		t.Error("a layer past the last one")
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	_, embedErr := c.Embedding()
	_, headErr := c.Head()
	_, normErr := c.FinalNorm()
	_, layerErr := c.Layer(0)
	for _, err := range []error{embedErr, headErr, normErr, layerErr} {
		wantError(t, err, "closed")
	}
}

// TestSHA256 hashes one tensor.
func TestSHA256(t *testing.T) {
	m := newTiny(HFMXFP4)
	c := open(t, m.write(t))
	sum, ok := c.SHA256("model.norm.weight")
	if want := sha256.Sum256(m.tensors["model.norm.weight"].data); !ok || sum != want {
		t.Errorf("hash %x, want %x", sum, want)
	}
	if _, ok := c.SHA256("norm.weight"); ok {
		t.Error("a hash for a name that is not in the file")
	}
}

// TestVerifyFindings plants bad values.
func TestVerifyFindings(t *testing.T) {
	nan := math.Float32frombits(0x7FC00000)
	for _, x := range []struct {
		name   string
		layout Layout
		spoil  func(*tiny)
		want   string
	}{
		{"NaN in a norm", HFMXFP4, func(m *tiny) { copy(m.tensors["model.norm.weight"].data[6:], "\xC0\x7F") }, `model.safetensors: tensor "model.norm.weight": 1 values are NaN, the first at [0, 3]`},
		{"infinity in the head", HFMXFP4, func(m *tiny) { copy(m.tensors["lm_head.weight"].data[2*65:], "\x80\xFF") }, `model.safetensors: tensor "lm_head.weight": 1 values are infinite, the first at [1, 1]`},
		{"scale 255", HFMXFP4, func(m *tiny) { m.tensors[experts+"down_proj_scales"].data[64+3] = 255 }, `model.safetensors: tensor "` + experts + `down_proj_blocks": expert 1: 32 values are NaN, the first at [3, 0]`},
		{"scale 254", HFMXFP4, func(m *tiny) {
			m.tensors[experts+"down_proj_scales"].data[0] = 254
			m.tensors[experts+"down_proj_blocks"].data[1] = 0x70
		}, `model.safetensors: tensor "` + experts + `down_proj_blocks": expert 0: 1 values are infinite, the first at [0, 3]`},
		{"NaN absmax", PerExpertBNB, func(m *tiny) {
			m.tensors[experts+"down_projs.1.weight.absmax"] = f32s(slices.Concat([]float32{1, nan}, slices.Repeat([]float32{1}, 30))...)
		}, `model.safetensors: tensor "` + experts + `down_projs.1.weight": 1 scales are NaN, the first of block 1`},
		{"absurd nested absmax", PerExpertBNB, func(m *tiny) { m.tensors[experts+"gate_up_projs.0.weight.nested_absmax"] = f32s(1e30) }, `model.safetensors: tensor "` + experts + `gate_up_projs.0.weight": 64 scales are absurdly large, up to 1e+30, the first of block 0`},
		{"negative absmax", FusedBNB, func(m *tiny) { m.tensors[experts+"gate_up_proj.absmax"].data[64*4+3] |= 0x80 }, `model.safetensors: tensor "` + experts + `gate_up_proj": expert 1: 1 scales are negative, the first of block 0`},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := newTiny(x.layout)
			if r := open(t, m.write(t)).Verify(nil); len(r.Findings) > 0 {
				t.Fatalf("before: %v", r.Findings)
			}
			x.spoil(m)
			r := open(t, m.write(t)).Verify(nil)
			if len(r.Findings) != 1 || r.Findings[0].String() != x.want {
				t.Errorf("findings %v\nwant %s", r.Findings, x.want)
			}
		})
	}
}
