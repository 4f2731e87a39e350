package engine

// Handle is the caller's end of a request.
type Handle struct{}

// Events delivers the request's events in order. The channel is closed after exactly one event with Done. A caller
// that stops reading before that must Cancel, or end the context of Submit.
func (h *Handle) Events() <-chan Event { return nil }

// Cancel ends the request: its pages are free at the next step boundary, events that were not read yet may be
// dropped, and Done comes with ReasonAbort unless the request had ended before and every event was delivered. It may
// be called at any time, more than once.
func (h *Handle) Cancel() {}
