package engine

import "time"

// Stats is a snapshot of the engine.
type Stats struct {
	Running int // sequences that hold pages
	Waiting int
	Full    PageStats // pages of the full-attention layers
	Window  PageStats // pages of the sliding-window layers

	// Counters since the start.
	Steps            uint64
	Preemptions      uint64
	PromptTokens     uint64 // of admitted requests
	GenerationTokens uint64
	PrefixQueries    uint64 // prompt tokens looked up in the prefix cache
	PrefixHits       uint64 // of those, found
}

// PageStats counts the pages of one pool. Total - Free - Cached are held by running sequences.
type PageStats struct {
	Free   int
	Cached int // held by nobody, kept for prompts that begin alike
	Total  int
}

// Observer is told of what happens, for metrics. All calls come from the engine's own goroutine, which does nothing
// else meanwhile.
type Observer interface {
	Queued(prompt, maxTokens int)                         // the loop has taken a request
	Step(tokens, seqs int)                                // after each step
	FirstToken(sinceSubmit time.Duration)                 // the first generated token
	Token(sincePrevious time.Duration)                    // every further one
	Finished(reason FinishReason, usage Usage, t Timings) // also for requests that never ran
}

// Timings tells where a request's time went. Parts it did not reach are 0.
type Timings struct {
	Total       time.Duration // from Submit to the end
	Queue       time.Duration // until it was first admitted
	Prefill     time.Duration // from there to the first token
	Decode      time.Duration // from there to the end
	Preemptions int
}

type noObserver struct{}

func (noObserver) Queued(int, int)                       {}
func (noObserver) Step(int, int)                         {}
func (noObserver) FirstToken(time.Duration)              {}
func (noObserver) Token(time.Duration)                   {}
func (noObserver) Finished(FinishReason, Usage, Timings) {}
