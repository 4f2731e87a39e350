package model

import (
	"fmt"

	"hearth/internal/checkpoint"
	"hearth/internal/device"
)

// Footprint is what a model takes of its device's own memory beside the KV cache, in bytes: weights, activations and
// workspaces. Where reading a layer is dear because it is requantised on the way, the first one stands for all.
func Footprint(w Weights, s device.Sizer, l device.Limits) (int64, error) {
	spec, err := NewSpec(w.Config())
	if err != nil {
		return 0, err
	}
	total, err := s.StepBytes(spec, l)
	if err != nil {
		return 0, err
	}
	head, err := w.Head()
	if err != nil {
		return 0, err
	}
	n, err := s.HeadBytes(head)
	if err != nil {
		return 0, fmt.Errorf("head: %w", err)
	}
	total += n
	_, direct := w.(*checkpoint.Checkpoint)
	for l := range spec.Layers {
		layer, err := w.Layer(l)
		if err != nil {
			return 0, err
		}
		n, err := s.LayerBytes(canonical(layer))
		if err != nil {
			return 0, fmt.Errorf("layer %d: %w", l, err)
		}
		if !direct {
			return total + n*int64(spec.Layers), nil
		}
		total += n
	}
	return total, nil
}
