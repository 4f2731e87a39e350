package engine

import (
	"errors"
	"fmt"
)

// Request is a prompt and what to generate from it. The engine keeps the slices; the caller does not change them.
type Request struct {
	Prompt    []int32
	Sampling  Sampling // Prompt and Output are the engine's to fill in. Seed: the caller draws one where the user gave none
	MaxTokens int      // 0: compute the prompt only
	MinTokens int      // EOS and Stop ids cannot be drawn before this many tokens
	Stop      []int32  // ids that end the request
	EOS       []int32  // the model's own end ids: they end the request unless IgnoreEOS
	IgnoreEOS bool     // EOS ids are tokens like any other; Stop ids still end the request

	// Logprobs asks for this many most likely ids with each generated token; -1: none.
	Logprobs int
	// PromptLogprobs asks for the log-probability of each prompt token and this many most likely ids in its place;
	// -1: neither. Such a request takes nothing from the prefix cache.
	PromptLogprobs int
}

// ErrQueueFull refuses a request because too many wait already.
var ErrQueueFull = errors.New("the queue is full")

// ErrClosed refuses a request, or ends it, because the engine is closing.
var ErrClosed = errors.New("the engine is closed")

// ContextError refuses a request that can never fit.
type ContextError struct {
	Prompt int // tokens of the prompt
	Max    int // tokens to generate at most
	Limit  int // positions that a sequence may have here
}

func (e *ContextError) Error() string {
	return fmt.Sprintf("the prompt has %d tokens and asks for up to %d more, together %d: a sequence holds at most %d here",
		e.Prompt, e.Max, e.Prompt+e.Max, e.Limit)
}

// RequestError refuses a request that is wrong in itself.
type RequestError struct {
	Field  string // of Request, such as "Prompt" or "Sampling.TopP"
	Reason string
}

func (e *RequestError) Error() string { return e.Field + ": " + e.Reason }
