package harmony

import "encoding/json"

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
	// chat_template_kwargs.enable_thinking is false.
	ReasoningEffort string
	ResponseFormat  *ResponseFormat
	// ContinueFinalMessage makes the model go on with the last message, which must
	// be an assistant's without tool calls.
	ContinueFinalMessage bool
	// NoGenerationPrompt is add_generation_prompt false: the prompt ends with the
	// last message, and the model writes <|start|> itself.
	NoGenerationPrompt bool
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
