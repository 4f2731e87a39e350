package engine

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestManyClients runs the real loop under many goroutines that submit, read, give up and vanish. What each one read
// is the beginning of what its request gives alone, and all of it if the request was not cancelled.
func TestManyClients(t *testing.T) {
	s := smallShape()
	s.FullPages, s.WindowPages = 16, 10 // the longest requests need 15: sequences are preempted
	m := newFake(s)
	e, err := New(m, Options{PrefixCache: true})
	if err != nil {
		t.Fatal(err)
	}
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range 12 {
				client(t, e, rng)
			}
		})
	}
	clients.Wait()
	if err := e.Close(); err != nil { // vanished clients may have left before the last boundary
		t.Error(err)
	}
	stats := e.Stats()
	if stats.Running != 0 || stats.Waiting != 0 || stats.Full.Free+stats.Full.Cached != stats.Full.Total ||
		stats.Window.Free+stats.Window.Cached != stats.Window.Total {
		t.Errorf("after all have gone: %+v", stats)
	}
	t.Logf("%d preemptions, %d of %d prompt tokens reused", stats.Preemptions, stats.PrefixHits, stats.PrefixQueries)
	if m.problem != nil {
		t.Error(m.problem)
	}
}

func client(t *testing.T, e *Engine, rng *rand.Rand) {
	r := request(20+rng.IntN(100), rng.IntN(120))
	r.Prompt[rng.IntN(len(r.Prompt))] = 45
	r.Sampling.Seed = rng.Uint64()
	if rng.IntN(4) == 0 {
		r.PromptLogprobs = 1
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h, err := e.Submit(ctx, r)
	if err != nil {
		t.Error(err)
		return
	}
	giveUp := -1
	if rng.IntN(3) == 0 {
		giveUp = rng.IntN(40)
	}
	var tokens []int32
	var prompt []PromptToken
	var last Event
	for ev := range h.Events() {
		last = ev
		if ev.Kind == KindToken {
			tokens = append(tokens, ev.Token)
		}
		prompt = append(prompt, ev.Prompt...)
		if len(tokens) == giveUp {
			if rng.IntN(2) == 0 {
				return // and never read again
			}
			h.Cancel()
		}
	}
	wantTokens, wantPrompt := fakeAlone(e.shape, r)
	whole := last.Reason == ReasonLength
	if !last.Done || !whole && (giveUp < 0 || last.Reason != ReasonAbort) {
		t.Errorf("last event %+v", last)
	}
	if whole && (len(tokens) != len(wantTokens) || len(prompt) != len(wantPrompt)) ||
		!slices.Equal(tokens, wantTokens[:min(len(tokens), len(wantTokens))]) {
		t.Errorf("%d tokens, %d of the prompt, want %d and %d:\n%s", len(tokens), len(prompt), len(wantTokens), len(wantPrompt),
			cmp.Diff(wantTokens, tokens))
	}
	if diff := cmp.Diff(wantPrompt[:len(prompt)], prompt, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("prompt log-probabilities (-want +got):\n%s", diff)
	}
}
