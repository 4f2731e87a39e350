package engine_test

import (
	"encoding/json"
	"math"
	"slices"
	"sync"
	"testing"

	"hearth/internal/checkpoint"
	"hearth/internal/cpu"
	"hearth/internal/engine"
	"hearth/internal/model"
	"hearth/internal/testmodel"
)

// TestRealModel runs the prompts of the tiny model's expected results through the engine, twice and all at once, on so
// few pages that sequences are preempted and prefixes reused. The greedy continuations and the log-probabilities of
// the prompts must be those that transformers computed, one prompt at a time.
func TestRealModel(t *testing.T) {
	prompts := expected(t)
	longest := 0
	for _, p := range prompts {
		longest = max(longest, len(p.IDs)+len(p.Greedy.IDs))
	}
	e := realEngine(t, longest)
	for range 2 {
		var clients sync.WaitGroup
		for _, p := range prompts {
			clients.Go(func() { greedy(t, e, p) })
			clients.Go(func() { promptLogprobs(t, e, p) })
		}
		clients.Wait()
	}
	s := e.Stats()
	t.Logf("%d steps, %d preemptions, %d of %d prompt tokens reused", s.Steps, s.Preemptions, s.PrefixHits, s.PrefixQueries)
}

type expectedPrompt struct {
	Name         string     `json:"name"`
	IDs          []int32    `json:"ids"`
	Positions    []int      `json:"positions"`
	NextLogprobs []*float64 `json:"next_logprobs"` // null after the prompt's end
	Greedy       *struct {
		IDs []int32 `json:"ids"`
	} `json:"greedy"`
}

// expected gives the short prompts: package model runs the long ones, and the race detector is slow.
func expected(t *testing.T) []expectedPrompt {
	t.Helper()
	var file struct {
		Prompts []expectedPrompt `json:"prompts"`
	}
	if err := json.Unmarshal(testmodel.Expected(t, "tiny-a/mxfp4.json"), &file); err != nil {
		t.Fatal(err)
	}
	prompts := slices.DeleteFunc(file.Prompts, func(p expectedPrompt) bool { return len(p.IDs) > 100 })
	if len(prompts) == 0 {
		t.Fatal("no expected results")
	}
	return prompts
}

// realEngine is an engine with full pages for half more than one sequence of the given length.
func realEngine(t *testing.T, length int) *engine.Engine {
	t.Helper()
	c, err := checkpoint.Open(testmodel.Dir(t, "tiny-a/hf-mxfp4"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := model.NewPlan(c.Config(), d.Info(), model.Request{MaxContext: length, MaxSeqs: 6, MaxTokens: 40, PageSize: 4})
	if err != nil {
		t.Fatal(err)
	}
	plan.FullPages, plan.WindowPages = length/4+30, 60
	m, err := model.Load(c, d, plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(m, engine.Options{PrefixCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, close := range []func() error{e.Close, m.Close, c.Close} {
			if err := close(); err != nil {
				t.Error(err)
			}
		}
	})
	return e
}

func greedy(t *testing.T, e *engine.Engine, p expectedPrompt) {
	h, err := e.Submit(t.Context(), engine.Request{Prompt: p.IDs, MaxTokens: len(p.Greedy.IDs), Logprobs: -1, PromptLogprobs: -1})
	if err != nil {
		t.Error(err)
		return
	}
	var tokens []int32
	for ev := range h.Events() {
		if ev.Kind == engine.KindToken {
			tokens = append(tokens, ev.Token)
		}
		if ev.Err != nil {
			t.Error(ev.Err)
		}
	}
	if !slices.Equal(tokens, p.Greedy.IDs) {
		t.Errorf("%s: %v, want %v", p.Name, tokens, p.Greedy.IDs)
	}
}

func promptLogprobs(t *testing.T, e *engine.Engine, p expectedPrompt) {
	h, err := e.Submit(t.Context(), engine.Request{Prompt: p.IDs, Logprobs: -1, PromptLogprobs: 0})
	if err != nil {
		t.Error(err)
		return
	}
	var prompt []engine.PromptToken
	for ev := range h.Events() {
		prompt = append(prompt, ev.Prompt...)
	}
	if len(prompt) != len(p.IDs) {
		t.Errorf("%s: log-probabilities of %d tokens, the prompt has %d", p.Name, len(prompt), len(p.IDs))
		return
	}
	for i, want := range p.NextLogprobs {
		next := p.Positions[i] + 1
		if want == nil {
			continue
		}
		if got := float64(prompt[next].LogProb); math.Abs(got-*want) > 5e-4 {
			t.Errorf("%s: token %d has log-probability %v, want %v", p.Name, next, got, *want)
		}
	}
}
