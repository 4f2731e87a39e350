package tui

import "strings"

// block is a piece of Markdown that later text cannot change, so that it can be rendered and
// printed while the answer still grows.
type block struct {
	kind   blockKind
	text   string // source without the last newline; of a fence or code line see blockKind
	number int    // place of an ordered item in its list; -1 for everything else
	gap    bool   // the source has a blank line before it
}

type blockKind int

const (
	proseBlock blockKind = iota // paragraphs, headings, tables, quotes: work for the parser
	itemBlock                   // one list item with all that is nested in it
	fenceOpen                   // beginning of a fenced code block; text is the info string
	codeLine                    // one line of it
	fenceClose                  // its end
	mathLine                    // one line of display mathematics, to be shown as written
)

// splitter cuts growing Markdown into blocks, line by line. It knows just enough of the grammar
// to find the places after which nothing before them can change: blank lines, headings, fences,
// list items at the margin. Finer structure is left to the parser, one block at a time. The
// blocks depend on the text alone and not on how it was divided into pushes.
//
// The zero value is ready to use. A copy is independent of its origin.
type splitter struct {
	partial string // text after the last newline
	cur     string // lines of the open block
	kind    blockKind
	open    bool // cur is an open prose or item block
	gap     bool // a blank line came before it
	blank   bool // a blank line came after it
	inner   int  // blank lines inside an open item that wait for its next line
	started bool // a block has begun; blank lines before the first are dropped

	fence fence  // char is 0 outside of a fence
	math  string // closing mark of open display mathematics, or ""

	inList bool   // the last block is a list item
	marker marker // of the open or last item
	number int    // of that item
}

// push adds text and returns the blocks that it finishes.
func (s *splitter) push(text string) []block {
	var out []block
	for {
		i := strings.IndexByte(text, '\n')
		if i < 0 {
			s.partial += text
			return out
		}
		line := s.partial + text[:i]
		s.partial, text = "", text[i+1:]
		out = s.line(out, strings.TrimSuffix(line, "\r"))
	}
}

// finish ends the text and returns the blocks that were open.
func (s *splitter) finish() []block {
	var out []block
	if line := strings.TrimSuffix(s.partial, "\r"); line != "" {
		out = s.line(out, line)
	}
	out = s.flush(out)
	if s.fence.char != 0 {
		out = append(out, block{kind: fenceClose, number: -1})
	}
	*s = splitter{}
	return out
}

// rest returns what finish would return now, and leaves s as it is.
func (s splitter) rest() []block { return s.finish() }

func (s *splitter) line(out []block, line string) []block {
	blank := strings.TrimSpace(line) == ""
	switch {
	case s.fence.char != 0:
		if s.fence.closes(line) {
			s.fence = fence{}
			return append(out, block{kind: fenceClose, number: -1})
		}
		return append(out, block{kind: codeLine, text: trimIndent(line, s.fence.indent), number: -1})
	case s.math != "" && !blank:
		if strings.Contains(line, s.math) {
			s.math = ""
		}
		return append(out, block{kind: mathLine, text: line, number: -1})
	case blank:
		s.math = "" // TeX allows no blank line in display mathematics
		if s.open && s.kind == itemBlock {
			s.inner++
		} else {
			out = s.flush(out)
		}
		s.blank = s.started
		return out
	}
	if s.open && s.kind == itemBlock {
		if s.continues(line) {
			s.extend(line)
			return out
		}
		out = s.flush(out)
	}
	return s.start(out, line)
}

// continues reports whether a line that is not blank belongs to the open list item.
func (s *splitter) continues(line string) bool {
	if indentOf(line) >= s.marker.width {
		return true
	}
	if _, ok := parseMarker(line); ok || s.blank {
		return false
	}
	return !startsBlock(line) // else it goes on with the item's paragraph
}

// start handles a line that is not part of a list item.
func (s *splitter) start(out []block, line string) []block {
	if f, info, ok := parseFence(line); ok {
		out = s.flush(out)
		s.fence = f
		return s.emit(out, block{kind: fenceOpen, text: info, gap: s.begin()})
	}
	if end := mathEnd(line); end != "" {
		out = s.flush(out)
		if !strings.Contains(strings.TrimSpace(line)[2:], end) {
			s.math = end
		}
		return s.emit(out, block{kind: mathLine, text: line, gap: s.begin()})
	}
	if isHeading(line) {
		out = s.flush(out)
		s.blank = s.started // a heading always stands apart
		return s.emit(out, block{kind: proseBlock, text: line, gap: s.begin()})
	}
	if m, ok := parseMarker(line); ok && (!s.open || m.interrupts()) {
		out = s.flush(out)
		if s.inList && m.delim == s.marker.delim && m.indent == s.marker.indent {
			s.number++
		} else {
			s.number = m.number
		}
		s.marker, s.kind = m, itemBlock
	} else if !s.open {
		s.kind = proseBlock
	}
	s.extend(line)
	return out
}

// extend adds a line to the open block, or opens one.
func (s *splitter) extend(line string) {
	if s.open {
		s.cur += strings.Repeat("\n", s.inner+1)
		s.blank, s.inner = false, 0
	} else {
		s.open, s.gap = true, s.begin()
	}
	s.cur += line
}

// begin starts a block and reports whether there is a blank line before it.
func (s *splitter) begin() bool {
	gap := s.blank
	s.blank, s.started = false, true
	return gap
}

// flush emits the open block, if any.
func (s *splitter) flush(out []block) []block {
	if !s.open {
		return out
	}
	b := block{kind: s.kind, text: s.cur, gap: s.gap}
	s.cur, s.open, s.inner = "", false, 0
	return s.emit(out, b)
}

func (s *splitter) emit(out []block, b block) []block {
	s.inList = b.kind == itemBlock
	b.number = -1
	if s.inList && s.marker.ordered() {
		b.number = s.number
	}
	return append(out, b)
}

// fence is the opening of a fenced code block.
type fence struct {
	char   byte // '`' or '~'
	length int
	indent int
}

// parseFence reads an opening fence and its info string.
func parseFence(line string) (f fence, info string, ok bool) {
	f.indent = indentOf(line)
	t := strings.TrimLeft(line, " \t")
	if f.indent > 3 || t == "" || (t[0] != '`' && t[0] != '~') {
		return fence{}, "", false
	}
	f.char = t[0]
	info = strings.TrimLeft(t, string(f.char))
	f.length = len(t) - len(info)
	if f.length < 3 || (f.char == '`' && strings.Contains(info, "`")) {
		return fence{}, "", false
	}
	return f, strings.TrimSpace(info), true
}

func (f fence) closes(line string) bool {
	t := strings.TrimSpace(line)
	return indentOf(line) <= 3 && len(t) >= f.length && strings.Trim(t, string(f.char)) == ""
}

// marker is the beginning of a list item.
type marker struct {
	delim  byte // '-', '+' or '*' of a bullet, '.' or ')' of a number
	number int
	indent int  // columns before the marker
	width  int  // columns before the content
	empty  bool // nothing follows on the line
}

func (m marker) ordered() bool { return m.delim == '.' || m.delim == ')' }

// interrupts reports whether an item may follow a paragraph without a blank line.
func (m marker) interrupts() bool { return !m.empty && (!m.ordered() || m.number == 1) }

func parseMarker(line string) (m marker, ok bool) {
	m.indent = indentOf(line)
	t := strings.TrimLeft(line, " \t")
	if m.indent > 3 || t == "" || isBreak(t) {
		return marker{}, false
	}
	digits := 0
	for digits < len(t) && digits < 10 && '0' <= t[digits] && t[digits] <= '9' {
		m.number = m.number*10 + int(t[digits]-'0')
		digits++
	}
	if digits == len(t) || digits > 9 {
		return marker{}, false
	}
	m.delim = t[digits]
	if m.ordered() != (digits > 0) || !strings.ContainsRune("-+*.)", rune(m.delim)) {
		return marker{}, false
	}
	rest := t[digits+1:]
	m.empty = strings.TrimSpace(rest) == ""
	space := indentOf(rest)
	if space == 0 && rest != "" {
		return marker{}, false
	}
	if m.empty || space > 4 {
		space = 1 // what follows is indented code
	}
	m.width = m.indent + digits + 1 + space
	return m, true
}

// startsBlock reports whether a line ends a paragraph that it follows.
func startsBlock(line string) bool {
	if indentOf(line) > 3 {
		return false
	}
	t := strings.TrimLeft(line, " \t")
	_, _, isFence := parseFence(line)
	return isFence || isHeading(line) || isBreak(t) || mathEnd(line) != "" || strings.HasPrefix(t, ">")
}

// isHeading reports whether the line is an ATX heading.
func isHeading(line string) bool {
	t := strings.TrimLeft(line, " ")
	rest := strings.TrimLeft(t, "#")
	level := len(t) - len(rest)
	return len(line)-len(t) <= 3 && level >= 1 && level <= 6 && (rest == "" || rest[0] == ' ' || rest[0] == '\t')
}

// isBreak reports whether the text, without its indent, is a thematic break.
func isBreak(t string) bool {
	if t == "" || !strings.ContainsRune("-_*", rune(t[0])) {
		return false
	}
	return strings.Count(t, t[:1]) >= 3 && strings.Trim(t, t[:1]+" \t") == ""
}

// mathEnd returns the closing mark of display mathematics that begins on the line, or "".
func mathEnd(line string) string {
	t := strings.TrimSpace(line)
	switch {
	case indentOf(line) > 3:
	case strings.HasPrefix(t, `\[`):
		return `\]`
	case strings.HasPrefix(t, "$$"):
		return "$$"
	}
	return ""
}

// indentOf counts the columns of white space at the beginning; tab stops are 4 apart.
func indentOf(line string) int {
	n := 0
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case ' ':
			n++
		case '\t':
			n += 4 - n%4
		default:
			return n
		}
	}
	return n
}

// trimIndent removes up to n spaces at the beginning.
func trimIndent(line string, n int) string {
	for n > 0 && strings.HasPrefix(line, " ") {
		line, n = line[1:], n-1
	}
	return line
}
