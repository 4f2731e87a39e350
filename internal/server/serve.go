package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// errDraining is the cause of a request's end when the drain time is over.
var errDraining = errors.New("the server is shutting down")

// Serve answers on l until ctx ends. Then it takes no new connections, lets open requests finish for as long as
// Options.Drain says, ends the rest with an error and returns nil. When the engine stops by itself no request can be
// answered any more: Serve ends in the same way and returns what stopped it.
//
// There is no limit on the whole of a request, because an answer may take minutes: reading the request and each write
// have their own.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	h := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       s.o.IOTimeout, // until the body is read; the answer may take longer
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	case <-s.o.Engine.Done():
	}
	s.draining.Store(true)
	s.log.Info("draining", "limit", s.o.Drain)
	err := shutdown(h, s.o.Drain)
	if errors.Is(err, context.DeadlineExceeded) {
		end(errDraining)
		if err = shutdown(h, 5*time.Second); err != nil {
			err = h.Close()
		}
	}
	<-failed
	select {
	case <-s.o.Engine.Done():
		if stopped := s.o.Engine.Close(); stopped != nil {
			return stopped
		}
	default:
	}
	return err
}

// shutdown waits for the open requests, no longer than limit.
func shutdown(h *http.Server, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return h.Shutdown(ctx)
}
