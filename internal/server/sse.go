package server

import (
	"bytes"
	"net/http"
)

// eventStream writes server-sent events. The header goes out with the first of them, so that a request which fails
// before its first token still gets a status of its own.
type eventStream struct {
	w     http.ResponseWriter // a recorder, which bounds the time of each write
	rc    *http.ResponseController
	buf   bytes.Buffer
	begun bool
}

func newEventStream(w http.ResponseWriter) *eventStream {
	return &eventStream{w: w, rc: http.NewResponseController(w)}
}

// data sends v as one event.
func (s *eventStream) data(v any) error {
	s.buf.WriteString("data: ")
	if err := writeJSON(&s.buf, v); err != nil {
		return err
	}
	s.buf.WriteByte('\n') // the second one: writeJSON ends the line
	return s.flush()
}

// done sends the mark that ends an OpenAI stream.
func (s *eventStream) done() error {
	s.buf.WriteString("data: [DONE]\n\n")
	return s.flush()
}

// comment sends a line that clients ignore and that keeps proxies from closing the connection.
func (s *eventStream) comment(text string) error {
	s.buf.WriteString(": " + text + "\n\n")
	return s.flush()
}

func (s *eventStream) flush() error {
	if !s.begun {
		s.begun = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no") // nginx would collect the events
		s.w.WriteHeader(http.StatusOK)
	}
	_, err := s.w.Write(s.buf.Bytes())
	s.buf.Reset()
	if err != nil {
		return err
	}
	return s.rc.Flush()
}
