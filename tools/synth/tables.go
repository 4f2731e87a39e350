package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"

	"hearth/internal/dtype"
)

func nf4Map() []byte { return floats(dtype.NF4Table[:]...) }

// dynamicMap is the signed 8-bit map of bitsandbytes by its formula (spec/checkpoints.md 9.4). Its last bits may
// differ from a file that PyTorch wrote, which is why nothing but this generator computes it.
func dynamicMap() []byte {
	m := []float64{0, 1}
	for i := range 7 {
		n := 1 << i
		for k := range n {
			v := math.Pow10(i-6) * (0.1 + 0.9*(float64(k)+0.5)/float64(n))
			m = append(m, v, -v)
		}
	}
	slices.Sort(m)
	out := make([]float32, len(m))
	for i, v := range m {
		out[i] = float32(v)
	}
	return floats(out...)
}

func writeConfig(dir, layout string, s sizes) error {
	types := make([]string, s.layers)
	for i := range types {
		types[i] = []string{"sliding_attention", "full_attention"}[i%2]
	}
	c := map[string]any{
		"architectures": []string{"GptOssForCausalLM"}, "model_type": "gpt_oss", "attention_bias": true,
		"num_hidden_layers": s.layers, "hidden_size": s.hidden, "intermediate_size": s.inter, "num_attention_heads": s.heads,
		"num_key_value_heads": s.kvHeads, "head_dim": s.headDim, "num_local_experts": s.experts, "num_experts_per_tok": s.topK,
		"vocab_size": s.vocab, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "swiglu_limit": 7.0, "sliding_window": 128,
		"layer_types": types, "rope_theta": 150000, "tie_word_embeddings": false, "eos_token_id": 200002, "pad_token_id": 199999,
		"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "original_max_position_embeddings": 4096, "truncate": false},
	}
	if layout == "hf-mxfp4" {
		c["quantization_config"] = map[string]any{"quant_method": "mxfp4"}
	} else {
		c["quantization_config"] = map[string]any{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true}
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), b, 0o644)
}
