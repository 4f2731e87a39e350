package cli

import (
	"fmt"
	"strings"

	"hearth/internal/checkpoint"
	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/model"
)

// kvBytes is what the pages take.
func kvBytes(c *checkpoint.Config, f dtype.Format, l *device.Limits) int64 {
	full, window := model.KVPerToken(c, f)
	return (full*int64(l.FullPages) + window*int64(l.WindowPages)) * int64(l.PageSize)
}

// usable is the part of the free memory that bench takes: a GPU's share where a flag names one.
func (f *benchFlags) usable(info *device.Info) int64 {
	if info.Kind == "cuda" && f.where.gpuMemory > 0 {
		return model.Request{Fraction: f.where.gpuMemory}.Usable(*info)
	}
	return info.Free * 15 / 16
}

// budget is what is left for keys and values; 0: unknown.
func (f *benchFlags) budget(w model.Weights, info *device.Info, s device.Sizer) (int64, error) {
	if info.Free == 0 {
		return 0, nil
	}
	left := f.usable(info)
	if s != nil {
		all := f.work
		all.choose(w.Config(), info.KVFormat, 0)
		need, err := footprint(w, s, all.room(w.Config()))
		return max(left-need.Bytes(), 1), err
	}
	if m, ok := w.(*made); ok {
		left -= m.bytes()
	}
	return max(left, 1), nil
}

// footprint is what a device takes beside the pages.
func footprint(w model.Weights, s device.Sizer, l device.Limits) (model.Footprint, error) {
	switch m := w.(type) {
	case *made:
		w = m.outlined()
	case madeThere:
		w = m.made
	}
	l.FullPages, l.WindowPages = 0, 0
	return model.NewFootprint(w, s, l)
}

// fitsShare refuses a plan beyond the share of the GPU's memory that a flag names. Without it the session refuses by itself.
func (f *benchFlags) fitsShare(planned int64, info *device.Info) error {
	if most := f.usable(info); f.where.gpuMemory > 0 && planned > most {
		return fmt.Errorf("%s are needed, --gpu-memory-utilization %v allows %s of %s: raise it, or use a smaller --batch or --context",
			model.Bytes(planned), f.where.gpuMemory, model.Bytes(max(most, 0)), info.Name)
	}
	return nil
}

// fits refuses what the machine's memory cannot hold: made-up weights and keys and values on the CPU. A GPU's session
// refuses by itself.
func (f *benchFlags) fits(w model.Weights, d device.Device, kv int64) error {
	info := d.Info()
	m, ok := w.(*made)
	need := kv
	if ok {
		need += m.bytes()
	}
	if info.Kind != "cpu" || info.Free == 0 || need <= f.usable(&info) {
		return nil
	}
	if !ok {
		return fmt.Errorf("keys and values need %s, %s are free: use a smaller --batch or --context", model.Bytes(kv), model.Bytes(info.Free))
	}
	layer := (m.bytes() - m.headBytes() + kv) / int64(m.config.Layers)
	advice := "use a smaller --batch or --context, or a GPU"
	if fit := (f.usable(&info) - m.headBytes()) / layer; fit > 0 {
		advice = fmt.Sprintf("use --layers %d, %s", fit, strings.TrimPrefix(advice, "use "))
	}
	return fmt.Errorf("%s with experts in %s takes %s of memory and %s of keys and values, %s are free: %s",
		f.shape, f.format, model.Bytes(m.bytes()), model.Bytes(kv), model.Bytes(info.Free), advice)
}
