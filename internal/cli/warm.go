package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"hearth/internal/model"
)

// warm brings weights that are read in place into memory, in the background and with a line of progress every few seconds
// if that takes a while. Until it is through, answers come at the disk's speed. Close ends it. That there is too little
// memory is told to w, progress to lines.
func (r *loaded) warm(w, lines io.Writer, log *slog.Logger) {
	total := r.model.WarmBytes()
	if total == 0 {
		return
	}
	if free := r.device.Free; free > 0 && total > free {
		fmt.Fprintf(w, "weights of %s do not fit into the %s of memory that is free: each answer reads them from the disk again\n",
			model.Bytes(total), model.Bytes(free))
		r.model.ReadAhead(true)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	r.stopWarming = func() {
		cancel()
		<-ended
	}
	go func() {
		defer close(ended)
		p := newProgress(struct{ io.Writer }{lines}, "reading weights", total, false) // never redrawn: others write here too
		p.set(0)
		err := r.model.Warm(ctx, p.set)
		if err != nil && !errors.Is(err, context.Canceled) {
			log.Error("reading weights ahead", "error", err)
			return
		}
		if err == nil {
			p.finish()
		}
	}()
}

// warmNow reads weights before anything is timed.
func warmNow(ctx context.Context, w io.Writer, m *model.Model) error {
	if m.WarmBytes() == 0 {
		return nil
	}
	p := newProgress(w, "reading weights", m.WarmBytes(), false)
	defer p.finish()
	return m.Warm(ctx, p.set)
}
