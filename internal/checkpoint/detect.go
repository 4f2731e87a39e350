package checkpoint

import (
	"fmt"
	"strings"

	"hearth/internal/dtype"
)

const quantState = ".quant_state.bitsandbytes__"

// isQuantised says whether a tensor is 4-bit: it is if and only if its quant state lies beside it.
func (s *store) isQuantised(name string) bool {
	return s.has(name+quantState+"nf4") || s.has(name+quantState+"fp4")
}

// detect finds the layout of safetensors by the names of layer 0. Neither the repository's name nor config.json has
// a say: re-saved models keep stale configurations.
func detect(s *store, src *source, method string) (Layout, error) {
	const experts = "layers.0.mlp.experts."
	switch {
	case s.has("block.0.mlp.mlp1_weight.blocks"):
		return OpenAI, nil
	case s.has(experts + "gate_up_proj_blocks"):
		return HFMXFP4, nil
	case s.isQuantised(experts + "gate_up_proj"), s.isQuantised(experts + "down_proj"):
		return FusedBNB, nil
	case s.has(experts + "gate_up_proj"):
		return HFDense, s.checkFloat(experts+"gate_up_proj", method)
	case s.isQuantised(experts + "gate_up_projs.0.weight"), s.isQuantised(experts + "down_projs.0.weight"):
		return PerExpertBNB, nil
	case s.has(experts + "gate_up_projs.0.weight"):
		return PerExpertDense, s.checkFloat(experts+"gate_up_projs.0.weight", method)
	case s.has(experts + "0.gate_proj.weight"), s.has(experts + "0.gate_up_proj.weight"):
		return SplitExperts, nil
	}
	return 0, undetected(s, src, method)
}

// checkFloat refuses expert weights whose dtype is known to come from another quantiser.
func (s *store) checkFloat(name, method string) error {
	t := s.byName[name]
	switch t.format {
	case dtype.F32, dtype.F16, dtype.BF16:
		return nil
	}
	return fmt.Errorf("%s: tensor %q: experts of dtype %s%s are not supported; %s", t.file, t.name, t.stored, viaConfig(method), readable)
}

func undetected(s *store, src *source, method string) error {
	where := src.dir
	if src.lone {
		where = src.files[0]
	}
	if t := s.find(func(name string) bool { return strings.HasSuffix(name, ".scales") }); t != nil {
		return fmt.Errorf("%s: tensor %q: MLX quantised weights%s are not supported; %s", t.file, t.name, viaConfig(method), readable)
	}
	if src.lone {
		if _, _, ok := splitName(strings.TrimSuffix(where, ".safetensors") + ".gguf"); ok {
			return fmt.Errorf("%s: no experts of layer 0 in this file: it is one shard; give the folder", where)
		}
	}
	if t := s.find(func(name string) bool { return strings.Contains(name, ".mlp.gate_proj.") }); t != nil {
		return fmt.Errorf("%s: tensor %q belongs to a dense model: only GPT-OSS models can be read", t.file, t.name)
	}
	return fmt.Errorf("%s: no GPT-OSS experts of layer 0 under any known name%s; %s", where, viaConfig(method), readable)
}

// staleMethod remarks on a quantization_config that the tensors contradict.
func staleMethod(l Layout, method string) string {
	want := ""
	switch l {
	case HFMXFP4:
		want = "mxfp4"
	case PerExpertBNB, FusedBNB:
		want = "bitsandbytes"
	case OpenAI, GGUF, GGUFOllama:
		return ""
	}
	if method == want {
		return ""
	}
	if method == "" {
		return fmt.Sprintf("config.json has no quantization_config, but the tensors are stored as %s: the tensors decide", l)
	}
	return fmt.Sprintf("config.json says quant_method %q, but the tensors are stored as %s: the tensors decide", method, l)
}
