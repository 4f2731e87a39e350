package tui

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// callDelta is a piece of a tool call.
type callDelta struct {
	Index    int    `json:"index"`
	ID       string `json:"id"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// delta is what one chunk of a streamed answer adds.
type delta struct {
	Reasoning string
	Content   string
	Calls     []callDelta
	Finish    string // finish_reason, on the last chunk of the answer
	Usage     *usage
}

// chunk is the wire form of a delta; a whole message has the same fields. Servers spell the
// reasoning in three ways and some send two of them with the same text.
type chunk struct {
	Choices []struct {
		Delta   chunkText `json:"delta"`
		Message chunkText `json:"message"`
		Finish  string    `json:"finish_reason"`
	} `json:"choices"`
	Usage *usage          `json:"usage"`
	Error json.RawMessage `json:"error"`
}

type chunkText struct {
	Content          string      `json:"content"`
	Reasoning        string      `json:"reasoning"`
	ReasoningContent string      `json:"reasoning_content"`
	Thinking         string      `json:"thinking"`
	ToolCalls        []callDelta `json:"tool_calls"`
}

func (c chunkText) reasoning() string {
	for _, s := range []string{c.Reasoning, c.ReasoningContent, c.Thinking} {
		if s != "" {
			return s
		}
	}
	return ""
}

// decodeChunk reads one chunk, or the error object in its place.
func decodeChunk(data []byte) (delta, error) {
	var c chunk
	if err := json.Unmarshal(data, &c); err != nil {
		return delta{}, fmt.Errorf("the server sent a chunk that is not valid: %w", err)
	}
	if len(c.Error) > 0 && string(c.Error) != "null" {
		return delta{}, parseAPIError(0, data)
	}
	d := delta{Usage: c.Usage}
	if len(c.Choices) == 0 {
		return d, nil
	}
	ch := c.Choices[0]
	for _, t := range []chunkText{ch.Delta, ch.Message} {
		d.Reasoning += t.reasoning()
		d.Content += t.Content
		d.Calls = append(d.Calls, t.ToolCalls...)
	}
	d.Finish = ch.Finish
	return d, nil
}

// chatStream reads the chunks of one answer.
type chatStream struct {
	body     io.Closer
	events   *eventReader
	whole    []byte // the complete answer of a server that does not stream
	finished bool   // a finish_reason has been seen
}

// next returns the next delta, io.EOF after a complete answer, and an error for one that is
// not: an *APIError inside the stream, errCut, or the error of ctx.
func (s *chatStream) next(ctx context.Context) (delta, error) {
	if s.events == nil {
		return s.nextWhole()
	}
	ev, err := s.events.next()
	for err == nil && strings.TrimSpace(ev.data) == "" {
		ev, err = s.events.next()
	}
	switch {
	case err == io.EOF && s.finished:
		return delta{}, io.EOF
	case err != nil:
		return delta{}, cutError(ctx, err)
	case ev.name == "error":
		return delta{}, parseAPIError(0, []byte(ev.data))
	case strings.TrimSpace(ev.data) == "[DONE]":
		return delta{}, io.EOF
	}
	d, err := decodeChunk([]byte(ev.data))
	if d.Finish != "" {
		s.finished = true
	}
	return d, err
}

func (s *chatStream) nextWhole() (delta, error) {
	if s.whole == nil {
		return delta{}, io.EOF
	}
	data := s.whole
	s.whole = nil
	return decodeChunk(data)
}

// pending reports whether more of the answer has already arrived.
func (s *chatStream) pending() bool { return s.events != nil && s.events.pending() }

func (s *chatStream) close() {
	if s.body != nil {
		s.body.Close()
	}
}

// toolCall is a finished or growing call of a tool by the model.
type toolCall struct {
	index           int
	Name, Arguments string
}

// addCalls merges pieces into the calls of the same index.
func addCalls(calls []toolCall, pieces []callDelta) []toolCall {
	for _, p := range pieces {
		i := slices.IndexFunc(calls, func(c toolCall) bool { return c.index == p.Index })
		if i < 0 {
			i = len(calls)
			calls = append(calls, toolCall{index: p.Index})
		}
		calls[i].Name += p.Function.Name
		calls[i].Arguments += p.Function.Arguments
	}
	return calls
}
