package cpu

// Activations says in which format activations meet weights. BFloat16 and Int8 are lossy.
type Activations uint8

const (
	Float32  Activations = iota // as computed
	BFloat16                    // bf16.go
	Int8                        // int8.go: only where weights are integers times a scale
	BF16x3                      // as three BF16 that add up to them, where the processor multiplies BF16 faster: bf16.go
)
