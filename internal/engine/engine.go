// Package engine schedules requests on one model: admission, continuous batching with chunked prefill, preemption,
// stop conditions, cancellation and statistics. It works on token ids and page numbers; it never sees text, weights
// or the network, and it never blocks on a client.
package engine

import (
	"context"
	"errors"
	"log/slog"

	"hearth/internal/model"
)

// Model is what the engine runs: *model.Model, or a fake in tests. Only the engine's own goroutine calls Step.
type Model interface {
	// Step runs one batch and fills out[:len(b.Logits)]. Slices in out may be reused by the next step.
	Step(b *model.Batch, out []model.Output) error
	Shape() model.Shape
}

// Options of an engine. The zero value works.
type Options struct {
	MaxQueue    int  // requests that may wait beyond those that can run at once; 0: 1024
	PrefixCache bool // keep the pages of finished work and reuse them for prompts that begin alike
	Log         *slog.Logger
	Observer    Observer // may be nil
}

// Engine runs requests on a model.
type Engine struct{}

// New checks the model's sizes and starts the loop.
func New(m Model, o Options) (*Engine, error) { return nil, errors.New("engine: not built yet") }

// Submit queues a request. It returns at once; a refused request has no handle. Errors: *RequestError for a request
// that is wrong in itself, *ContextError for one that can never fit, ErrQueueFull, ErrClosed, or the context's own.
func (e *Engine) Submit(ctx context.Context, r Request) (*Handle, error) {
	return nil, errors.New("engine: not built yet")
}

// Close ends every open request with ErrClosed and waits for the loop.
func (e *Engine) Close() error { return nil }

// Stats returns a snapshot. It is cheap and may be called from any goroutine.
func (e *Engine) Stats() Stats { return Stats{} }
