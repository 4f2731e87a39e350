package harmony

// Prefill says what stands between the model's first token and the <|start|>
// before it.
type Prefill uint8

const (
	PrefillNone     Prefill = iota // <|start|>assistant
	PrefillFinal                   // <|start|>assistant<|channel|>final<|message|> and perhaps text
	PrefillAnalysis                // <|start|>assistant<|channel|>analysis<|message|> and perhaps text
	PrefillNothing                 // the ids are a transcript that begins with <|start|>
)

// EventKind is what happened in a stream of tokens.
type EventKind uint8

const (
	MessageStart EventKind = iota
	TextDelta              // Text was added to the message
	MessageEnd
)

// An Event is a step of a message. All its fields except Kind, Text and Terminator
// are the same in every event of a message.
type Event struct {
	Kind    EventKind
	Message int // number of the message in the stream, from 0
	Text    string

	Role        string
	Name        string // of a tool, or what followed a colon after the role
	Channel     string
	Recipient   string
	ContentType string
	Terminator  string // of a MessageEnd: <|end|>, <|return|>, <|call|>; "" if none was read
}

// ParserOptions say how a stream begins and which functions it may call.
type ParserOptions struct {
	Prefill Prefill
	Tools   []string // names of the declared functions
}

// A Parser reads the tokens of a model.
type Parser struct{ enc *Encoding }

// NewParser returns a parser at the start of a stream.
func (e *Encoding) NewParser(o ParserOptions) *Parser { return &Parser{enc: e} }

// Push reads one token.
func (p *Parser) Push(id int32, emit func(Event)) {}

// Finish ends the stream.
func (p *Parser) Finish(emit func(Event)) {}

// Counts returns the number of tokens of reasoning, and of all tokens.
func (p *Parser) Counts() (reasoning, total int) { return 0, 0 }

// Channel is the channel of the open message, "" in a header.
func (p *Parser) Channel() string { return "" }
