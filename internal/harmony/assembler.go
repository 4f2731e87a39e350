package harmony

import (
	"encoding/json"
	"strings"
)

// A ChatDelta is what a token added to a chat answer; exactly one field is set.
type ChatDelta struct {
	Reasoning, Content string
	Call               *CallDelta
}

// A CallDelta is a piece of a tool call.
type CallDelta struct {
	Index     int    // of the call in the answer, from 0
	Start     bool   // the call begins: Name is set, this once
	Name      string // as it was declared; of an undeclared call, without the first "functions."
	Arguments string // a fragment; usually, not always, of JSON
}

// A Call is a tool call.
type Call struct{ Name, Arguments string }

// A ChatAnswer is a whole answer.
type ChatAnswer struct {
	Content   *string // nil if there are calls
	Reasoning string
	Calls     []Call
}

// Reasons why an answer ended.
const (
	FinishStop      = "stop"
	FinishLength    = "length"
	FinishToolCalls = "tool_calls"
)

// destination is the part of an answer that a message belongs to.
type destination uint8

const (
	toReasoning destination = iota
	toContent
	toCall
)

// A ChatAssembler makes a chat answer of the tokens of a model, for a stream and
// for a whole answer alike: the deltas, joined, are the answer.
//
//   - Messages on final are content; several are joined with a line break. So is
//     reasoning, which is what is on analysis and everything that is not written as
//     the assistant.
//   - A message on commentary without a recipient, a remark before a tool call, is
//     reasoning if tools are declared: clients ignore the calls of an answer that
//     has content, and what was streamed cannot be taken back. Should such remarks
//     be all there is, they are repeated as content at the end. Without declared
//     tools they are content.
//   - A message with a recipient is a call, on whatever channel. Its arguments are
//     not touched, except that none become {}.
//   - In an answer with calls content is nil. If there was some, it has been
//     streamed as content and is at the end of Reasoning.
type ChatAssembler struct {
	parser *Parser
	tools  bool
	emit   func(Event)
	deltas []ChatDelta

	to       destination // of the open message
	fresh    bool        // the open message has no text yet
	finish   bool        // in Finish
	length   bool        // sampling ended for want of room
	cut      bool        // the last call is incomplete
	reasoned strings.Builder
	content  strings.Builder
	remarks  strings.Builder // what is reasoning only because tools are declared
	remark   bool            // the open message is a remark
	calls    []Call
	args     strings.Builder // of the open call
	space    string          // white space at the beginning of the arguments, held back
}

// NewChatAssembler returns an assembler at the start of an answer.
func NewChatAssembler(e *Encoding, o ParserOptions) *ChatAssembler {
	a := &ChatAssembler{parser: e.NewParser(o), tools: len(o.Tools) > 0}
	a.emit = a.event
	return a
}

// Push reads one token. The result is valid until the next call.
func (a *ChatAssembler) Push(id int32) []ChatDelta {
	a.deltas = a.deltas[:0]
	a.parser.Push(id, a.emit)
	return a.deltas
}

// Finish ends the answer. lengthStopped says that sampling ended for want of room
// and not at a stop token, which need not have been pushed. The result is valid
// until the next call.
func (a *ChatAssembler) Finish(lengthStopped bool) []ChatDelta {
	a.deltas = a.deltas[:0]
	a.finish, a.length = true, lengthStopped
	a.parser.Finish(a.emit)
	if a.remarks.Len() > 0 && a.content.Len() == 0 && len(a.calls) == 0 {
		a.add(toContent, a.remarks.String())
	}
	return a.deltas
}

// Message is the answer so far.
func (a *ChatAssembler) Message() ChatAnswer {
	answer := ChatAnswer{Reasoning: a.reasoned.String()}
	content := a.content.String()
	if len(a.calls) == 0 {
		answer.Content = &content
		return answer
	}
	if content != "" && answer.Reasoning != "" {
		answer.Reasoning += "\n"
	}
	answer.Reasoning += content
	answer.Calls = append([]Call(nil), a.calls...)
	if a.to == toCall {
		answer.Calls[len(a.calls)-1].Arguments = a.args.String()
	}
	return answer
}

// FinishReason is FinishToolCalls, FinishLength or FinishStop. A call that was cut
// off counts as FinishLength. It is known after Finish.
func (a *ChatAssembler) FinishReason() string {
	switch {
	case a.cut:
		return FinishLength
	case len(a.calls) > 0 && (!a.length || a.to == toCall):
		return FinishToolCalls
	case a.length:
		return FinishLength
	}
	return FinishStop
}

// Channel says where the text of the last pushed token went: final if to the
// content, analysis if to the reasoning, commentary if to the arguments of a call,
// and "" if the token was a marker or part of a header. Text of a header that turned
// out to be content was not known to be when its tokens were pushed.
func (a *ChatAssembler) Channel() string {
	switch {
	case !a.parser.inText:
		return ""
	case a.to == toContent:
		return ChannelFinal
	case a.to == toCall:
		return ChannelCommentary
	}
	return ChannelAnalysis
}

// Counts returns the number of tokens of reasoning and of all tokens; see
// Parser.Counts.
func (a *ChatAssembler) Counts() (reasoning, total int) { return a.parser.Counts() }

func (a *ChatAssembler) event(e Event) {
	switch e.Kind {
	case MessageStart:
		a.start(e)
	case Text:
		if a.to == toCall {
			a.argument(e.Text)
			return
		}
		if a.remark {
			if a.fresh && a.remarks.Len() > 0 {
				a.remarks.WriteByte('\n')
			}
			a.remarks.WriteString(e.Text)
		}
		a.add(a.to, e.Text)
	case MessageEnd:
		if a.to == toCall {
			a.endCall(e)
		}
	}
}

func (a *ChatAssembler) start(e Event) {
	a.fresh, a.remark = true, false
	switch {
	case e.Role != RoleAssistant:
		a.to = toReasoning
	case e.Recipient != "" && a.finish && a.length:
		a.to = toReasoning // the header was cut, perhaps within the name
	case e.Recipient != "":
		a.startCall(e)
	case e.Channel == ChannelAnalysis:
		a.to = toReasoning
	case e.Channel == ChannelCommentary && a.tools:
		a.to, a.remark = toReasoning, true
	default:
		a.to = toContent
	}
}

// add delivers text of the open message. The first after another message in the
// same place begins a new line.
func (a *ChatAssembler) add(to destination, text string) {
	all := &a.reasoned
	if to == toContent {
		all = &a.content
	}
	if a.fresh && all.Len() > 0 {
		a.deliver(to, "\n")
		all.WriteByte('\n')
	}
	a.fresh = false
	a.deliver(to, text)
	all.WriteString(text)
}

func (a *ChatAssembler) deliver(to destination, text string) {
	d := ChatDelta{Reasoning: text}
	if to == toContent {
		d = ChatDelta{Content: text}
	}
	a.deltas = append(a.deltas, d)
}

func (a *ChatAssembler) startCall(e Event) {
	a.to, a.space, a.cut = toCall, "", false
	a.args.Reset()
	name := callName(e.Recipient)
	a.calls = append(a.calls, Call{Name: name})
	a.deltas = append(a.deltas, ChatDelta{Call: &CallDelta{Index: len(a.calls) - 1, Start: true, Name: name}})
}

// argument delivers text of the open call. White space is held back until something
// follows it: arguments of nothing else become {}.
func (a *ChatAssembler) argument(text string) {
	if a.args.Len() == 0 {
		text = a.space + text
		if strings.TrimSpace(text) == "" {
			a.space = text
			return
		}
	}
	a.args.WriteString(text)
	a.deltas = append(a.deltas, ChatDelta{Call: &CallDelta{Index: len(a.calls) - 1, Arguments: text}})
}

// pythonTool is the built-in tool that takes code; all others take JSON.
const pythonTool = "python"

// endCall closes the open call. One that neither <|call|> nor another stop token at
// the end of the answer ended is complete if its arguments are JSON.
func (a *ChatAssembler) endCall(e Event) {
	stopped := e.Terminator == markerCall || a.finish && !a.length
	if a.args.Len() == 0 && (stopped || !a.finish) {
		a.space = ""
		a.argument("{}")
	}
	args := a.args.String()
	a.calls[len(a.calls)-1].Arguments = args
	code := e.Recipient == pythonTool && !a.finish
	a.cut = !stopped && !code && !json.Valid([]byte(args))
}
