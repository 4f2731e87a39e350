package model

import (
	"context"

	"hearth/internal/device"
)

// WarmBytes is how much of the weights is read from a file's mapping in each step; 0 on a device with memory of its own.
func (m *Model) WarmBytes() int64 {
	if w, ok := m.session.(device.Warmer); ok {
		return w.WarmBytes()
	}
	return 0
}

// Warm brings those into memory; see device.Warmer. It must have returned before Close.
func (m *Model) Warm(ctx context.Context, progress func(done int64)) error {
	if w, ok := m.session.(device.Warmer); ok {
		return w.Warm(ctx, progress)
	}
	return nil
}

// ReadAhead is for weights that do not fit into memory; see device.Warmer.
func (m *Model) ReadAhead(on bool) {
	if w, ok := m.session.(device.Warmer); ok {
		w.ReadAhead(on)
	}
}
