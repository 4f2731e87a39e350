package model

import (
	"fmt"

	"hearth/internal/checkpoint"
	"hearth/internal/device"
)

// Footprint is what a model takes of its device's own memory beside the KV cache, in bytes.
type Footprint struct {
	Weights int64
	Step    int64 // activations and workspaces
}

// Bytes is all of it.
func (f Footprint) Bytes() int64 { return f.Weights + f.Step }

// NewFootprint asks a device for it. Where reading a layer is dear because it is requantised on the way, the first one
// stands for all.
func NewFootprint(w Weights, s device.Sizer, l device.Limits) (f Footprint, err error) {
	spec, err := NewSpec(w.Config())
	if err != nil {
		return f, err
	}
	if f.Step, err = s.StepBytes(spec, l); err != nil {
		return f, err
	}
	head, err := w.Head()
	if err != nil {
		return f, err
	}
	if f.Weights, err = s.HeadBytes(head); err != nil {
		return f, fmt.Errorf("head: %w", err)
	}
	_, direct := w.(*checkpoint.Checkpoint)
	for l := range spec.Layers {
		layer, err := w.Layer(l)
		if err != nil {
			return f, err
		}
		n, err := s.LayerBytes(canonical(layer))
		if err != nil {
			return f, fmt.Errorf("layer %d: %w", l, err)
		}
		if !direct {
			f.Weights += n * int64(spec.Layers)
			return f, nil
		}
		f.Weights += n
	}
	return f, nil
}
