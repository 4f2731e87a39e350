package engine

import (
	"context"
	"errors"
	"math"
	"testing"
)

func TestRefusedRequests(t *testing.T) {
	e, err := newEngine(newFake(smallShape()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	nan := float32(math.NaN())
	for _, c := range []struct {
		field  string
		change func(*Request)
	}{
		{"Prompt", func(r *Request) { r.Prompt = nil }},
		{"Prompt", func(r *Request) { r.Prompt = []int32{0, 50} }},
		{"Prompt", func(r *Request) { r.Prompt = []int32{-1} }},
		{"Stop", func(r *Request) { r.Stop = []int32{50} }},
		{"MaxTokens", func(r *Request) { r.MaxTokens = -1 }},
		{"MinTokens", func(r *Request) { r.MinTokens = -1 }},
		{"MinTokens", func(r *Request) { r.MinTokens = 6 }},
		{"Logprobs", func(r *Request) { r.Logprobs = -2 }},
		{"Logprobs", func(r *Request) { r.Logprobs = 51 }},
		{"PromptLogprobs", func(r *Request) { r.PromptLogprobs = -2 }},
		{"PromptLogprobs", func(r *Request) { r.PromptLogprobs = 51 }},
		{"Sampling.Temperature", func(r *Request) { r.Sampling.Temperature = -1 }},
		{"Sampling.Temperature", func(r *Request) { r.Sampling.Temperature = nan }},
		{"Sampling.Temperature", func(r *Request) { r.Sampling.Temperature = float32(math.Inf(1)) }},
		{"Sampling.TopP", func(r *Request) { r.Sampling.TopP = 1.5 }},
		{"Sampling.MinP", func(r *Request) { r.Sampling.MinP = nan }},
		{"Sampling.TopK", func(r *Request) { r.Sampling.TopK = -1 }},
		{"Sampling.Presence", func(r *Request) { r.Sampling.Presence = nan }},
		{"Sampling.Frequency", func(r *Request) { r.Sampling.Frequency = float32(math.Inf(-1)) }},
		{"Sampling.Repetition", func(r *Request) { r.Sampling.Repetition = -1 }},
		{"Sampling.Mask", func(r *Request) { r.Sampling.Mask = []uint32{1} }},
		{"Sampling.Banned", func(r *Request) { r.Sampling.Banned = []int32{50} }},
		{"Sampling.Bias", func(r *Request) { r.Sampling.Bias = []Bias{{ID: 50}} }},
		{"Sampling.Bias", func(r *Request) { r.Sampling.Bias = []Bias{{Value: nan}} }},
	} {
		r := request(5, 5)
		c.change(&r)
		_, err := e.enqueue(context.Background(), r)
		var refused *RequestError
		if !errors.As(err, &refused) || refused.Field != c.field {
			t.Errorf("%+v: %v, want an error about %s", r, err, c.field)
		}
	}
	if e.open != 0 {
		t.Errorf("%d requests were taken", e.open)
	}
	// The extremes that are fine.
	r := request(5, 395)
	r.MinTokens, r.Logprobs, r.PromptLogprobs = 395, 50, 50
	r.EOS = []int32{200002} // a model's end may lie past a cut vocabulary: it can never be drawn
	r.Sampling = Sampling{Temperature: 2, TopP: 1, MinP: 1, TopK: 1, Presence: -2, Frequency: 2, Mask: []uint32{1, 1}, Bias: []Bias{{ID: 49, Value: float32(math.Inf(-1))}}}
	if _, err := e.enqueue(context.Background(), r); err != nil {
		t.Error(err)
	}
	_, err = e.enqueue(context.Background(), request(5, 396))
	var long *ContextError
	if !errors.As(err, &long) || *long != (ContextError{Prompt: 5, Max: 396, Limit: 400}) {
		t.Errorf("one token too many: %v", err)
	}
	// Sums that overflow are still too long.
	if _, err = e.enqueue(context.Background(), request(5, math.MaxInt)); !errors.As(err, &long) {
		t.Errorf("MaxInt tokens: %v", err)
	}
}
