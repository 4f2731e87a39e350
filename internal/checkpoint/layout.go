package checkpoint

// Layout is the way in which a checkpoint names and stores its tensors.
type Layout uint8

// The layouts, with their sections in the specification of checkpoints.
const (
	OpenAI         Layout = iota + 1 // 1: block.N.mlp.mlp1_weight.blocks
	HFMXFP4                          // 2: gate_up_proj_blocks
	HFDense                          // 3: gate_up_proj, rank 3, floats
	PerExpertBNB                     // 4: gate_up_projs.K.weight with a quant state
	PerExpertDense                   // 4b: gate_up_projs.K.weight, floats
	SplitExperts                     // 4b with experts.K.gate_proj.weight
	FusedBNB                         // 5: gate_up_proj with a quant state
	GGUF                             // 6: llama.cpp
	GGUFOllama                       // 6.3: Ollama before v0.30.0
)

var layoutNames = [...]string{
	OpenAI:         "OpenAI original (MXFP4)",
	HFMXFP4:        "HF MXFP4",
	HFDense:        "HF dense experts",
	PerExpertBNB:   "Unsloth per-expert bitsandbytes",
	PerExpertDense: "per-expert dense",
	SplitExperts:   "per-expert, gate and up apart",
	FusedBNB:       "fused bitsandbytes",
	GGUF:           "GGUF",
	GGUFOllama:     "GGUF (Ollama before v0.30.0)",
}

// String names the layout for people.
func (l Layout) String() string {
	if int(l) < len(layoutNames) && layoutNames[l] != "" {
		return layoutNames[l]
	}
	return "unknown"
}
