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
// if that takes a while. Until it is through, answers come at the disk's speed. Close ends it.
func (r *loaded) warm(w io.Writer, log *slog.Logger) {
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
		p := newProgress(struct{ io.Writer }{w}, "reading weights", total, false) // lines, since others write here too
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
