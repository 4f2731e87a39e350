package device

import "hearth/internal/dtype"

// Sizer is a device whose own memory must hold the weights and the activations beside the KV cache. Its answers, in
// bytes, come before anything is allocated, so that what does not fit is refused early. An error wraps
// ErrNotSupported where the device cannot hold such a weight.
type Sizer interface {
	LayerBytes(*Layer) (int64, error)
	// HeadBytes is for the head with its norm. The embedding, of which a step reads a few rows, stays with the host.
	HeadBytes(dtype.Plane) (int64, error)
	// StepBytes is what a session takes for its activations and workspaces; the limits' pages do not count.
	StepBytes(Spec, Limits) (int64, error)
}
