package tui

import (
	"html"
	"strconv"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	east "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// maxParsed bounds the size of a block that is parsed; a larger one is no prose that somebody
// laid out, and is shown as written.
const maxParsed = 64 << 10

// maxPreview bounds the size of a block that is laid out while it grows.
const maxPreview = 8 << 10

// markdown renders an answer while it grows: each block exactly once, when it is finished.
// Blocks are CommonMark with tables, strikethrough and task lists of GitHub, except that links
// by reference are left as written (the definition may be in a block far away), as is raw HTML,
// and that a line break in a paragraph is kept, since models write verse and addresses.
//
// No line is wider than the width asked for (at least minWidth), except lines of code, which
// are never wrapped so that they can be copied.
type markdown struct {
	theme  theme
	parser parser.Parser
	split  splitter
}

func newMarkdown(t theme) *markdown {
	p := parser.NewParser(
		parser.WithBlockParsers(parser.DefaultBlockParsers()...),
		parser.WithInlineParsers(parser.DefaultInlineParsers()...),
		parser.WithInlineParsers(
			util.Prioritized(extension.NewTaskCheckBoxParser(), 0),
			util.Prioritized(mathParser{}, 50),
			util.Prioritized(extension.NewStrikethroughParser(), 500),
		),
		parser.WithParagraphTransformers(util.Prioritized(extension.NewTableParagraphTransformer(), 200)),
		parser.WithASTTransformers(util.Prioritized(extension.NewTableASTTransformer(), 0)),
	)
	return &markdown{theme: t, parser: p}
}

// push adds text and returns the lines of the blocks that it finishes.
func (m *markdown) push(s string, width int) []string {
	return m.render(m.split.push(visible(s)), width)
}

// finish ends the text and returns the lines of what was open.
func (m *markdown) finish(width int) []string { return m.render(m.split.finish(), width) }

// preview returns how the open end would look if the text ended here. Of an open end that
// would take long to lay out again and again it is the last part as written.
func (m *markdown) preview(width int) []string {
	if open := m.split.cur + m.split.partial; len(open) > maxPreview {
		return m.theme.wrapPlain(tail(open, maxPreview/2), 0, max(width, minWidth))
	}
	return m.render(m.split.rest(), width)
}

func (m *markdown) render(blocks []block, width int) []string {
	width = max(width, minWidth)
	var lines []string
	for _, b := range blocks {
		if b.gap {
			lines = append(lines, "")
		}
		lines = append(lines, m.block(b, width)...)
	}
	return lines
}

func (m *markdown) block(b block, width int) []string {
	switch b.kind {
	case fenceOpen:
		return []string{m.theme.paint("```"+expandTabs(b.text), dim)}
	case codeLine:
		return []string{m.code(b.text)}
	case fenceClose:
		return []string{m.theme.paint("```", dim)}
	case mathLine:
		return m.theme.wrapPlain(b.text, codeColor, width)
	}
	if len(b.text) > maxParsed {
		return m.theme.wrapPlain(b.text, 0, width)
	}
	src := []byte(b.text + "\n")
	doc := m.parser.Parse(text.NewReader(src))
	if list, ok := doc.FirstChild().(*ast.List); ok && b.number >= 0 {
		list.Start = b.number
	}
	w := walker{theme: m.theme, src: src}
	if b.kind == itemBlock { // a sloppily nested list keeps its indent
		return w.nest(strings.Repeat(" ", min(indentOf(b.text), 3)), "", width, func(width int) []string {
			return w.blocks(doc, width)
		})
	}
	return w.blocks(doc, width)
}

func (m *markdown) code(line string) string {
	return m.theme.paint(expandTabs(line), codeColor)
}

func expandTabs(s string) string { return strings.ReplaceAll(s, "\t", "    ") }

// walker lays out one parsed block.
type walker struct {
	theme theme
	src   []byte
	depth int // of bulleted lists
}

// blocks lays out the children of a container.
func (w *walker) blocks(parent ast.Node, width int) []string {
	var lines []string
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		if n != parent.FirstChild() && w.gapBefore(n) {
			lines = append(lines, "")
		}
		lines = append(lines, w.block(n, width)...)
	}
	return lines
}

// gapBefore reports whether the source has a blank line before a block that is not the first.
// The parser does not tell for tables, which it makes of paragraphs.
func (w *walker) gapBefore(n ast.Node) bool {
	if _, ok := n.(*east.Table); !ok || n.PreviousSibling().Pos() == n.Pos() {
		return n.HasBlankPreviousLines()
	}
	above := strings.Split(string(w.src[:n.Pos()]), "\n")
	return len(above) > 1 && strings.Trim(above[len(above)-2], " \t>") == ""
}

func (w *walker) block(n ast.Node, width int) []string {
	switch n := n.(type) {
	case *ast.Paragraph, *ast.TextBlock:
		return w.theme.wrap(w.inlines(n, 0), width)
	case *ast.Heading:
		st := bold
		if n.Level == 1 {
			st |= underline
		}
		spans := w.inlines(n, st)
		if !w.theme.attributes { // nothing else would set it apart
			spans = append([]span{{strings.Repeat("#", n.Level) + " ", 0}}, spans...)
		}
		return w.theme.wrap(spans, width)
	case *ast.ThematicBreak:
		return []string{w.theme.paint(strings.Repeat("─", min(width, 40)), dim)}
	case *ast.Blockquote:
		bar := w.theme.paint("│ ", dim)
		return w.nest(bar, bar, width, func(width int) []string { return w.blocks(n, width) })
	case *ast.List:
		return w.list(n, width)
	case *ast.FencedCodeBlock:
		info := ""
		if n.Info != nil {
			info = string(n.Info.Value(w.src))
		}
		lines := []string{w.theme.paint("```"+expandTabs(info), dim)}
		lines = append(lines, w.codeLines(n, "")...)
		return append(lines, w.theme.paint("```", dim))
	case *ast.CodeBlock:
		return w.codeLines(n, "    ")
	case *ast.HTMLBlock:
		raw := string(n.Lines().Value(w.src))
		if n.HasClosure() {
			raw += string(n.ClosureLine.Value(w.src))
		}
		return w.theme.wrapPlain(strings.TrimRight(raw, "\n"), 0, width)
	case *east.Table:
		return w.table(n, width)
	}
	return w.theme.wrapPlain(strings.TrimRight(string(n.Lines().Value(w.src)), "\n"), 0, width)
}

func (w *walker) codeLines(n ast.Node, indent string) []string {
	var lines []string
	for i := range n.Lines().Len() {
		seg := n.Lines().At(i)
		line := strings.TrimRight(string(seg.Value(w.src)), "\r\n")
		lines = append(lines, indent+w.theme.paint(expandTabs(line), codeColor))
	}
	return lines
}

// nest lays out content behind a prefix: first on the first line, other on the rest. Where the
// nesting leaves too little room, the content goes without a prefix, below it.
func (w *walker) nest(first, other string, width int, content func(int) []string) []string {
	used := max(columns(first), columns(other))
	if width-used < minWidth {
		lines := content(width)
		if first = strings.TrimRight(first, " "); first != "" && first != strings.TrimRight(other, " ") {
			lines = append([]string{first}, lines...)
		}
		return lines
	}
	if other == "" {
		other = strings.Repeat(" ", used)
	}
	lines := content(width - used)
	if len(lines) == 0 {
		lines = []string{""}
	}
	for i, line := range lines {
		prefix := other
		if i == 0 {
			prefix = first
		}
		if lines[i] = prefix + line; line == "" {
			lines[i] = strings.TrimRight(prefix, " ")
		}
	}
	return lines
}

var bullets = [...]string{"• ", "◦ ", "▪ "}

func (w *walker) list(n *ast.List, width int) []string {
	var lines []string
	number := n.Start
	for item := n.FirstChild(); item != nil; item = item.NextSibling() {
		if item.HasBlankPreviousLines() && item != n.FirstChild() {
			lines = append(lines, "")
		}
		mark, deeper := bullets[w.depth%len(bullets)], 1
		if n.IsOrdered() {
			mark, deeper = strconv.Itoa(number)+string(n.Marker)+" ", 0
			number++
		}
		w.depth += deeper
		lines = append(lines, w.nest(mark, "", width, func(width int) []string { return w.blocks(item, width) })...)
		w.depth -= deeper
	}
	return lines
}

// inlines collects the text of a block or inline node.
func (w *walker) inlines(parent ast.Node, st style) []span {
	var out []span
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		out = append(out, w.inline(n, st)...)
	}
	return out
}

func (w *walker) inline(n ast.Node, st style) []span {
	switch n := n.(type) {
	case *ast.Text:
		s := string(n.Value(w.src))
		if !n.IsRaw() {
			s = unescape(s)
		}
		if n.SoftLineBreak() || n.HardLineBreak() {
			s += "\n"
		}
		return []span{{s, st}}
	case *ast.String:
		return []span{{visible(string(n.Value)), st}}
	case *ast.CodeSpan:
		var b strings.Builder
		for c := n.FirstChild(); c != nil; c = c.NextSibling() {
			if t, ok := c.(*ast.Text); ok {
				b.Write(t.Value(w.src))
			}
		}
		return []span{w.codeSpan(strings.ReplaceAll(b.String(), "\n", " "), st)}
	case *mathNode:
		return []span{{string(n.segments.Value(w.src)), st | codeColor}}
	case *ast.Emphasis:
		if n.Level >= 2 {
			return w.inlines(n, st|bold)
		}
		return w.inlines(n, st|italic)
	case *east.Strikethrough:
		return w.inlines(n, st|strike)
	case *ast.Link:
		return w.target(w.inlines(n, st|underline), n.Destination, n.Title, st)
	case *ast.Image:
		spans := append([]span{{"[image: ", st}}, w.inlines(n, st)...)
		return w.target(append(spans, span{"]", st}), n.Destination, n.Title, st)
	case *ast.AutoLink:
		return []span{{string(n.Label(w.src)), st | underline}}
	case *ast.RawHTML:
		raw := string(n.Segments.Value(w.src))
		if isLineBreak(raw) {
			raw = "\n"
		}
		return []span{{raw, st}}
	case *east.TaskCheckBox:
		if n.IsChecked {
			return []span{{"[x] ", st}}
		}
		return []span{{"[ ] ", st}}
	}
	return w.inlines(n, st)
}

// codeSpan keeps the backticks where no colour can replace them.
func (w *walker) codeSpan(s string, st style) span {
	if !w.theme.colors {
		s = "`" + s + "`"
	}
	return span{s, st | codeColor}
}

// target appends the address of a link, unless its text is the address.
func (w *walker) target(label []span, dest, title []byte, st style) []span {
	to := unescape(string(dest))
	var shown strings.Builder
	for _, s := range label {
		shown.WriteString(s.text)
	}
	if len(title) > 0 {
		to += ` "` + unescape(string(title)) + `"`
	} else if to == shown.String() || to == "" {
		return label
	}
	return append(label, span{" (" + to + ")", st | dim})
}

// isLineBreak recognises <br>, which models write in tables.
func isLineBreak(tag string) bool {
	switch strings.ToLower(strings.ReplaceAll(tag, " ", "")) {
	case "<br>", "<br/>":
		return true
	}
	return false
}

// unescape resolves backslash escapes and character references of ordinary text.
func unescape(s string) string {
	if !strings.ContainsAny(s, `\&`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && util.IsPunct(s[i+1]):
			i++
			b.WriteByte(s[i])
		case c == '&':
			ref := reference(s[i:])
			b.WriteString(visible(html.UnescapeString(ref)))
			i += len(ref) - 1
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// reference returns the character reference that s begins with, or its first byte.
func reference(s string) string {
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == ';':
			return s[:i+1]
		case c != '#' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z'):
			return s[:1]
		}
	}
	return s[:1]
}
