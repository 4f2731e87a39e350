// Package cpu runs the model on the processor, in float32, reading weights in place from their checkpoint in their own
// format. Its portable level is the oracle that every faster level and every other device is tested against; levels of
// assembly replace the hot loops (kernels.go). In each level one output value is always computed by the same operations
// in the same order, whatever else is in the batch, however prompts are cut into chunks and however many threads run;
// between levels sums differ in their last bits. (Only where activations are multiplied as BF16, AMX sums many rows in
// another order than few.) It never copies a checkpoint's weights and never rounds activations,
// keys or values below float32, unless activations in BF16 or int8 are asked for (bf16.go, int8.go).
package cpu

import (
	"fmt"
	"os"
	"runtime"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

// Options configure the device; the zero value uses every core and the best level of kernels.
type Options struct {
	Threads     int // 0: GOMAXPROCS
	Activations Activations
	Level       string // "portable", "avx2", "avx512", "avx512vnni", "amx", "neon", "neondot"; "": what HEARTH_CPU names, or the best that works here
}

// Device is the machine's processor.
type Device struct {
	threads int
	nodes   [][]int // processors of each NUMA node
	level   level
	round   Activations
	note    string // why a better level is not used
}

// New returns the processor as a device. It fails where a level is asked for that is unknown or does not work here.
func New(o Options) (*Device, error) {
	if o.Threads < 0 {
		return nil, fmt.Errorf("threads is %d: want 1 or more, or 0 for every core", o.Threads)
	}
	if o.Threads == 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	from := "level"
	if o.Level == "" {
		o.Level, from = os.Getenv("HEARTH_CPU"), "HEARTH_CPU"
	}
	l, note, err := pickLevel(o.Level, levels())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return &Device{threads: o.Threads, nodes: numaNodes(), level: l, round: o.Activations, note: note}, nil
}

// Info describes the processor and the machine's memory.
func (d *Device) Info() device.Info {
	total, free := systemMemory()
	threads := fmt.Sprintf("%d threads", d.threads)
	if n := runtime.GOMAXPROCS(0); d.threads > n {
		threads += fmt.Sprintf(" on %d processors", n) // which is slower than as many
	}
	detail := fmt.Sprintf("%s, %s, %s", threads, d.level.title, runtime.GOARCH)
	if len(d.nodes) > 1 {
		detail += fmt.Sprintf(", pinned to %d NUMA nodes", min(len(d.nodes), d.threads))
	}
	if d.note != "" {
		detail += " (" + d.note + ")"
	}
	return device.Info{
		Name:     "cpu",
		Kind:     "cpu",
		Detail:   detail,
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
	s := newSession(spec, lim, d.threads, d.nodes, &d.level.kernels)
	switch d.round {
	case Int8:
		s.roundActivations()
	case BFloat16:
		s.pairActivations(1)
	case BF16x3:
		s.pairActivations(3)
	}
	return s, nil
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
