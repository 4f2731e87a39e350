package harmony

import "errors"

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

// RenderChat renders a chat request.
func (e *Encoding) RenderChat(r *ChatRequest, o PromptOptions) (Prompt, error) {
	return Prompt{}, errors.New("harmony: not written yet")
}
