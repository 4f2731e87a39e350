package checkpoint

import "fmt"

// LayerPlanes gives layer n as Layer does, without its vectors: nothing is decoded, so little of the file is read.
func (c *Checkpoint) LayerPlanes(n int) (*Layer, error) {
	if n < 0 || n >= c.config.Layers {
		return nil, fmt.Errorf("layer %d: the model has %d", n, c.config.Layers)
	}
	l, err := bind(c, func(b *binder) *Layer {
		b.checking = true
		return b.layer(n)
	})
	if err != nil {
		return nil, fmt.Errorf("layer %d: %w", n, err)
	}
	return l, nil
}
