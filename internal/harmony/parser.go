package harmony

// Prefill says what stands between the last <|start|> of a prompt and the first
// token of the model.
type Prefill uint8

const (
	PrefillNone     Prefill = iota // assistant
	PrefillFinal                   // assistant<|channel|>final<|message|> and perhaps text
	PrefillAnalysis                // assistant<|channel|>analysis<|message|> and perhaps text
	PrefillNothing                 // the prompt ends before <|start|>, or the ids are a transcript
)

// EventKind is what happened in a stream of tokens.
type EventKind uint8

const (
	MessageStart EventKind = iota
	Text                   // Event.Text was added to the content
	MessageEnd
)

// An Event is a step of a message. Its fields from Role to ContentType are the same
// in all events of a message.
type Event struct {
	Kind    EventKind
	Message int // number of the message in the stream, from 0
	Text    string

	Role        string
	Name        string // of a tool, or what followed the role and a colon
	Channel     string // of an assistant: analysis, commentary or final
	Recipient   string // of a tool call: functions.NAME, or as the model wrote it
	ContentType string // as it was written: json, <|constrain|>json
	Terminator  string // of a MessageEnd: <|end|>, <|return|>, <|call|>, or "" if none was read
}

// ParserOptions say how a stream begins and which functions it may call.
type ParserOptions struct {
	Prefill Prefill
	Tools   []string // names of the declared functions
}

type parserState uint8

const (
	between   parserState = iota // messages
	prefilled                    // the message that the prompt began is not announced yet
	inHeader
	inContent
)

// A Parser reads the messages that a model writes, token by token. It never fails:
// whatever the tokens are, it makes messages of them by these rules, and no text is
// lost except white space around headers.
//
//   - Stop tokens between messages are ignored.
//   - A message needs no <|start|>assistant: text, <|channel|> or <|message|> between
//     messages begins one of the assistant.
//   - In content <|start|> and <|channel|> begin the next message; other special
//     tokens are dropped. An id without text is U+FFFD.
//   - In a header the recipient may stand before or behind the channel, junk around
//     the name of the channel is ignored, and of doubled channels the last one wins.
//     Text that cannot belong to a header, or a header that does not end, is content:
//     of the header's channel, of analysis if that is unknown, of final if there was
//     no markup at all.
//   - An assistant's message on no known channel is a tool call on commentary if it
//     has a recipient, else it is final. Recipients assistant, user and all are
//     ignored. A recipient that means a declared function is written functions.NAME.
//
// A Parser is not safe for concurrent use.
type Parser struct {
	enc    *Encoding
	tools  map[string]bool
	state  parserState
	header header
	open   Event // the message that is being read
	next   int   // number of the next message
	buffer textBuffer

	inText           bool // the last token was content
	reasoning, total int
}

// NewParser returns a parser at the start of a stream.
func (e *Encoding) NewParser(o ParserOptions) *Parser {
	p := &Parser{enc: e, tools: make(map[string]bool, len(o.Tools))}
	for _, name := range o.Tools {
		p.tools[name] = true
	}
	switch o.Prefill {
	case PrefillNone:
		p.state = inHeader
	case PrefillFinal:
		p.state, p.open = prefilled, Event{Role: RoleAssistant, Channel: ChannelFinal}
	case PrefillAnalysis:
		p.state, p.open = prefilled, Event{Role: RoleAssistant, Channel: ChannelAnalysis}
	}
	return p
}

// Push reads one token, which may be any number, and emits what it completed.
func (p *Parser) Push(id int32, emit func(Event)) {
	p.total++
	p.inText = false
	if p.state == prefilled {
		p.begin(p.open, emit)
	}
	if p.state == inContent && p.buffer.n == 0 && uint(id) < uint(len(p.enc.text)) && p.enc.text[id] != "" {
		p.countText(1)
		p.emitText(p.enc.text[id], emit)
		return
	}
	switch id {
	case p.enc.start:
		p.leave("", emit)
		p.enterHeader(true)
	case p.enc.channel:
		if p.state == inContent {
			p.leave("", emit)
		}
		p.enterHeader(false)
		p.header.mark(false)
	case p.enc.constrain:
		if p.state == inContent {
			p.flush(emit)
			return
		}
		p.enterHeader(false)
		p.header.mark(true)
	case p.enc.message:
		if p.state == inContent {
			p.flush(emit)
			return
		}
		p.enterHeader(false)
		p.resolve(true, emit)
	case p.enc.end:
		p.leave(markerEnd, emit)
	case p.enc.ret:
		p.leave(markerReturn, emit)
	case p.enc.call:
		p.leave(markerCall, emit)
	default:
		p.pushText(id, emit)
	}
}

// pushText reads a token that is no marker.
func (p *Parser) pushText(id int32, emit func(Event)) {
	b, special, ok := p.enc.tok.Token(id)
	switch {
	case !ok:
		b = []byte(replacement)
	case special:
		p.flush(emit)
		return
	}
	if p.state == inContent {
		p.countText(1)
		p.emitText(p.buffer.push(b), emit)
		return
	}
	p.enterHeader(false)
	p.header.add(b)
	if p.header.tooLong() && !p.resolve(false, emit) {
		p.header.reset(p.header.explicit)
	}
}

// Finish ends the stream: it emits held bytes as U+FFFD and closes the message.
func (p *Parser) Finish(emit func(Event)) {
	p.inText = false
	if p.state == prefilled {
		p.begin(p.open, emit)
	}
	p.leave("", emit)
}

// Counts returns the number of tokens that are content of analysis messages, calls
// on that channel excepted, and the number of all tokens. Headers and terminators
// are not reasoning.
func (p *Parser) Counts() (reasoning, total int) { return p.reasoning, p.total }

// Channel is the channel of the open message, "" in a header and between messages.
func (p *Parser) Channel() string {
	if p.state == inContent {
		return p.open.Channel
	}
	return ""
}

// enterHeader begins a header, if none is being read: explicit after <|start|>,
// else as if <|start|>assistant had been read.
func (p *Parser) enterHeader(explicit bool) {
	if p.state != inHeader {
		p.header.reset(explicit)
		p.state = inHeader
	}
}

// leave ends what is being read, a message or a header that has no <|message|>.
func (p *Parser) leave(terminator string, emit func(Event)) {
	if p.state == inHeader {
		p.resolve(false, emit)
	}
	if p.state == inContent {
		p.flush(emit)
		end := p.open
		end.Kind, end.Text, end.Terminator = MessageEnd, "", terminator
		emit(end)
	}
	p.state, p.inText = between, false
}

// resolve turns the header into a message, whose content begins with the text that
// was no header. Without <|message|> it reports false if the header says nothing.
func (p *Parser) resolve(message bool, emit func(Event)) bool {
	m := p.header.read(message)
	if !message && !m.found {
		return false
	}
	m.event.Recipient = declaredRecipient(m.event.Recipient, p.tools)
	p.begin(m.event, emit)
	if len(m.rest) > 0 {
		p.countText(m.tokens)
		p.emitText(p.buffer.push(m.rest), emit)
	}
	if message {
		p.flush(emit)
		p.inText = false
	}
	return true
}

// begin announces a message.
func (p *Parser) begin(m Event, emit func(Event)) {
	m.Kind, m.Message = MessageStart, p.next
	p.next++
	p.open, p.state = m, inContent
	emit(m)
}

// countText counts tokens of content.
func (p *Parser) countText(tokens int) {
	p.inText = true
	if p.open.Channel == ChannelAnalysis && p.open.Role == RoleAssistant && p.open.Recipient == "" {
		p.reasoning += tokens
	}
}

func (p *Parser) emitText(s string, emit func(Event)) {
	if s != "" {
		p.open.Kind, p.open.Text = Text, s
		emit(p.open)
	}
}

// flush ends an incomplete character.
func (p *Parser) flush(emit func(Event)) { p.emitText(p.buffer.flush(), emit) }
