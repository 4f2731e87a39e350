package harmony

import (
	"errors"
	"fmt"
	"strings"
)

// PromptOptions are the server's part of the system message.
type PromptOptions struct {
	Identity        string // "": DefaultIdentity
	KnowledgeCutoff string // "": DefaultKnowledgeCutoff
	Date            string // YYYY-MM-DD; "": the line is left out
}

// What the published models were trained with.
const (
	DefaultIdentity        = "You are ChatGPT, a large language model trained by OpenAI."
	DefaultKnowledgeCutoff = "2024-06"
)

// A Prompt is a rendered request.
type Prompt struct {
	IDs     []int32
	Prefill Prefill // where the model goes on: the state that its parser starts in
}

// RenderChat renders a chat request. Its errors are of type *RequestError and name
// the field that is wrong.
//
// System and developer messages become developer messages: Harmony's own system
// message is not the user's to write. Reasoning is kept only of messages after the
// last answer, that is while the model is still calling tools. Results are put
// behind the calls they answer.
func (e *Encoding) RenderChat(r *ChatRequest, o PromptOptions) (Prompt, error) {
	rend, prefill, err := e.renderChat(r, o)
	if err != nil {
		return Prompt{}, err
	}
	return Prompt{IDs: rend.ids, Prefill: prefill}, nil
}

func (e *Encoding) renderChat(r *ChatRequest, o PromptOptions) (*renderer, Prefill, error) {
	if err := r.check(); err != nil {
		return nil, 0, err
	}
	effort, answerOnly, err := mapEffort(r.ReasoningEffort)
	if err != nil {
		return nil, 0, err
	}
	c := conversation{request: r, history: r.Messages, called: make(map[string]string)}
	if r.ContinueFinalMessage {
		c.history = r.Messages[:len(r.Messages)-1]
	}
	c.messages = append(c.messages, systemMessage(effort, o))
	c.addDeveloper()
	if err := c.addHistory(); err != nil {
		return nil, 0, err
	}
	rend := &renderer{enc: e, functions: declaresFunctions(c.messages)}
	for i := range c.messages {
		if err := rend.render(&c.messages[i]); err != nil {
			return nil, 0, requestError(err)
		}
	}
	return rend, rend.open(r, answerOnly), nil
}

// open begins the message that the model is to write.
func (r *renderer) open(q *ChatRequest, answerOnly bool) Prefill {
	prefill, channel, text := PrefillNone, "", ""
	if q.ContinueFinalMessage {
		m := q.Messages[len(q.Messages)-1]
		prefill, channel, text = PrefillFinal, ChannelFinal, m.Content
		if m.Content == "" && m.Reasoning != "" {
			prefill, channel, text = PrefillAnalysis, ChannelAnalysis, m.Reasoning
		}
	} else if q.NoGenerationPrompt {
		return PrefillNothing
	} else if answerOnly {
		prefill, channel = PrefillFinal, ChannelFinal
	}
	r.mark(r.enc.start)
	r.text(RoleAssistant)
	if channel != "" {
		r.mark(r.enc.channel)
		r.text(channel)
		r.mark(r.enc.message)
		r.text(text)
	}
	return prefill
}

// requestError names the field that a rendering error comes from.
func requestError(err error) error {
	var tool *toolError
	if errors.As(err, &tool) {
		return &RequestError{at("tools", tool.index) + ".function.parameters", tool.err.Error()}
	}
	var format *formatError
	if errors.As(err, &format) {
		return &RequestError{"response_format.json_schema.schema", format.err.Error()}
	}
	return err
}

// mapEffort maps a request's effort to one that the model knows. The model cannot
// be told not to think: for "none" its answer is begun for it.
func mapEffort(s string) (effort string, answerOnly bool, err error) {
	switch s {
	case "":
		return "medium", false, nil
	case "low", "medium", "high":
		return s, false, nil
	case "minimal":
		return "low", false, nil
	case "xhigh", "max":
		return "high", false, nil
	case "none":
		return "low", true, nil
	}
	return "", false, &RequestError{"reasoning_effort", quote(s) + " is not one of none, minimal, low, medium, high, xhigh, max"}
}

// check finds what is wrong with a request apart from schemas and calls.
func (r *ChatRequest) check() error {
	if len(r.Messages) == 0 {
		return &RequestError{"messages", "at least one message is needed"}
	}
	for i, t := range r.Tools {
		if t.isFunction() && t.Name == "" {
			return &RequestError{at("tools", i) + ".function.name", "missing"}
		}
	}
	if f := r.ResponseFormat; f != nil && f.Type == "json_schema" && f.Name == "" {
		return &RequestError{"response_format.json_schema.name", "missing"}
	}
	for i, m := range r.Messages {
		path := at("messages", i)
		switch m.Role {
		case RoleSystem, RoleDeveloper, RoleUser, RoleAssistant, RoleTool, roleFunction:
		case "":
			return &RequestError{path + ".role", "missing"}
		default:
			return &RequestError{path + ".role", quote(m.Role) + " is not one of system, developer, user, assistant, tool"}
		}
		for j, c := range m.ToolCalls {
			if c.Name == "" {
				return &RequestError{fmt.Sprintf("%s.tool_calls[%d].function.name", path, j), "missing"}
			}
		}
	}
	if last := r.Messages[len(r.Messages)-1]; r.ContinueFinalMessage && (last.Role != RoleAssistant || len(last.ToolCalls) > 0) {
		return &RequestError{"continue_final_message", "the last message must be an assistant's, without tool calls"}
	}
	return nil
}

// roleFunction was the role of a tool's result before there were tools.
const roleFunction = "function"

func systemMessage(effort string, o PromptOptions) Message {
	s := &SystemContent{
		Identity:        new(DefaultIdentity),
		KnowledgeCutoff: new(DefaultKnowledgeCutoff),
		Effort:          effort,
		Channels:        []string{ChannelAnalysis, ChannelCommentary, ChannelFinal},
		ChannelRequired: true,
	}
	if o.Identity != "" {
		s.Identity = &o.Identity
	}
	if o.KnowledgeCutoff != "" {
		s.KnowledgeCutoff = &o.KnowledgeCutoff
	}
	if o.Date != "" {
		s.Date = &o.Date
	}
	return Message{Role: RoleSystem, Content: []Content{s}}
}

// A conversation collects the Harmony messages of a request.
type conversation struct {
	request  *ChatRequest
	history  []ChatMessage // those to be rendered as past
	at       int           // the first of history that is not added yet
	answer   int           // the last of history with an answer, -1 if there is none
	messages []Message

	called map[string]string // functions by the id of the latest call
	latest string            // the function called last
}

func (c *conversation) add(role, channel string, content Content) {
	c.messages = append(c.messages, Message{Role: role, Channel: channel, Content: []Content{content}})
}

// addDeveloper adds what stands before the conversation: the instructions at its
// beginning, the tools and the format of the answer.
func (c *conversation) addDeveloper() {
	var d DeveloperContent
	var instructions []string
	for ; c.at < len(c.history) && c.history[c.at].instructs(); c.at++ {
		if text := c.history[c.at].Content; text != "" {
			instructions = append(instructions, text)
		}
	}
	if instructions != nil {
		d.Instructions = new(strings.Join(instructions, "\n\n"))
	}
	if functions := (Namespace{Name: functionsKey, Tools: c.request.Tools}); functions.functions() {
		d.Tools = map[string]Namespace{functionsKey: functions}
	}
	if f := c.request.ResponseFormat; f != nil && f.Type == "json_schema" {
		d.Format = f
	}
	if d.Instructions != nil || d.Tools != nil || d.Format != nil {
		c.add(RoleDeveloper, "", &d)
	}
}

func (m *ChatMessage) instructs() bool { return m.Role == RoleSystem || m.Role == RoleDeveloper }

func (m *ChatMessage) isResult() bool { return m.Role == RoleTool || m.Role == roleFunction }

// addHistory adds the rest of the conversation.
func (c *conversation) addHistory() error {
	c.answer = -1
	for i, m := range c.history {
		if m.Role == RoleAssistant && m.Content != "" && len(m.ToolCalls) == 0 {
			c.answer = i
		}
	}
	for c.at < len(c.history) {
		m := &c.history[c.at]
		switch {
		case m.Role == RoleUser:
			c.add(RoleUser, "", TextContent(m.Content))
		case m.instructs():
			if m.Content != "" {
				c.add(RoleDeveloper, "", &DeveloperContent{Instructions: &m.Content})
			}
		case m.isResult():
			if err := c.addStrayResult(c.at); err != nil {
				return err
			}
		case len(m.ToolCalls) > 0:
			if err := c.addCalls(); err != nil {
				return err
			}
			continue
		default:
			c.addReasoning(c.at)
			if m.Content != "" {
				c.add(RoleAssistant, ChannelFinal, TextContent(m.Content))
			}
		}
		c.at++
	}
	return nil
}

// addReasoning adds the reasoning of message i, if it comes after the last answer.
func (c *conversation) addReasoning(i int) {
	if text := c.history[i].Reasoning; text != "" && i > c.answer {
		c.add(RoleAssistant, ChannelAnalysis, TextContent(text))
	}
}

// addCalls adds an assistant's message with calls, and the run of results behind
// it: each behind the call whose id it carries, the others at the end.
func (c *conversation) addCalls() error {
	m := &c.history[c.at]
	if m.Content != "" {
		c.add(RoleAssistant, ChannelCommentary, TextContent(m.Content))
	}
	c.addReasoning(c.at)
	for _, call := range m.ToolCalls {
		c.latest = call.Name
		if call.ID != "" {
			c.called[call.ID] = call.Name
		}
	}
	c.at++
	first := c.at
	byID := make(map[string][]int)
	for ; c.at < len(c.history) && c.history[c.at].isResult(); c.at++ {
		id := c.history[c.at].ToolCallID
		byID[id] = append(byID[id], c.at)
	}
	placed := make([]bool, c.at-first)
	for _, call := range m.ToolCalls {
		c.addCall(call)
		if call.ID == "" {
			continue
		}
		for _, i := range byID[call.ID] {
			c.addResult(i, call.Name)
			placed[i-first] = true
		}
		delete(byID, call.ID)
	}
	for i, done := range placed {
		if done {
			continue
		}
		if err := c.addStrayResult(first + i); err != nil {
			return err
		}
	}
	return nil
}

func (c *conversation) addCall(call ToolCall) {
	c.messages = append(c.messages, Message{
		Role:        RoleAssistant,
		Recipient:   functionName(call.Name),
		Channel:     ChannelCommentary,
		ContentType: new(markerConstrain + "json"),
		Content:     []Content{TextContent(call.Arguments)},
	})
}

// addResult adds message i as the result of the function called name.
func (c *conversation) addResult(i int, name string) {
	c.messages = append(c.messages, Message{
		Role:      RoleTool,
		Name:      functionName(name),
		Recipient: RoleAssistant,
		Channel:   ChannelCommentary,
		Content:   []Content{TextContent(c.history[i].Content)},
	})
}

// addStrayResult adds message i, a result that does not directly follow its call.
// Its function is that of the call with the same id, else the one it names, else
// the latest that was called.
func (c *conversation) addStrayResult(i int) error {
	m := &c.history[i]
	name := c.called[m.ToolCallID]
	if name == "" {
		name = m.Name
	}
	if name == "" {
		name = c.latest
	}
	if name == "" {
		return &RequestError{at("messages", i) + ".tool_call_id", "no tool call stands before this result, and it has no name"}
	}
	c.addResult(i, name)
	return nil
}

// functionName is the name of a declared function in a header.
func functionName(name string) string { return functionsKey + "." + name }
