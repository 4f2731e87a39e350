package engine

import (
	"fmt"
	"math"
)

// check refuses a request that is wrong in itself or can never fit.
func (e *Engine) check(r *Request) error {
	if len(r.Prompt) == 0 {
		return refuse("Prompt", "is empty: the model needs at least one token")
	}
	if err := e.checkIDs("Prompt", r.Prompt); err != nil {
		return err
	}
	if err := e.checkIDs("Stop", r.Stop); err != nil {
		return err
	}
	switch {
	case r.MaxTokens < 0:
		return refuse("MaxTokens", "is %d", r.MaxTokens)
	case r.MinTokens < 0 || r.MinTokens > r.MaxTokens:
		return refuse("MinTokens", "is %d, it must be between 0 and MaxTokens (%d)", r.MinTokens, r.MaxTokens)
	case r.Logprobs < -1 || r.Logprobs > e.shape.Vocab:
		return refuse("Logprobs", "is %d, the vocabulary has %d ids", r.Logprobs, e.shape.Vocab)
	case r.PromptLogprobs < -1 || r.PromptLogprobs > e.shape.Vocab:
		return refuse("PromptLogprobs", "is %d, the vocabulary has %d ids", r.PromptLogprobs, e.shape.Vocab)
	case r.MaxTokens > e.limit-len(r.Prompt):
		return &ContextError{Prompt: len(r.Prompt), Max: r.MaxTokens, Limit: e.limit}
	}
	return e.checkSampling(&r.Sampling)
}

func (e *Engine) checkSampling(s *Sampling) error {
	for _, f := range []struct {
		field     string
		value     float32
		low, high float64
	}{
		{"Sampling.Temperature", s.Temperature, 0, math.MaxFloat32},
		{"Sampling.TopP", s.TopP, 0, 1},
		{"Sampling.MinP", s.MinP, 0, 1},
		{"Sampling.Presence", s.Presence, -math.MaxFloat32, math.MaxFloat32},
		{"Sampling.Frequency", s.Frequency, -math.MaxFloat32, math.MaxFloat32},
		{"Sampling.Repetition", s.Repetition, 0, math.MaxFloat32},
	} {
		if v := float64(f.value); !(v >= f.low && v <= f.high) {
			return refuse(f.field, "is %v, it must be between %v and %v", f.value, f.low, f.high)
		}
	}
	if s.TopK < 0 {
		return refuse("Sampling.TopK", "is %d", s.TopK)
	}
	if s.Mask != nil && len(s.Mask) < (e.shape.Vocab+31)/32 {
		return refuse("Sampling.Mask", "has %d words, %d ids need %d", len(s.Mask), e.shape.Vocab, (e.shape.Vocab+31)/32)
	}
	for i, b := range s.Bias {
		if b.ID < 0 || int(b.ID) >= e.shape.Vocab {
			return refuse("Sampling.Bias", "%d is for id %d, the vocabulary has ids 0 to %d", i, b.ID, e.shape.Vocab-1)
		}
		if v := float64(b.Value); math.IsNaN(v) || v > math.MaxFloat32 {
			return refuse("Sampling.Bias", "%d of id %d is %v", i, b.ID, b.Value)
		}
	}
	return e.checkIDs("Sampling.Banned", s.Banned)
}

func (e *Engine) checkIDs(field string, ids []int32) error {
	for i, id := range ids {
		if id < 0 || int(id) >= e.shape.Vocab {
			return refuse(field, "token %d is id %d, the vocabulary has ids 0 to %d", i, id, e.shape.Vocab-1)
		}
	}
	return nil
}

func refuse(field, format string, args ...any) error {
	return &RequestError{Field: field, Reason: fmt.Sprintf(format, args...)}
}
