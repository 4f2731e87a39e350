package server

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"hearth/internal/harmony"
)

const fieldMessages = "messages"

// readChat checks the body of POST /v1/chat/completions and renders its prompt.
func (s *Server) readChat(o *object) (*job, *apiError) {
	if s.o.Harmony == nil {
		return nil, errNoTokenizer("chat")
	}
	p := s.readParams(o, 1, "max_completion_tokens", "max_tokens")
	readChatLogprobs(o, &p)
	exclude := readExclude(o)
	refuseOldFunctions(o)
	if o.err != nil {
		return nil, o.err
	}
	req, err := s.readMessages(o)
	if err != nil {
		return nil, err
	}
	prompt, err := s.render(req)
	if err != nil {
		return nil, err
	}
	maxTokens, err := s.checkPrompt(&p, fieldMessages, prompt.IDs, true)
	if err != nil {
		return nil, err
	}
	j := &job{p: &p, field: fieldMessages}
	parser := harmony.ParserOptions{Prefill: prompt.Prefill}
	for _, t := range req.Tools {
		parser.Tools = append(parser.Tools, t.Name)
	}
	for i := range p.n {
		j.requests = append(j.requests, p.request(prompt.IDs, i, maxTokens))
		j.choices = append(j.choices, newChatChoice(i, &p, s.o.Harmony, parser, exclude))
	}
	j.form = &chatForm{
		head: s.head(&p, "chatcmpl-"), p: &p, prompt: prompt.IDs,
		names: names{tok: s.o.Tokenizer, asID: p.tokensAsIDs},
	}
	return j, nil
}

// readChatLogprobs takes logprobs and top_logprobs.
func readChatLogprobs(o *object, p *params) {
	wanted, _ := o.boolean("logprobs")
	top, given := o.integer("top_logprobs", 0, maxTopLogprobs)
	switch {
	case wanted:
		p.logprobs = int(top)
	case given && top > 0:
		o.fail(invalid("top_logprobs", "invalid_value", "top_logprobs needs logprobs: true"))
	}
}

// readExclude reports whether the reasoning is to be left out of the answer, in either spelling.
func readExclude(o *object) bool {
	include, given := o.boolean("include_reasoning")
	if given && !include {
		return true
	}
	if raw, ok := o.raw("reasoning"); !ok || raw[0] != '{' {
		return false
	}
	r, _ := o.object("reasoning")
	exclude, _ := r.boolean("exclude")
	if r.err != nil {
		o.fail(r.err)
	}
	return exclude
}

// refuseOldFunctions refuses what tools replaced: to ignore it would lose the functions without a word.
func refuseOldFunctions(o *object) {
	if list, ok := o.array("functions"); ok && len(list) > 0 {
		o.fail(invalid("functions", "unsupported_parameter", "functions is not supported, use tools"))
	}
}

// readMessages reads what makes the prompt.
func (s *Server) readMessages(o *object) (*harmony.ChatRequest, *apiError) {
	if _, ok := o.raw(fieldMessages); !ok {
		return nil, invalid(fieldMessages, "missing_required_parameter", "messages is missing")
	}
	req := new(harmony.ChatRequest)
	if err := json.Unmarshal(o.body, req); err != nil {
		return nil, requestError(err)
	}
	if len(req.Messages) == 0 {
		return nil, invalid(fieldMessages, "invalid_value", "messages is empty, it needs at least one message")
	}
	if f := req.ResponseFormat; f != nil && f.Type != "" && f.Type != "text" {
		s.warn("response_format is only a hint in the prompt: this version does not enforce it")
	}
	return req, s.checkToolChoice(req)
}

// checkToolChoice checks tool_choice against the tools.
func (s *Server) checkToolChoice(req *harmony.ChatRequest) *apiError {
	const field = "tool_choice"
	raw := req.ToolChoice
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var word string
	var named struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	switch {
	case json.Unmarshal(raw, &word) == nil:
		switch word {
		case "auto":
			return nil
		case "none", "required":
		default:
			return invalid(field, "invalid_value", "tool_choice must be none, auto, required or a function, got %s", brief(raw))
		}
		if word == "required" && len(req.Tools) == 0 {
			return invalid(field, "invalid_value", "tool_choice is required, but there are no tools")
		}
	case json.Unmarshal(raw, &named) == nil && named.Function.Name != "":
		name := named.Function.Name
		if !slices.ContainsFunc(req.Tools, func(t harmony.Tool) bool { return t.Name == name }) {
			return invalid(field, "invalid_value", "tool_choice names the function %q, which is not among the tools", name)
		}
	default:
		return invalid(field, "invalid_type", "tool_choice must be a string or {\"type\":\"function\",\"function\":{\"name\":...}}, got %s", brief(raw))
	}
	s.warn("tool_choice other than auto is not enforced by this version: the model may answer or call as it likes")
	return nil
}

// render turns the messages into the prompt.
func (s *Server) render(req *harmony.ChatRequest) (harmony.Prompt, *apiError) {
	o := s.o.Prompt
	if s.o.Date != nil {
		o.Date = s.o.Date()
	}
	p, err := s.o.Harmony.RenderChat(req, o)
	if err != nil {
		return p, requestError(err)
	}
	return p, nil
}

// requestError is the answer to a chat request that Harmony refuses.
func requestError(err error) *apiError {
	var wrong *harmony.RequestError
	if errors.As(err, &wrong) {
		return invalid(wrong.Path, "invalid_value", "%v", err)
	}
	return invalid(fieldMessages, "invalid_value", "%v", err)
}

func errNoTokenizer(what string) *apiError {
	return invalid("", "tokenizer_missing",
		"%s needs a tokenizer and the model was loaded without one: start the server with --tokenizer PATH, or send token ids to /v1/completions", what)
}

// head begins an answer.
func (s *Server) head(p *params, prefix string) head {
	return head{
		ID: newID(prefix), Created: time.Now().Unix(), Model: p.model, Fingerprint: "hearth-" + s.o.Version,
	}
}

// chatForm writes the answers of /v1/chat/completions.
type chatForm struct {
	head   head
	p      *params
	names  names
	prompt []int32
}

// start makes a chunk without choices.
func (f *chatForm) start(usage any) *chatChunk {
	c := &chatChunk{head: f.head, Choices: []chatChunkChoice{}, Usage: usage}
	c.Object = "chat.completion.chunk"
	return c
}

func (f *chatForm) opening(usage any) []any {
	var chunks []any
	empty := ""
	for i := range f.p.n {
		c := f.start(usage)
		c.Choices = append(c.Choices, chatChunkChoice{Index: i, Delta: chatDelta{Role: harmony.RoleAssistant, Content: &empty}})
		if i == 0 && f.p.returnIDs {
			c.PromptIDs = f.prompt
		}
		chunks = append(chunks, c)
	}
	return chunks
}

func (f *chatForm) chunk(p part, usage any) any {
	c := f.start(usage)
	choice := chatChunkChoice{
		Index: p.choice, Finish: optional(p.finish), Stopped: p.stopped, TokenIDs: p.tokens,
		Delta: chatDelta{Content: optional(p.text), Reasoning: p.reasoning, ReasoningContent: p.reasoning},
	}
	if p.call != nil {
		choice.Delta.ToolCalls = []toolCall{p.call.wire(&p.call.index)}
	}
	if len(p.logprobs) > 0 {
		choice.Logprobs = f.names.chat(p.logprobs)
	}
	c.Choices = append(c.Choices, choice)
	return c
}

func (f *chatForm) closing(u usage) any { return f.start(&u) }

func (f *chatForm) whole(answers []answer, u usage) any {
	c := &chatAnswer{head: f.head, Usage: u}
	c.Object = "chat.completion"
	if f.p.returnIDs {
		c.PromptIDs = f.prompt
	}
	for i := range answers {
		a := &answers[i]
		choice := chatMessageChoice{Index: i, Message: a.message(), Finish: a.finish, Stopped: a.stopped, TokenIDs: a.tokens}
		if f.p.logprobs >= 0 {
			choice.Logprobs = f.names.chat(a.logprobs)
		}
		c.Choices = append(c.Choices, choice)
	}
	return c
}

// message is the answer as a message. With tool calls the content is null, because clients that find a content ignore
// the calls; what was there is kept at the end of the reasoning.
func (a *answer) message() chatMessage {
	m := chatMessage{Role: harmony.RoleAssistant}
	reasoning, text := a.reasoning.String(), a.text.String()
	if len(a.calls) == 0 {
		m.Content = &text
	} else {
		if reasoning != "" && text != "" {
			reasoning += "\n"
		}
		reasoning += text
	}
	m.Reasoning, m.ReasoningContent = reasoning, reasoning
	for i := range a.calls {
		m.ToolCalls = append(m.ToolCalls, a.calls[i].wire(nil))
	}
	return m
}

// wire is a call, or a piece of one, as it is sent. index is nil outside of streams.
func (c *callDelta) wire(index *int) toolCall {
	t := toolCall{Index: index, ID: c.id, Function: functionCall{Name: c.name, Arguments: c.arguments}}
	if c.id != "" {
		t.Type = "function"
	}
	return t
}
