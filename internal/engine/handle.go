package engine

import "sync"

// Handle is the caller's end of a request.
type Handle struct {
	engine *Engine
	job    *job
	detach func() bool // from the context of Submit

	mu    sync.Mutex
	queue []Event // pushed by the loop, not yet taken by the pump

	ready  chan struct{} // of capacity 1: the queue is not empty
	gone   chan struct{} // closed by Cancel
	once   sync.Once
	events chan Event
}

func newHandle(e *Engine, j *job) *Handle {
	return &Handle{
		engine: e, job: j,
		ready: make(chan struct{}, 1), gone: make(chan struct{}), events: make(chan Event, 1),
	}
}

// Events delivers the request's events in order. The channel is closed after exactly one event with Done. A caller
// that stops reading before that must Cancel, or end the context of Submit: until then the events are kept.
func (h *Handle) Events() <-chan Event { return h.events }

// Cancel ends the request; its pages are free at the next step boundary. Events that were not read yet may be
// dropped, the latest ones: what is read stays a beginning without gaps, and Done comes with ReasonAbort even if the
// request had ended by itself. It may be called at any time, more than once.
func (h *Handle) Cancel() {
	h.once.Do(func() {
		close(h.gone)
		h.engine.cancel(h.job)
	})
}

// push hands an event to the pump. It never blocks; the queue is bounded by the request's own number of tokens.
func (h *Handle) push(ev Event) {
	h.mu.Lock()
	h.queue = append(h.queue, ev)
	h.mu.Unlock()
	select {
	case h.ready <- struct{}{}:
	default:
	}
}

// pump moves events from the queue to the channel until the last one. It waits for the reader, unless the reader has
// said that it is gone, or the engine is closed: then it drops what was not read, up to the last event, which always
// comes, because the loop ends every job.
func (h *Handle) pump() {
	defer h.engine.pumps.Done()
	defer close(h.events)
	var taken []Event
	dropped := false
	for {
		<-h.ready
		h.mu.Lock()
		taken, h.queue = h.queue, taken[:0]
		h.mu.Unlock()
		for _, ev := range taken {
			if ev.Done {
				h.detach()
				h.last(ev, dropped)
				return
			}
			dropped = dropped || !h.send(ev)
		}
		clear(taken)
	}
}

// send delivers an event, or reports that nobody will read it.
func (h *Handle) send(ev Event) bool {
	select {
	case h.events <- ev:
		return true
	default:
	}
	select {
	case h.events <- ev:
		return true
	case <-h.gone:
	case <-h.engine.gone:
	}
	return false
}

// last delivers the last event whatever the reader does. If anything was dropped before it, it says so: an answer
// with a gap must not look complete.
func (h *Handle) last(ev Event, dropped bool) {
	if !dropped && h.send(ev) {
		return
	}
	// Nobody else sends, so room made here stays. The channel holds one event: it is the latest one that goes, and a
	// reader that is still there sees no gap.
	select {
	case <-h.events:
		dropped = true
	default:
	}
	if dropped && ev.Reason != ReasonError {
		ev.Reason, ev.StopToken = ReasonAbort, -1
		select {
		case <-h.engine.gone:
			ev.Reason, ev.Err = ReasonError, ErrClosed
		default:
		}
	}
	h.events <- ev
}
