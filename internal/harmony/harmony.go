// Package harmony turns conversations into token ids and token ids into
// conversations, in OpenAI's Harmony format. Text of a user never becomes a
// special token, and no sequence of ids makes the parser fail: what the model
// writes is always delivered, however broken its markup.
//
// One direction: a chat request (request.go, object.go) is mapped to Harmony
// messages (chat.go), which are rendered (render.go, content.go); tool schemas
// become TypeScript on the way (json.go, schema.go, typescript.go, tools.go). The
// other: the Parser reads tokens one at a time (parser.go, header.go, utf8.go) and the
// ChatAssembler makes chat deltas of its events (assembler.go, recipient.go).
package harmony

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"hearth/internal/tokenizer"
)

// Names of the special tokens that Harmony is written with.
const (
	markerStart     = "<|start|>"
	markerEnd       = "<|end|>"
	markerMessage   = "<|message|>"
	markerChannel   = "<|channel|>"
	markerConstrain = "<|constrain|>"
	markerReturn    = "<|return|>"
	markerCall      = "<|call|>"
	markerEndOfText = "<|endoftext|>"
)

// Roles of a message.
const (
	RoleSystem    = "system"
	RoleDeveloper = "developer"
	RoleUser      = "user"
	RoleAssistant = "assistant"
	RoleTool      = "tool"
)

// Channels of an assistant message.
const (
	ChannelAnalysis   = "analysis"   // the chain of thought
	ChannelCommentary = "commentary" // tool calls, and remarks before them
	ChannelFinal      = "final"      // the answer
)

// An Encoding is a tokenizer and the ids that Harmony's markers have in it. It
// does not change, so any number of goroutines may share it.
type Encoding struct {
	tok *tokenizer.Tokenizer

	start, end, message, channel, constrain, ret, call, endOfText int32

	// text holds, by id, the tokens that are ordinary text and valid UTF-8 by
	// themselves, which is nearly all: the parser delivers them without a copy.
	text []string
}

// New finds the markers in t by name. The error names each one that is missing.
func New(t *tokenizer.Tokenizer) (*Encoding, error) {
	if t == nil {
		return nil, errors.New("harmony: no tokenizer")
	}
	e := &Encoding{tok: t}
	var missing error
	for _, m := range []struct {
		name string
		id   *int32
	}{
		{markerStart, &e.start},
		{markerEnd, &e.end},
		{markerMessage, &e.message},
		{markerChannel, &e.channel},
		{markerConstrain, &e.constrain},
		{markerReturn, &e.ret},
		{markerCall, &e.call},
		{markerEndOfText, &e.endOfText},
	} {
		id, ok := t.Special(m.name)
		if !ok {
			missing = errors.Join(missing, fmt.Errorf("harmony: the vocabulary (%s) has no special token %s", t.Name(), m.name))
		}
		*m.id = id
	}
	if missing != nil {
		return nil, missing
	}
	e.text = plainTexts(t)
	return e, nil
}

// plainTexts cuts the texts of all tokens that are valid UTF-8 out of one string.
func plainTexts(t *tokenizer.Tokenizer) []string {
	ends := make([]int, t.Size())
	var all []byte
	for id := range ends {
		if b, special, ok := t.Token(int32(id)); ok && !special && utf8.Valid(b) {
			all = append(all, b...)
		}
		ends[id] = len(all)
	}
	joined, from := string(all), 0
	texts := make([]string, len(ends))
	for id, to := range ends {
		texts[id] = joined[from:to]
		from = to
	}
	return texts
}

// Tokenizer is the tokenizer that e was made of.
func (e *Encoding) Tokenizer() *tokenizer.Tokenizer { return e.tok }

// StopTokens are the ids that end sampling: <|return|>, <|call|> and, as a safety,
// <|endoftext|>. Not <|end|>, which ends the analysis before an answer.
func (e *Encoding) StopTokens() []int32 { return []int32{e.ret, e.call, e.endOfText} }
