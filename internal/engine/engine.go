// Package engine schedules requests on one model: admission, continuous batching with chunked prefill, preemption,
// stop conditions, cancellation and statistics. It works on token ids and page numbers; it never sees text, weights
// or the network, and it never blocks on a client.
//
// One goroutine owns all state (loop.go). It repeats four moves: take what was submitted or cancelled; plan the next
// batch and give it pages (scheduler.go); run the model's step; publish what came out. Requests are told of it through
// a queue of their own (handle.go), so a slow reader holds up nobody.
//
// # Admission and preemption
//
// Requests are served in the order of their arrival. A request that could not run even alone is refused by Submit. The
// first in line is admitted when a place is free and the pages of its first chunk are there, with one page to spare
// for every sequence that runs already. Pages are not reserved beyond that: a sequence takes them as it grows.
//
// When a sequence needs a page and none can be had, the one admitted last is preempted: it gives up its pages, keeps
// its tokens, goes back to the head of the line and is computed again later. Its complete blocks stay in the prefix
// cache as long as there is room, so that computing again is cheap. A sequence that was preempted comes back only when
// all that it had fits again, or when it has the model to itself. The sequence admitted last cannot preempt anyone: it
// waits in place. The oldest sequence therefore always goes on, and everything that was admitted ends.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"hearth/internal/kvcache"
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
	MaxQueue    int          // requests that may wait beyond those that can run at once; 0: 1024
	PrefixCache bool         // keep the pages of finished work and reuse them for prompts that begin alike
	Log         *slog.Logger // nil: nowhere
	Observer    Observer     // may be nil
}

const defaultQueue = 1024

// Engine runs requests on a model.
type Engine struct {
	model    Model
	shape    Shape
	limit    int // positions that a sequence may have
	maxOpen  int
	log      *slog.Logger
	observer Observer

	mu        sync.Mutex
	inbox     []*job // submitted, not yet seen by the loop
	cancelled []*job
	open      int   // jobs that have not ended
	stopped   error // why the engine takes no more requests; nil while it does
	stats     Stats

	wake  chan struct{} // of capacity 1: there is something in the inbox
	done  chan struct{} // closed when the loop has ended
	gone  chan struct{} // closed by Close: events that nobody reads may be dropped
	close sync.Once
	pumps sync.WaitGroup

	// What follows belongs to the loop.
	sched   scheduler
	out     []Output
	ended   []*job // with their last events still to be sent
	arrived []*job // spare of inbox
	left    []*job // spare of cancelled
	verify  func() error
	checked bool // nothing ran since verify was called
}

// New checks the model's sizes and starts the loop.
func New(m Model, o Options) (*Engine, error) {
	e, err := newEngine(m, o)
	if err != nil {
		return nil, err
	}
	go e.run()
	return e, nil
}

// newEngine is an engine whose loop does not run.
func newEngine(m Model, o Options) (*Engine, error) {
	s := m.Shape()
	if s.Vocab < 1 || s.MaxContext < 1 || s.MaxTokens < 1 || s.MaxSeqs < 1 || s.MaxLogits < 1 {
		return nil, fmt.Errorf("model of %d ids, context %d, batches of %d tokens, %d sequences and %d logit rows: sizes must be positive",
			s.Vocab, s.MaxContext, s.MaxTokens, s.MaxSeqs, s.MaxLogits)
	}
	if o.MaxQueue < 0 {
		return nil, fmt.Errorf("MaxQueue is %d", o.MaxQueue)
	}
	cache, err := kvcache.New(kvcache.Config{
		PageSize: s.PageSize, FullPages: s.FullPages, WindowPages: s.WindowPages, Window: s.Window, Prefix: o.PrefixCache,
	})
	if err != nil {
		return nil, err
	}
	e := &Engine{
		model: m, shape: s, limit: min(s.MaxContext, cache.Capacity()), log: o.Log, observer: o.Observer,
		wake: make(chan struct{}, 1), done: make(chan struct{}), gone: make(chan struct{}),
		out: make([]Output, s.MaxLogits), verify: cache.Check,
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.observer == nil {
		e.observer = noObserver{}
	}
	e.sched.init(s, cache)
	if o.MaxQueue == 0 {
		o.MaxQueue = defaultQueue
	}
	e.maxOpen = e.sched.maxRunning + o.MaxQueue
	e.snapshot()
	return e, nil
}

// Submit queues a request and returns at once. Errors: *RequestError for a request that is wrong in itself,
// *ContextError for one that can never fit, ErrQueueFull, ErrClosed, what stopped the engine, or the context's own.
// The end of the context cancels the request.
func (e *Engine) Submit(ctx context.Context, r Request) (*Handle, error) {
	j, err := e.enqueue(ctx, r)
	if err != nil {
		return nil, err
	}
	h := j.handle
	h.detach = context.AfterFunc(ctx, h.Cancel)
	go h.pump()
	return h, nil
}

// enqueue puts a request into the inbox.
func (e *Engine) enqueue(ctx context.Context, r Request) (*job, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := e.check(&r); err != nil {
		return nil, err
	}
	j := newJob(e, r)
	e.mu.Lock()
	switch {
	case e.stopped != nil:
		e.mu.Unlock()
		return nil, e.stopped
	case e.open >= e.maxOpen:
		e.mu.Unlock()
		return nil, ErrQueueFull
	}
	e.open++
	e.inbox = append(e.inbox, j)
	e.pumps.Add(1) // under the lock: Close waits only after it has stopped new ones
	e.mu.Unlock()
	e.knock()
	return j, nil
}

// cancel asks the loop to end a job.
func (e *Engine) cancel(j *job) {
	e.mu.Lock()
	if e.stopped == nil { // else the loop ends every job by itself
		e.cancelled = append(e.cancelled, j)
	}
	e.mu.Unlock()
	e.knock()
}

func (e *Engine) knock() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Close ends every open request with ErrClosed and waits for the loop. Events that were not read by then may be
// dropped. The error is what had stopped the engine before, if anything.
func (e *Engine) Close() error {
	e.close.Do(func() {
		e.mu.Lock()
		if e.stopped == nil {
			e.stopped = ErrClosed
		}
		e.mu.Unlock()
		e.knock()
		<-e.done
		close(e.gone)
		e.pumps.Wait()
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	if errors.Is(e.stopped, ErrClosed) {
		return nil
	}
	return e.stopped
}

// Done is closed when the loop has ended, because of Close or of what Close will return. No request is served any more.
func (e *Engine) Done() <-chan struct{} { return e.done }

// Stats returns a snapshot. It is cheap and may be called from any goroutine.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.Waiting = e.open - s.Running
	return s
}

// snapshot brings the statistics up to date.
func (e *Engine) snapshot() {
	full, window := e.sched.cache.Full(), e.sched.cache.Window()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats = e.sched.counters
	e.stats.Running = len(e.sched.running)
	e.stats.Full, e.stats.Window = PageStats(full), PageStats(window)
}
