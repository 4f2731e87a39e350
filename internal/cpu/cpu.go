// Package cpu runs the model on the processor, in float32, reading weights in place from their checkpoint in their own
// format. It is the portable reference, the oracle that every faster variant and every other device is tested
// against: one output value is always computed by the same operations in the same order, whatever else is in the
// batch, however prompts are cut into chunks and however many threads run. It never copies a checkpoint's weights and
// never rounds activations, keys or values below float32.
package cpu

import (
	"fmt"
	"runtime"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

// Options configure the device; the zero value uses every core.
type Options struct {
	Threads int // 0: GOMAXPROCS
}

// Device is the machine's processor.
type Device struct {
	threads int
}

// New returns the processor as a device.
func New(o Options) (*Device, error) {
	if o.Threads < 0 {
		return nil, fmt.Errorf("threads is %d: want 1 or more, or 0 for every core", o.Threads)
	}
	if o.Threads == 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	return &Device{threads: o.Threads}, nil
}

// Info describes the processor and the machine's memory.
func (d *Device) Info() device.Info {
	total, free := systemMemory()
	return device.Info{
		Name:     "cpu",
		Kind:     "cpu",
		Detail:   fmt.Sprintf("%d threads, portable Go, %s", d.threads, runtime.GOARCH),
		Memory:   total,
		Free:     free,
		KVFormat: dtype.F32,
	}
}

// NewSession reserves keys, values and activations. Pages of the KV cache cost memory only once they are written to.
func (d *Device) NewSession(spec device.Spec, lim device.Limits) (device.Session, error) {
	if err := checkSpec(&spec, &lim); err != nil {
		return nil, err
	}
	return newSession(spec, lim, d.threads), nil
}

func checkSpec(s *device.Spec, l *device.Limits) error {
	positive := []struct {
		name  string
		value int
	}{
		{"layers", s.Layers}, {"hidden size", s.Hidden}, {"intermediate size", s.Intermediate}, {"heads", s.Heads},
		{"KV heads", s.KVHeads}, {"head size", s.HeadDim}, {"experts", s.Experts}, {"experts a token", s.TopK},
		{"vocabulary", s.Vocab}, {"batch tokens", l.MaxTokens}, {"batch sequences", l.MaxSeqs},
		{"batch logit rows", l.MaxLogits}, {"page size", l.PageSize}, {"pages", l.FullPages}, {"window pages", l.WindowPages},
	}
	for _, p := range positive {
		if p.value < 1 {
			return fmt.Errorf("%s is %d: want 1 or more", p.name, p.value)
		}
	}
	switch {
	case s.HeadDim%2 != 0:
		return fmt.Errorf("head size %d is odd: rotary embedding works on pairs", s.HeadDim)
	case s.Heads%s.KVHeads != 0:
		return fmt.Errorf("%d heads do not divide into %d KV heads", s.Heads, s.KVHeads)
	case s.TopK > s.Experts:
		return fmt.Errorf("%d experts a token of only %d", s.TopK, s.Experts)
	case len(s.Windows) != s.Layers:
		return fmt.Errorf("%d windows for %d layers", len(s.Windows), s.Layers)
	case len(s.InvFreq) != s.HeadDim/2:
		return fmt.Errorf("%d rotary frequencies for heads of %d", len(s.InvFreq), s.HeadDim)
	}
	return nil
}
