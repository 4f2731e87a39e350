package model

import (
	"fmt"

	"hearth/internal/device"
)

// Prime makes up the content of all KV pages, so that steps at any depth can be timed. The error wraps
// device.ErrNotSupported where the device cannot.
func (m *Model) Prime(seed uint64) error {
	p, ok := m.session.(device.Primer)
	if !ok {
		return fmt.Errorf("made-up keys and values: %w", device.ErrNotSupported)
	}
	return p.Prime(seed)
}
