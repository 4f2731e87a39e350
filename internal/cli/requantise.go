package cli

import (
	"fmt"
	"log/slog"

	"hearth/internal/convert"
	"hearth/internal/device"
	"hearth/internal/model"
)

// loadWeights loads the checkpoint's weights, requantised as the flags say, with a bar where that takes long.
func (r *loaded) loadWeights(d device.Device, f *modelFlags, log *slog.Logger) (err error) {
	r.weights, r.warnings, err = convert.OnLoad(r.checkpoint, convert.LoadOptions{Quantization: f.quantization, DType: f.dtype})
	if err != nil {
		return err
	}
	for _, w := range r.warnings {
		log.Warn(w)
	}
	var step func(done, total int)
	if f.progress != nil && r.weights.Changes() {
		layers := r.checkpoint.Config().Layers
		bar := newProgress(f.progress, "quantising layers", int64(layers), true)
		defer bar.finish()
		step = func(done, _ int) { bar.set(int64(done)) }
	}
	r.model, err = model.Load(f.off.Weights(r.weights), d, r.plan, step)
	return err
}

// describeChanges prints what was changed on the way, and by how much.
func (r *loaded) describeChanges(p *printer) {
	for _, w := range r.warnings {
		p.line("warning", "%s", w)
	}
	for _, x := range r.weights.Parts() {
		p.line("changed", "%s", fmt.Sprintf("%s, %s to %s, %s: %s", x.Kind, x.From, x.To, model.Bytes(x.Bytes), x.Error))
	}
}
