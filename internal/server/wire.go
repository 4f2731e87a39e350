package server

import "strings"

// part is one step of an answer as a stream shows it. The parts of a choice, added up, are its plain answer.
type part struct {
	choice    int
	reasoning string
	text      string // content of the message, or the completion's text
	call      *callDelta
	logprobs  []tokenLogprob
	tokens    []int32 // ids behind this part and the invisible ones before it; only if they were asked for
	finish    string  // not "" on the last part of a choice
	stopped   any     // with finish "stop": the stop string or stop token id of the request that ended it
}

func (p *part) empty() bool {
	return p.reasoning == "" && p.text == "" && p.call == nil && len(p.logprobs) == 0 && p.finish == ""
}

// callDelta is a piece of a tool call. Its first piece has an id and a name, and no other has: clients concatenate
// what they get.
type callDelta struct {
	index     int
	id, name  string
	arguments string
}

// answer adds up the parts of one choice.
type answer struct {
	reasoning, text strings.Builder
	calls           []callDelta
	logprobs        []tokenLogprob
	tokens          []int32
	finish          string
	stopped         any
}

func (a *answer) add(p part) {
	a.reasoning.WriteString(p.reasoning)
	a.text.WriteString(p.text)
	if p.call != nil {
		if p.call.index == len(a.calls) {
			a.calls = append(a.calls, callDelta{index: p.call.index, id: p.call.id, name: p.call.name})
		}
		a.calls[p.call.index].arguments += p.call.arguments
	}
	a.logprobs = append(a.logprobs, p.logprobs...)
	a.tokens = append(a.tokens, p.tokens...)
	if p.finish != "" {
		a.finish, a.stopped = p.finish, p.stopped
	}
}

// usage counts the tokens of a request.
type usage struct {
	Prompt           int               `json:"prompt_tokens"`
	Completion       int               `json:"completion_tokens"`
	Total            int               `json:"total_tokens"`
	PromptDetails    promptDetails     `json:"prompt_tokens_details"`
	CompletionDetail *completionDetail `json:"completion_tokens_details,omitempty"` // chat only
}

type promptDetails struct {
	Cached int `json:"cached_tokens"`
}

type completionDetail struct {
	Reasoning int `json:"reasoning_tokens"`
}

func (u *usage) cached() int { return u.PromptDetails.Cached }

// head is the beginning of every answer and every chunk.
type head struct {
	ID          string `json:"id"`
	Object      string `json:"object"`
	Created     int64  `json:"created"`
	Model       string `json:"model"`
	Fingerprint string `json:"system_fingerprint"`
}

// The answers of /v1/chat/completions.
type (
	chatAnswer struct {
		head
		Choices   []chatMessageChoice `json:"choices"`
		Usage     usage               `json:"usage"`
		PromptIDs []int32             `json:"prompt_token_ids,omitempty"`
	}
	chatMessageChoice struct {
		Index    int           `json:"index"`
		Message  chatMessage   `json:"message"`
		Logprobs *chatLogprobs `json:"logprobs"`
		Finish   string        `json:"finish_reason"`
		Stopped  any           `json:"stop_reason,omitempty"`
		TokenIDs []int32       `json:"token_ids,omitempty"`
	}
	// chatMessage leaves reasoning and tool_calls out when empty: clients take "" and [] for the real thing.
	chatMessage struct {
		Role             string     `json:"role"`
		Content          *string    `json:"content"`
		Reasoning        string     `json:"reasoning,omitempty"`
		ReasoningContent string     `json:"reasoning_content,omitempty"`
		ToolCalls        []toolCall `json:"tool_calls,omitempty"`
	}
	toolCall struct {
		Index    *int         `json:"index,omitempty"` // in chunks
		ID       string       `json:"id,omitempty"`
		Type     string       `json:"type,omitempty"`
		Function functionCall `json:"function"`
	}
	functionCall struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	}

	chatChunk struct {
		head
		Choices   []chatChunkChoice `json:"choices"`
		Usage     any               `json:"usage,omitempty"`
		PromptIDs []int32           `json:"prompt_token_ids,omitempty"`
	}
	chatChunkChoice struct {
		Index    int           `json:"index"`
		Delta    chatDelta     `json:"delta"`
		Logprobs *chatLogprobs `json:"logprobs"`
		Finish   *string       `json:"finish_reason"`
		Stopped  any           `json:"stop_reason,omitempty"`
		TokenIDs []int32       `json:"token_ids,omitempty"`
	}
	chatDelta struct {
		Role             string     `json:"role,omitempty"`
		Content          *string    `json:"content,omitempty"`
		Reasoning        string     `json:"reasoning,omitempty"`
		ReasoningContent string     `json:"reasoning_content,omitempty"`
		ToolCalls        []toolCall `json:"tool_calls,omitempty"`
	}
)

// The answers of /v1/completions. A chunk has the form of a whole answer.
type (
	textAnswer struct {
		head
		Choices []textChoiceJSON `json:"choices"`
		Usage   any              `json:"usage,omitempty"`
	}
	textChoiceJSON struct {
		Index     int           `json:"index"`
		Text      string        `json:"text"`
		Logprobs  *textLogprobs `json:"logprobs"`
		Finish    *string       `json:"finish_reason"`
		Stopped   any           `json:"stop_reason,omitempty"`
		TokenIDs  []int32       `json:"token_ids,omitempty"`
		PromptIDs []int32       `json:"prompt_token_ids,omitempty"`
	}
)

// optional is nil for "".
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
