package harmony

import (
	"fmt"
	"strings"
)

// RenderMode says how a rendered conversation ends.
type RenderMode uint8

const (
	ForCompletion RenderMode = iota // <|start|>assistant: the model goes on
	AsHistory                       // the end of the last message
	ForTraining                     // AsHistory, but a final answer at the end has <|return|>
)

// RenderOptions choose how a conversation is rendered.
type RenderOptions struct {
	Mode RenderMode
	// KeepAnalysis keeps all messages. Else those on the analysis channel that
	// stand before the last assistant message on the final channel are dropped: the
	// model was trained not to see the thoughts behind a finished answer, but to
	// see those of the turn it is in.
	KeepAnalysis bool
}

// Render returns the tokens of a conversation. All text, names and headers
// included, is encoded as ordinary text. It is an error if a tool message has no
// name, or if the schema of a tool is not JSON, too deep or too large.
func (e *Encoding) Render(messages []Message, o RenderOptions) ([]int32, error) {
	r := renderer{enc: e, functions: declaresFunctions(messages)}
	keepFrom := 0
	for i, m := range messages {
		if m.Role == RoleAssistant && m.Channel == ChannelFinal {
			keepFrom = i
		}
	}
	for i := range messages {
		if i < keepFrom && !o.KeepAnalysis && messages[i].Channel == ChannelAnalysis {
			continue
		}
		if err := r.render(&messages[i]); err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
	}
	switch {
	case o.Mode == ForCompletion:
		r.mark(e.start)
		r.text(RoleAssistant)
	case o.Mode == ForTraining && len(messages) > 0 && messages[len(messages)-1].returns():
		r.ids[len(r.ids)-1] = e.ret
	}
	return r.ids, nil
}

// returns reports whether sampling would have ended m with <|return|>.
func (m *Message) returns() bool {
	return m.Role == RoleAssistant && m.Channel == ChannelFinal && m.Recipient == ""
}

// A renderer collects the tokens of a conversation.
type renderer struct {
	enc       *Encoding
	functions bool // the conversation declares functions
	ids       []int32
	marks     int // markers in ids: every special token there must be one
}

// mark appends a marker.
func (r *renderer) mark(id int32) {
	r.ids = append(r.ids, id)
	r.marks++
}

// text appends ordinary text.
func (r *renderer) text(s string) { r.ids = r.enc.tok.Encode(r.ids, s) }

// render appends one message. Each piece of the header is encoded by itself, as in
// the training data.
func (r *renderer) render(m *Message) error {
	r.mark(r.enc.start)
	switch {
	case m.Role == RoleTool && m.Name == "":
		return fmt.Errorf("a tool message needs the name of the tool")
	case m.Role == RoleTool:
		r.text(m.Name)
	default:
		r.text(m.Role)
		if m.Name != "" {
			r.text(":" + m.Name)
		}
	}
	if m.Recipient != "" && m.Recipient != "all" {
		r.text(" to=" + m.Recipient)
	}
	if m.Channel != "" {
		r.mark(r.enc.channel)
		r.text(m.Channel)
	}
	if m.ContentType != nil {
		if rest, ok := strings.CutPrefix(*m.ContentType, markerConstrain); ok {
			r.text(" ")
			r.mark(r.enc.constrain)
			r.text(rest)
		} else {
			r.text(" " + *m.ContentType)
		}
	}
	r.mark(r.enc.message)
	for _, c := range m.Content {
		text, err := c.text(r.functions)
		if err != nil {
			return err
		}
		r.text(text)
	}
	if m.Role == RoleAssistant && m.Recipient != "" {
		r.mark(r.enc.call)
	} else {
		r.mark(r.enc.end)
	}
	return nil
}
