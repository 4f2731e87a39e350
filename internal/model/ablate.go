package model

import (
	"slices"

	"hearth/internal/checkpoint"
)

// Ablation switches parts of the architecture off, to measure what they are worth. It is what engines do that lack
// them; nothing that serves uses it.
type Ablation struct {
	Sinks   bool // no head has a sink
	Windows bool // every layer attends to everything
}

// noSink is a sink's logit that takes no share of any softmax.
const noSink = -1e30

// Config is the configuration without windows, if they are off.
func (a Ablation) Config(c *checkpoint.Config) *checkpoint.Config {
	if !a.Windows {
		return c
	}
	d := *c
	d.Windows = make([]int, len(c.Windows))
	return &d
}

// Weights gives the weights of a model without what is off.
func (a Ablation) Weights(w Weights) Weights {
	if a == (Ablation{}) {
		return w
	}
	return ablated{w, a}
}

type ablated struct {
	Weights
	off Ablation
}

func (a ablated) Config() *checkpoint.Config { return a.off.Config(a.Weights.Config()) }

func (a ablated) Layer(n int) (*checkpoint.Layer, error) {
	l, err := a.Weights.Layer(n)
	if err != nil || !a.off.Sinks {
		return l, err
	}
	d := *l
	d.Sinks = slices.Repeat([]float32{noSink}, len(l.Sinks))
	return &d, nil
}
