package engine

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// TestRandomOperations drives the scheduler with random requests, steps, cancellations and failures on random shapes,
// and compares every request with fakeAlone.
func TestRandomOperations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"submit": w.submit, "step": w.step, "step again": w.step, "and again": w.step,
			"cancel": w.cancel, "fail": w.failStep, "": w.check,
		})
		for i := 0; !w.engine.sched.idle() || len(w.engine.inbox) > 0; i++ {
			if i > 5000 {
				t.Fatalf("%d requests do not end", len(w.engine.sched.running)+len(w.engine.sched.waiting))
			}
			w.step(t)
			w.check(t)
		}
		for _, j := range w.jobs {
			w.compare(t, j)
		}
	})
}

type world struct {
	engine *Engine
	model  *fakeModel
	jobs   []*worldJob
}

type worldJob struct {
	*job
	request   Request
	cancelled bool
	failed    bool // was in the batch of a failed step
}

func newWorld(t *rapid.T) *world {
	s := Shape{
		Vocab:       rapid.IntRange(3, 8).Draw(t, "vocab"),
		MaxContext:  rapid.IntRange(10, 50).Draw(t, "context"),
		Window:      rapid.IntRange(0, 9).Draw(t, "window"),
		PageSize:    rapid.IntRange(1, 4).Draw(t, "page size"),
		FullPages:   rapid.IntRange(4, 20).Draw(t, "full pages"),
		WindowPages: rapid.IntRange(4, 20).Draw(t, "window pages"),
		MaxTokens:   rapid.IntRange(1, 12).Draw(t, "tokens"),
		MaxSeqs:     rapid.IntRange(1, 5).Draw(t, "sequences"),
		MaxLogits:   rapid.IntRange(1, 6).Draw(t, "logits"),
	}
	w := &world{model: newFake(s)}
	w.model.poison = int32(s.Vocab - 1)
	var err error
	w.engine, err = newEngine(w.model, Options{PrefixCache: rapid.IntRange(0, 3).Draw(t, "prefix") > 0})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) submit(t *rapid.T) {
	id := rapid.Int32Range(0, 1) // few ids: prompts begin alike
	if rapid.IntRange(0, 15).Draw(t, "poison") == 0 {
		id = rapid.SampledFrom([]int32{0, w.model.poison})
	}
	r := Request{
		Logprobs:       rapid.IntRange(-1, 2).Draw(t, "logprobs"),
		PromptLogprobs: max(-1, rapid.IntRange(-3, 2).Draw(t, "prompt logprobs")),
		MaxTokens:      rapid.IntRange(0, 20).Draw(t, "max"),
		IgnoreEOS:      rapid.Bool().Draw(t, "ignore eos"),
	}
	if len(w.jobs) > 0 && rapid.Bool().Draw(t, "like another") {
		other := rapid.SampledFrom(w.jobs).Draw(t, "other").tokens
		r.Prompt = slices.Clone(other[:rapid.IntRange(0, len(other)).Draw(t, "shared")])
	}
	r.Prompt = append(r.Prompt, rapid.SliceOfN(id, 1, 20).Draw(t, "prompt")...)
	if rapid.Bool().Draw(t, "ends") {
		r.EOS, r.Stop = []int32{0}, []int32{1}
		r.MinTokens = rapid.IntRange(0, r.MaxTokens).Draw(t, "min")
		if w.model.shape.Vocab < 4 { // the fake draws from the others
			r.MinTokens, r.Stop = 0, nil
		}
	}
	r.Sampling.Seed = rapid.Uint64Range(0, 3).Draw(t, "seed")
	j, err := w.engine.enqueue(context.Background(), r)
	var tooLong *ContextError
	if errors.As(err, &tooLong) {
		if tooLong.Prompt+tooLong.Max <= min(w.model.shape.MaxContext, w.engine.sched.cache.Capacity()) {
			t.Fatalf("refused without need: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	w.jobs = append(w.jobs, &worldJob{job: j, request: r})
}

func (w *world) step(t *rapid.T) {
	if err := w.engine.receive(); err != nil {
		t.Fatal(err)
	}
	if w.engine.sched.idle() {
		return
	}
	failing := w.model.fail != nil
	if err := w.engine.step(); err != nil {
		t.Fatal(err)
	}
	if w.model.problem != nil {
		t.Fatal(w.model.problem)
	}
	for _, p := range w.engine.sched.parts {
		if failing {
			w.jobs[slices.IndexFunc(w.jobs, func(j *worldJob) bool { return j.job == p.job })].failed = true
		}
	}
}

func (w *world) cancel(t *rapid.T) {
	if len(w.jobs) == 0 {
		t.Skip("nothing to cancel")
	}
	j := rapid.SampledFrom(w.jobs).Draw(t, "job")
	if rapid.IntRange(0, 2).Draw(t, "rarely") == 0 {
		j.cancelled = true
		j.handle.Cancel()
	}
}

func (w *world) failStep(t *rapid.T) {
	if rapid.IntRange(0, 7).Draw(t, "rarely") == 0 {
		w.model.fail = errors.New("step failed")
	}
}

func (w *world) check(t *rapid.T) {
	if err := w.engine.sched.cache.Check(); err != nil {
		t.Fatal(err)
	}
	full, window := w.engine.sched.cache.Full(), w.engine.sched.cache.Window()
	if len(w.engine.sched.running) == 0 && (full.Free+full.Cached != full.Total || window.Free+window.Cached != window.Total) {
		t.Fatalf("nothing runs, but pages are held: %+v %+v", full, window)
	}
	// First come, first admitted.
	late := false
	for _, j := range w.jobs {
		if j.resumed() && late {
			t.Fatal("a request was admitted before one that had come earlier")
		}
		late = late || !j.resumed() && !j.ended
	}
	fresh := false
	for _, j := range w.engine.sched.waiting {
		if j.resumed() && fresh {
			t.Fatal("a preempted request waits behind one that never ran")
		}
		fresh = fresh || !j.resumed()
	}
	if open := len(w.engine.inbox) + len(w.engine.sched.waiting) + len(w.engine.sched.running); open != w.engine.open {
		t.Fatalf("%d requests are open, %d counted", open, w.engine.open)
	}
}

// compare checks everything that a request was told.
func (w *world) compare(t *rapid.T, j *worldJob) {
	r := j.request
	var tokens []int32
	var prompt []PromptToken
	var end *Event
	for _, ev := range j.handle.queue {
		if end != nil {
			t.Fatalf("an event after the last one: %+v", ev)
		}
		switch ev.Kind {
		case KindToken:
			tokens = append(tokens, ev.Token)
			if want := min(max(r.Logprobs, 0), fakeTop); len(ev.Top) != want {
				t.Fatalf("token with %d most likely ids, want %d", len(ev.Top), want)
			}
		case KindPrompt:
			if len(tokens) > 0 {
				t.Fatal("prompt log-probabilities after a token")
			}
			prompt = append(prompt, ev.Prompt...)
		case KindDone:
			end = &ev
		}
	}
	wantTokens, wantPrompt := fakeAlone(w.model.shape, r)
	want := Event{Kind: KindDone, Done: true, StopToken: -1, Usage: Usage{Prompt: len(r.Prompt), Cached: j.cached, Completion: len(tokens)}}
	poisoned := slices.Index(r.Prompt, w.model.poison)
	switch {
	case end == nil:
		t.Fatal("no last event")
	case end.Reason == ReasonAbort && j.cancelled:
		want.Reason = ReasonAbort
	case end.Reason == ReasonError && (j.failed || poisoned >= 0 && !(r.MaxTokens == 0 && (r.PromptLogprobs < 0 || poisoned == len(r.Prompt)-1))):
		want.Reason = ReasonError
		if poisoned >= 0 && len(tokens) > 0 {
			t.Fatal("tokens were drawn from NaN")
		}
	default:
		want.Reason = ReasonLength
		if n := len(tokens); n > 0 && j.stops(tokens[n-1]) {
			want.Reason, want.StopToken = ReasonStop, tokens[n-1]
		}
		if len(tokens) != len(wantTokens) || len(prompt) != len(wantPrompt) {
			t.Fatalf("%d tokens and %d of the prompt, want %d and %d", len(tokens), len(prompt), len(wantTokens), len(wantPrompt))
		}
	}
	opts := cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Event{}, "Err")}
	if diff := cmp.Diff(want, *end, opts); diff != "" {
		t.Fatalf("last event (-want +got):\n%s", diff)
	}
	if poisoned >= 0 {
		return // its numbers are not compared
	}
	if diff := cmp.Diff(wantTokens[:len(tokens)], tokens, opts); diff != "" {
		t.Fatalf("tokens differ from a run alone (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantPrompt[:len(prompt)], prompt, opts); diff != "" {
		t.Fatalf("prompt log-probabilities differ from a run alone (-want +got):\n%s", diff)
	}
}
