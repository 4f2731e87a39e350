package model

import "hearth/internal/device"

// The batch and its answers, as the engine sees them. The types live with the device contract.
type (
	Batch        = device.Batch
	Seq          = device.Seq
	LogitRow     = device.LogitRow
	Sampling     = device.Sampling
	Bias         = device.Bias
	Output       = device.Output
	TokenLogProb = device.TokenLogProb
)

// ErrLost is wrapped by the error of a step after which no other can succeed: the device is gone.
var ErrLost = device.ErrLost

// Shape is what the engine must know of a loaded model: sizes, never weights.
type Shape struct {
	Vocab       int
	MaxContext  int // positions a sequence may reach
	Window      int // the largest sliding window; 0 if every layer is full
	PageSize    int // positions in a KV page
	FullPages   int // pages for the full-attention layers
	WindowPages int // pages for the sliding-window layers; equal to FullPages when Window is 0
	MaxTokens   int // rows of one batch
	MaxSeqs     int // sequences in one batch
	MaxLogits   int // logit rows in one batch
}
