package cli

import (
	"fmt"
	"log/slog"

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
	var step func(done, total int)
	if label := r.slow(); f.progress != nil && label != "" {
		bar := newProgress(f.progress, label, int64(r.checkpoint.Config().Layers), true)
		defer bar.finish()
		step = func(done, _ int) { bar.set(int64(done)) }
	}
	r.model, err = model.Load(f.off.Weights(r.weights), r.on, r.plan, step)
	return err
}

// slow names what makes loading take long; "" if nothing does.
func (r *loaded) slow() string {
	switch {
	case r.weights.Changes():
		return "quantising layers"
	case r.gpu != nil:
		return "loading layers"
	}
	return ""
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
