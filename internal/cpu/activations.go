package cpu

// Activations says in which format activations meet weights. All but the first are lossy.
type Activations uint8

const (
	Float32  Activations = iota // as computed
	BFloat16                    // bf16.go
	Int8                        // int8.go: only where weights are integers times a scale
)
