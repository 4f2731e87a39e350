package harmony

import (
	"encoding/json"
	"strings"
)

// A ChatRequest is the part of a chat-completions request that makes its prompt.
// Unmarshalling checks types and ignores fields it does not know; its errors are
// of type *RequestError.
type ChatRequest struct {
	Messages []ChatMessage
	Tools    []Tool
	// ToolChoice does not change the prompt: the tools stay in it even for "none",
	// so that a cached prefix stays valid.
	ToolChoice json.RawMessage
	// ReasoningEffort is reasoning_effort, else reasoning.effort, else
	// chat_template_kwargs.reasoning_effort, else "none" where
	// chat_template_kwargs.enable_thinking is false. "" is medium.
	ReasoningEffort string
	ResponseFormat  *ResponseFormat
	// ContinueFinalMessage makes the model go on with the last message, which must
	// be an assistant's without tool calls: with its text or, if it has only
	// reasoning, with that.
	ContinueFinalMessage bool
	// NoGenerationPrompt is add_generation_prompt false: the prompt ends with the
	// last message, and the model writes <|start|> itself.
	NoGenerationPrompt bool
}

// FunctionNames are the names of the declared functions, for ParserOptions.
func (r *ChatRequest) FunctionNames() []string {
	var names []string
	for _, t := range r.Tools {
		if t.isFunction() {
			names = append(names, t.Name)
		}
	}
	return names
}

// A ChatMessage is one message of a chat request.
type ChatMessage struct {
	Role       string // system, developer, user, assistant, tool or function
	Content    string // the texts of all parts joined; "" if null or absent
	Reasoning  string // the first of reasoning, reasoning_content, thinking that is not empty
	ToolCalls  []ToolCall
	ToolCallID string
	Name       string
}

// A ToolCall is a past call of a function.
type ToolCall struct {
	ID, Name  string
	Arguments string // as the model wrote them: usually, not always, JSON
}

// A Tool is a tool that a request declares. Only functions are rendered.
type Tool struct {
	Type        string // "function" or "" is a function
	Name        string
	Description string
	Parameters  json.RawMessage // a JSON Schema; nil or null: the function takes nothing
	Strict      bool
}

// A ResponseFormat asks for an answer in JSON.
type ResponseFormat struct {
	Type        string // "json_schema"; others (text, json_object) do not change the prompt
	Name        string
	Description string
	Schema      json.RawMessage
	Strict      bool
}

// A RequestError says which field of a request is wrong, and how.
type RequestError struct {
	Path   string // as in messages[2].content[0].type
	Reason string
}

func (e *RequestError) Error() string { return e.Path + ": " + e.Reason }

// UnmarshalJSON reads a request's body.
func (r *ChatRequest) UnmarshalJSON(data []byte) error {
	o := openObject("", data)
	*r = ChatRequest{ToolChoice: o.raw("tool_choice")}
	for i, raw := range o.list("messages") {
		r.Messages = append(r.Messages, readMessage(o.child(at("messages", i), raw)))
	}
	for i, raw := range o.list("tools") {
		r.Tools = append(r.Tools, readTool(o.child(at("tools", i), raw)))
	}
	r.ReasoningEffort = readEffort(o)
	if raw := o.raw("response_format"); raw != nil {
		r.ResponseFormat = readFormat(o.child("response_format", raw))
	}
	r.ContinueFinalMessage, _ = o.boolean("continue_final_message")
	if add, ok := o.boolean("add_generation_prompt"); ok {
		r.NoGenerationPrompt = !add
	}
	return o.failure()
}

func readEffort(o *object) string {
	if s := o.str("reasoning_effort"); s != "" {
		return s
	}
	if raw := o.raw("reasoning"); raw != nil {
		if s := o.child("reasoning", raw).str("effort"); s != "" {
			return s
		}
	}
	raw := o.raw("chat_template_kwargs")
	if raw == nil {
		return ""
	}
	kwargs := o.child("chat_template_kwargs", raw)
	if s := kwargs.str("reasoning_effort"); s != "" {
		return s
	}
	if think, ok := kwargs.boolean("enable_thinking"); ok && !think {
		return "none"
	}
	return ""
}

func readMessage(o *object) ChatMessage {
	m := ChatMessage{
		Role:       o.str("role"),
		Content:    readContent(o),
		ToolCallID: o.str("tool_call_id"),
		Name:       o.str("name"),
	}
	for _, name := range []string{"reasoning", "reasoning_content", "thinking"} {
		if s := o.str(name); m.Reasoning == "" {
			m.Reasoning = s
		}
	}
	for i, raw := range o.list("tool_calls") {
		call := o.child(at("tool_calls", i), raw)
		if kind := call.str("type"); kind != "" && kind != "function" {
			call.fail("type", "want \"function\", not "+quote(kind))
		}
		c := readCall(call.child("function", call.need("function")))
		c.ID = call.str("id")
		m.ToolCalls = append(m.ToolCalls, c)
	}
	if raw := o.raw("function_call"); raw != nil && m.ToolCalls == nil { // before there were tools
		m.ToolCalls = append(m.ToolCalls, readCall(o.child("function_call", raw)))
	}
	return m
}

// readCall reads name and arguments. Some clients send arguments as an object.
func readCall(o *object) ToolCall {
	c := ToolCall{Name: o.str("name")}
	if raw := o.raw("arguments"); raw != nil && raw[0] == '{' {
		c.Arguments = string(raw)
	} else {
		c.Arguments = o.str("arguments")
	}
	return c
}

// readContent joins the texts of a message's content.
func readContent(o *object) string {
	raw := o.raw("content")
	if raw == nil || raw[0] != '[' {
		return o.text("content", "a string, null or a list of parts")
	}
	var text strings.Builder
	for i, raw := range o.list("content") {
		part := o.child(at("content", i), raw)
		switch kind := part.str("type"); kind {
		case "text", "input_text", "output_text":
			text.WriteString(part.str("text"))
		case "refusal":
			text.WriteString(part.str("refusal"))
		case "":
			part.fail("type", "missing; this model reads parts of type \"text\"")
		default:
			part.fail("type", quote(kind)+" is not supported: this model reads text only")
		}
	}
	return text.String()
}

// readTool reads a tool, in the form of chat completions or, flat, of responses.
func readTool(o *object) Tool {
	t := Tool{Type: o.str("type")}
	if !t.isFunction() {
		return t
	}
	if raw := o.raw("function"); raw != nil {
		o = o.child("function", raw)
	}
	t.Name = o.str("name")
	t.Description = o.str("description")
	t.Parameters = o.raw("parameters")
	t.Strict, _ = o.boolean("strict")
	return t
}

func readFormat(o *object) *ResponseFormat {
	f := &ResponseFormat{Type: o.str("type")}
	if f.Type == "" {
		o.fail("type", "missing")
	}
	if f.Type != "json_schema" {
		return f
	}
	o = o.child("json_schema", o.need("json_schema"))
	f.Name = o.str("name")
	f.Description = o.str("description")
	f.Schema = o.need("schema")
	f.Strict, _ = o.boolean("strict")
	return f
}
