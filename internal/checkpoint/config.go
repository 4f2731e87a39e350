package checkpoint

// Config is the architecture of one GPT-OSS model, from any dialect of configuration. All values have been checked:
// sizes are at least 1 and fit each other.
type Config struct {
	Layers, Hidden, Intermediate  int
	Heads, KVHeads, HeadDim       int
	Experts, TopK                 int
	Vocab                         int // rows of the embedding
	MaxPosition                   int // longest context
	Eps, SwigluAlpha, SwigluLimit float32
	Windows                       []int // per layer: keys that a query sees, itself included; 0 is full attention
	Rope                          Rope
	EOS                           []int32
	Pad, BOS                      int32 // -1: absent
}

// Rope holds the constants of the rotary embedding.
type Rope struct {
	Theta              float64
	Yarn               bool // the values below apply
	Factor             float64
	BetaFast, BetaSlow float64
	OriginalContext    int
	Truncate           bool // round the ends of the ramp to whole dimensions
}
