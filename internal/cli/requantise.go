package cli

import (
	"fmt"
	"log/slog"
	"time"

	"hearth/internal/convert"
	"hearth/internal/model"
)

// chooseWeights reads the checkpoint's weights as they are, or requantised as the flags say.
func (r *loaded) chooseWeights(f *modelFlags, log *slog.Logger) (err error) {
	r.weights, r.warnings, err = convert.OnLoad(r.checkpoint, convert.LoadOptions{Quantization: f.quantization, DType: f.dtype})
	for _, w := range r.warnings {
		log.Warn(w)
	}
	return err
}

// loadWeights loads the model, with a bar where that takes long.
func (r *loaded) loadWeights(f *modelFlags) (err error) {
	start := time.Now()
	var step func(done, total int)
	switch layers := int64(r.checkpoint.Config().Layers); {
	case f.progress == nil:
	case r.weights.Changes():
		bar := newProgress(f.progress, "quantising layers", layers, true)
		defer bar.finish()
		step = func(done, _ int) { bar.set(int64(done)) }
	case r.gpu != nil:
		size := r.checkpoint.Size()
		bar := newProgress(f.progress, "loading weights", size, false)
		defer bar.finish()
		bar.set(0)
		step = func(done, _ int) { bar.set(size * int64(done) / layers) }
	}
	r.model, err = model.Load(f.off.Weights(r.weights), r.on, r.plan, step)
	r.loading = time.Since(start)
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
