package engine

import "hearth/internal/model"

// The types that requests and events share with the model, so that users of the engine need not import it.
type (
	Batch        = model.Batch
	Bias         = model.Bias
	LogitRow     = model.LogitRow
	Output       = model.Output
	Sampling     = model.Sampling
	Seq          = model.Seq
	Shape        = model.Shape
	TokenLogProb = model.TokenLogProb
)

// Event is one piece of news of a request: log-probabilities of the prompt (Prompt is not empty), a generated token,
// or the end (Done).
type Event struct {
	Kind Kind

	// KindToken. A token that ended the request is reported too, as the last one, so that a parser sees it.
	Token   int32
	LogProb float32        // natural logarithm, under the model's own distribution
	Top     []TokenLogProb // the most likely ids, descending, as many as Request.Logprobs asked for

	// KindPrompt. All pieces together hold each prompt token once, in order, and come before the first token.
	Prompt []PromptToken

	// KindDone, exactly once and last.
	Done      bool
	Reason    FinishReason
	StopToken int32 // the id that ended the request; -1 if none did
	Err       error // set with ReasonError
	Usage     Usage
}

// Kind tells which part of an Event is filled in.
type Kind uint8

// The kinds of events.
const (
	KindToken Kind = iota
	KindPrompt
	KindDone
)

// PromptToken is a token of the prompt with the log-probability that the model gave it. The first token of a prompt
// has none: LogProb is 0 and Top is nil.
type PromptToken struct {
	ID      int32
	LogProb float32
	Top     []TokenLogProb
}

// FinishReason says why a request ended.
type FinishReason uint8

// The reasons to end.
const (
	ReasonStop   FinishReason = iota // an EOS or stop id was drawn
	ReasonLength                     // MaxTokens were generated
	ReasonAbort                      // cancelled, or its context ended
	ReasonError                      // Event.Err tells
)

// String gives the name that APIs and metrics use.
func (r FinishReason) String() string {
	switch r {
	case ReasonStop:
		return "stop"
	case ReasonLength:
		return "length"
	case ReasonAbort:
		return "abort"
	}
	return "error"
}

// Usage counts a request's tokens.
type Usage struct {
	Prompt     int
	Cached     int // prompt tokens whose keys were found in the prefix cache
	Completion int // generated tokens, the stop token included
}
