package checkpoint

import (
	"errors"
	"fmt"
	"strings"
)

var errAdapter = errors.New("this is a LoRA adapter, not a model: merge it into its base model and save that")

// readable says what to use in place of something that cannot be read.
const readable = "use the MXFP4 release (openai/gpt-oss-20b, openai/gpt-oss-120b), a BF16 or bitsandbytes 4-bit checkpoint, or a GGUF file of the model"

func metalError(path string) error {
	return fmt.Errorf("%s: this is OpenAI's file for its Metal code (permuted, rescaled, cut vocabulary); "+
		"use the main folder of the repository or its folder original/", path)
}

// foreign is a way of storing weights that cannot be read, recognised by the names of its tensors.
type foreign struct {
	suffix string // of a tensor's name
	what   string
}

// foreignNames is tried in order: the more telling suffix comes first.
var foreignNames = []foreign{
	{".weight_packed", "compressed-tensors packed weights"},
	{".qzeros", "AWQ or GPTQ quantised weights"},
	{".g_idx", "GPTQ quantised weights"},
	{".qweight", "AWQ or GPTQ quantised weights"},
	{".SCB", "bitsandbytes 8-bit weights"},
	{".weight_scale_inv", "FP8 weights"},
	{".weight_scale_2", "NVFP4 weights (ModelOpt)"},
	{".weight_scale", "FP8 or compressed-tensors weights"},
	{"_proj_weight_scale", "FP8 or compressed-tensors weights"},
	{".weight_zero_point", "compressed-tensors integer weights"},
	{".biases", "MLX quantised weights"},
}

// refuseForeign reports weights that other programs quantised in ways that are not read here. Their plain tensors
// may look familiar, so this comes before the layouts.
func refuseForeign(s *store, method string) error {
	isAdapter := func(name string) bool {
		return strings.Contains(name, ".lora_A.") || strings.Contains(name, ".lora_B.") ||
			strings.Contains(name, ".lora_embedding_A") || strings.Contains(name, ".base_layer.")
	}
	if t := s.find(isAdapter); t != nil {
		return fmt.Errorf("%s: tensor %q: %w", t.file, t.name, errAdapter)
	}
	for _, f := range foreignNames {
		if t := s.find(func(name string) bool { return strings.HasSuffix(name, f.suffix) }); t != nil {
			return fmt.Errorf("%s: tensor %q: %s%s are not supported; %s", t.file, t.name, f.what, viaConfig(method), readable)
		}
	}
	return nil
}

// viaConfig adds what config.json says of the quantisation.
func viaConfig(method string) string {
	if method == "" {
		return ""
	}
	return fmt.Sprintf(" (quant_method %q in config.json)", method)
}
