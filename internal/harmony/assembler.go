package harmony

// A ChatDelta is what a token added to a chat answer; one of the fields is set.
type ChatDelta struct {
	Reasoning, Content string
	Call               *CallDelta
}

// A CallDelta is a piece of a tool call.
type CallDelta struct {
	Index     int    // of the call in the answer, from 0
	Start     bool   // the call begins: Name is set, this once
	Name      string // without the prefix "functions."
	Arguments string // a fragment
}

// A Call is a finished tool call.
type Call struct{ Name, Arguments string }

// A ChatAnswer is a finished answer.
type ChatAnswer struct {
	Content   *string // nil if there are calls
	Reasoning string
	Calls     []Call
}

// A ChatAssembler makes chat deltas out of the tokens of a model.
type ChatAssembler struct{ p *Parser }

// NewChatAssembler returns an assembler at the start of an answer.
func NewChatAssembler(e *Encoding, o ParserOptions) *ChatAssembler {
	return &ChatAssembler{p: e.NewParser(o)}
}

// Push reads one token. The result is valid until the next call.
func (a *ChatAssembler) Push(id int32) []ChatDelta { return nil }

// Finish ends the answer.
func (a *ChatAssembler) Finish(lengthStopped bool) []ChatDelta { return nil }

// Message is the whole answer so far.
func (a *ChatAssembler) Message() ChatAnswer { return ChatAnswer{} }

// FinishReason is "tool_calls", "length" or "stop"; call it after Finish.
func (a *ChatAssembler) FinishReason() string { return "stop" }

// Channel says where the text of the last token went.
func (a *ChatAssembler) Channel() string { return "" }

// Counts returns the number of tokens of reasoning, and of all tokens.
func (a *ChatAssembler) Counts() (reasoning, total int) { return a.p.Counts() }
