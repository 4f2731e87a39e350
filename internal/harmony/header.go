package harmony

import (
	"bytes"
	"slices"
	"strings"
)

const (
	// A header without a marker for this many tokens is free text.
	maxHeaderRun = 24
	// A recipient or the name of a tool may have more tokens.
	maxNameRun = 256
	// No header has more tokens than this, markers included.
	maxHeaderTokens = 512
)

// A header is what stands before the content of a message, as it was read:
//
//	ROLE [:NAME] [to=RECIPIENT] [<|channel|> CHANNEL] [to=RECIPIENT] [[<|constrain|>] TYPE]
//
// The model also writes headers with words left out, doubled or made up.
type header struct {
	explicit bool // <|start|> was read, so the role is in the text; else it is assistant
	text     []byte
	tokens   []int // where in text each token begins
	marks    []headerMark
	run      int // tokens since the last marker
}

// A headerMark is a <|channel|> or <|constrain|>.
type headerMark struct {
	at        int // in header.text
	constrain bool
}

func (h *header) reset(explicit bool) {
	*h = header{explicit: explicit, text: h.text[:0], tokens: h.tokens[:0], marks: h.marks[:0]}
}

func (h *header) mark(constrain bool) {
	h.marks = append(h.marks, headerMark{len(h.text), constrain})
	h.run = 0
}

func (h *header) add(b []byte) {
	h.tokens = append(h.tokens, len(h.text))
	h.text = append(h.text, b...)
	h.run++
}

// tooLong reports whether h can be no header any more.
func (h *header) tooLong() bool {
	switch {
	case h.run >= maxNameRun || len(h.tokens)+len(h.marks) >= maxHeaderTokens:
		return true
	case h.run < maxHeaderRun:
		return false
	}
	words := strings.Fields(string(h.text))
	if len(words) == 0 {
		return true
	}
	last := words[len(words)-1]
	recipient := strings.HasPrefix(last, "to=") || strings.HasPrefix("to=", last)
	role := h.explicit && len(h.marks) == 0 && len(words) == 1
	return !recipient && !role
}

// A headerMessage is the message that a header begins.
type headerMessage struct {
	event  Event
	rest   []byte // text that is no header: the beginning of the content
	tokens int    // how many tokens rest is
	found  bool   // the header says anything at all
}

// read interprets h, which <|message|> ended, or anything else.
func (h *header) read(message bool) headerMessage {
	r := headerReader{header: h, message: message, event: Event{Role: RoleAssistant}}
	end := len(h.text)
	if len(h.marks) > 0 {
		end = h.marks[0].at
	}
	r.readRole(h.split(0, end))
	for i, m := range h.marks {
		end := len(h.text)
		if i+1 < len(h.marks) {
			end = h.marks[i+1].at
		}
		if words := h.split(m.at, end); m.constrain {
			r.readType(words)
		} else {
			r.readChannel(words)
		}
	}
	return r.finish()
}

// A word is a part of a header without white space.
type word struct {
	text     string
	from, to int // in header.text, with the white space behind it
}

// split cuts text[from:to] into words. A recipient that is glued to the name of a
// channel is a word of its own.
func (h *header) split(from, to int) []word {
	var words []word
	for at := from; at < to; {
		n := bytes.IndexAny(h.text[at:to], " \t\r\n\f\v")
		switch n {
		case 0:
			at++
			if len(words) > 0 {
				words[len(words)-1].to = at
			}
			continue
		case -1:
			n = to - at
		}
		text := strings.ToValidUTF8(string(h.text[at:at+n]), replacement)
		if i := strings.Index(text, "to="); i > 0 && knownChannel(text[:i]) != "" {
			words = append(words, word{text[:i], at, at + i})
			text, at, n = text[i:], at+i, n-i
		}
		words = append(words, word{text, at, at + n})
		at += n
	}
	return words
}

// A headerReader collects what the parts of a header say.
type headerReader struct {
	header  *header
	message bool // <|message|> ended the header
	event   Event
	unknown *word  // what stands in place of a channel and is none
	rest    []word // what has no place in a header
	inRole  bool   // rest begins before the first marker
}

// readRole reads what stands before the first marker.
func (r *headerReader) readRole(words []word) {
	marked := r.message || len(r.header.marks) > 0
	bare := !r.header.explicit && len(words) > 0
	if r.header.explicit && len(words) > 0 {
		role, name, _ := strings.Cut(words[0].text, ":")
		switch {
		case role == RoleTool && name == "":
			r.event.Role, r.event.Name, words = RoleTool, RoleTool, words[1:]
		case slices.Contains([]string{RoleSystem, RoleDeveloper, RoleUser, RoleAssistant, RoleTool}, role):
			r.event.Role, r.event.Name, words = role, name, words[1:]
		case isChannel(role):
		case marked && len(words) <= 2 || len(words) > 1 && isRecipient(words[1]):
			r.event.Role, r.event.Name, words = RoleTool, words[0].text, words[1:]
		}
	}
	for len(words) > 0 && words[0].text == r.event.Role {
		words, bare = words[1:], false
	}
	if r.event.Role == RoleAssistant && len(words) > 0 && isChannel(words[0].text) {
		r.event.Channel, words, bare = words[0].text, words[1:], false
	}
	if bare {
		words[0].from = 0 // white space at the beginning of an answer belongs to it
	}
	r.inRole = true
	r.readWords(words, marked)
	r.inRole = len(r.rest) > 0
}

// readChannel reads what stands behind a <|channel|>. Of several the last one
// wins, but a known one is not given up for an unknown one.
func (r *headerReader) readChannel(words []word) {
	if len(words) > 0 && !isRecipient(words[0]) {
		name := words[0]
		known := knownChannel(name.text)
		switch {
		case known != "":
			r.event.Channel, r.unknown, words = known, nil, words[1:]
		case r.event.Channel == "":
			r.unknown, words = &name, words[1:]
		}
	}
	r.readWords(words, true)
}

// readType reads what stands behind a <|constrain|>.
func (r *headerReader) readType(words []word) {
	kind := markerConstrain
	if len(words) > 0 && !isRecipient(words[0]) {
		kind += words[0].text
		words = words[1:]
	}
	if kind != markerConstrain || r.event.ContentType == "" {
		r.event.ContentType = kind
	}
	r.readWords(words, true)
}

// readWords takes recipients out of words; the others have no place. In bare text
// only a recipient at its beginning is one.
func (r *headerReader) readWords(words []word, marked bool) {
	for i := 0; i < len(words); i++ {
		name, ok := strings.CutPrefix(words[i].text, "to=")
		if !ok || !marked && len(r.rest) > 0 {
			r.rest = append(r.rest, words[i])
			continue
		}
		following := i+1 < len(words) && !isType(words[i+1].text) && !isRecipient(words[i+1])
		switch {
		case name == "" && following:
			i++
			name = words[i].text
		case name == functionsKey && following:
			i++
			name += "." + words[i].text
		}
		if name = cleanRecipient(name); name != "" {
			r.event.Recipient = name
		}
	}
}

// finish decides what the words without a place are.
func (r *headerReader) finish() headerMessage {
	e := &r.event
	assistant := e.Role == RoleAssistant
	if e.Recipient == "all" || assistant && (e.Recipient == RoleAssistant || e.Recipient == RoleUser) {
		e.Recipient = ""
	}
	call := assistant && e.Recipient != ""
	r.placeRest(call)
	switch {
	case !assistant:
		if r.unknown != nil {
			e.Channel = r.unknown.text
		}
	case e.Channel != "":
	case call:
		e.Channel = ChannelCommentary
	case r.unknown != nil && len(r.rest) > 0:
		r.rest = append([]word{*r.unknown}, r.rest...)
		e.Channel = ChannelAnalysis
	case len(r.rest) > 0 && !r.inRole:
		e.Channel = ChannelAnalysis
	}
	m := headerMessage{found: *e != Event{Role: RoleAssistant} || r.unknown != nil || len(r.rest) > 0}
	if assistant && e.Channel == "" {
		e.Channel = ChannelFinal
	}
	m.event = *e
	for i, w := range r.rest {
		if i == 0 {
			m.tokens = len(r.header.tokens) - sortedIndex(r.header.tokens, w.from)
		}
		m.rest = append(m.rest, r.header.text[w.from:w.to]...)
	}
	return m
}

// placeRest finds the content type among the words without a place. In the header
// of a call that <|message|> ended they are all taken for it, so that the arguments
// stay whole.
func (r *headerReader) placeRest(call bool) {
	e := &r.event
	switch {
	case len(r.rest) == 0:
	case call && r.message:
		var words []string
		for _, w := range r.rest {
			words = append(words, w.text)
		}
		if e.ContentType != "" {
			words = append(words, e.ContentType)
		}
		e.ContentType, r.rest = strings.Join(words, " "), nil
	case e.ContentType != "":
	case call && isType(r.rest[0].text),
		r.message && len(r.rest) == 1 && (!r.inRole || e.Role != RoleAssistant || isType(r.rest[0].text)):
		e.ContentType, r.rest = r.rest[0].text, r.rest[1:]
	}
}

// sortedIndex is the number of elements of sorted that are less than v.
func sortedIndex(sorted []int, v int) int {
	i, _ := slices.BinarySearch(sorted, v)
	return i
}

func isChannel(s string) bool {
	return s == ChannelAnalysis || s == ChannelCommentary || s == ChannelFinal
}

// isType reports whether s is a content type that the model uses.
func isType(s string) bool { return s == "json" || s == "code" }

func isRecipient(w word) bool { return strings.HasPrefix(w.text, "to=") }

// knownChannel finds the channel that s means: junk around the letters is ignored,
// and so is what follows a name or is missing of it.
func knownChannel(s string) string {
	letter := func(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }
	s = strings.TrimLeftFunc(s, func(r rune) bool { return !letter(r) })
	if i := strings.IndexFunc(s, func(r rune) bool { return !letter(r) }); i >= 0 {
		s = s[:i]
	}
	s = strings.ToLower(s)
	for _, name := range []string{ChannelAnalysis, ChannelCommentary, ChannelFinal} {
		if strings.HasPrefix(s, name) || len(s) >= 4 && strings.HasPrefix(name, s) {
			return name
		}
	}
	return ""
}
