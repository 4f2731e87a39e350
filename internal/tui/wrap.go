package tui

import (
	"strings"

	"github.com/rivo/uniseg"
)

// span is text in one style. A newline in it ends a line.
type span struct {
	text  string
	style style
}

// minWidth is the narrowest layout; a narrower terminal gets lines of this many columns.
const minWidth = 10

// wrap breaks spans into painted lines of at most width columns. Lines break where the Unicode
// line breaking algorithm (UAX #14) allows it, and inside of a word that is longer than a line.
// White space at a break is dropped. There is at least one line.
func (t theme) wrap(spans []span, width int) []string {
	var lines []string
	cells := styledCells(spans)
	for start := 0; ; {
		end := start
		for end < len(cells) && cells[end].text != "\n" {
			end++
		}
		lines = t.wrapLine(lines, cells[start:end], width)
		if end == len(cells) {
			return lines
		}
		start = end + 1
	}
}

// cell is one grapheme cluster.
type cell struct {
	text  string
	style style
	width int
	brk   bool // a line may end after it
}

func (c cell) space() bool { return c.text == " " }

// styledCells cuts the text of all spans together into clusters.
func styledCells(spans []span) []cell {
	var all strings.Builder
	for _, s := range spans {
		all.WriteString(s.text)
	}
	text := all.String()
	cells := make([]cell, 0, len(text))
	at, end := -1, 0 // span of the current cluster and where it ends
	pos, state := 0, -1
	for text != "" {
		cluster, rest, bounds, next := uniseg.StepString(text, state)
		for pos >= end {
			at++
			end += len(spans[at].text)
		}
		for _, piece := range expand(cluster) {
			cells = append(cells, cell{text: piece, style: spans[at].style, width: clusterColumns(piece)})
		}
		last := len(cells) - 1
		cells[last].brk = bounds&uniseg.MaskLine != uniseg.LineDontBreak
		if cluster == "/" && (last == 0 || cells[last-1].space()) {
			// The slash of a command or an absolute path: a line may end before it and not
			// after it. The algorithm wants the opposite.
			cells[last].brk = false
			if last > 0 {
				cells[last-1].brk = true
			}
		}
		pos += len(cluster)
		text, state = rest, next
	}
	return cells
}

// expand turns a tab into spaces and keeps "\r\n" from being one cluster.
func expand(cluster string) []string {
	switch cluster {
	case "\t":
		return []string{" ", " ", " ", " "}
	case "\r\n":
		return []string{"\n"}
	}
	return []string{cluster}
}

func clusterColumns(c string) int {
	if len(c) == 1 {
		return 1
	}
	return columns(c)
}

// wrapLine fills lines greedily with words: runs of cells up to a permitted break.
func (t theme) wrapLine(lines []string, cells []cell, width int) []string {
	var line []cell
	used := 0
	emit := func() {
		lines = append(lines, t.paintCells(line))
		line, used = line[:0], 0
	}
	for len(cells) > 0 {
		n := 1
		for n < len(cells) && !cells[n-1].brk {
			n++
		}
		word := cells[:n]
		cells = cells[n:]
		if used > 0 && used+inkWidth(word) > width {
			emit()
		}
		for _, c := range word {
			if used+c.width > width && used > 0 {
				if c.space() {
					continue // at the end of the line
				}
				emit()
			}
			line = append(line, c)
			used += c.width
		}
	}
	emit()
	return lines
}

// measure returns the widths of the widest line and of the widest word.
func measure(spans []span) (line, word int) {
	cells := styledCells(spans)
	for inLine, inWord := 0, 0; len(cells) > 0; cells = cells[1:] {
		c := cells[0]
		if c.text == "\n" {
			inLine, inWord = 0, 0
			continue
		}
		inLine += c.width
		line = max(line, inLine)
		if !c.space() {
			inWord += c.width
			word = max(word, inWord)
		}
		if c.brk {
			inWord = 0
		}
	}
	return line, word
}

// inkWidth is the width of a word without the white space at its end.
func inkWidth(word []cell) int {
	for len(word) > 0 && word[len(word)-1].space() {
		word = word[:len(word)-1]
	}
	w := 0
	for _, c := range word {
		w += c.width
	}
	return w
}

// paintCells joins a line, without white space at its end, painting runs of one style at once.
func (t theme) paintCells(line []cell) string {
	for len(line) > 0 && line[len(line)-1].space() {
		line = line[:len(line)-1]
	}
	var out, run strings.Builder
	for i, c := range line {
		run.WriteString(c.text)
		if i+1 == len(line) || line[i+1].style != c.style {
			out.WriteString(t.paint(run.String(), c.style))
			run.Reset()
		}
	}
	return out.String()
}

// wrapPlain wraps unstyled text.
func (t theme) wrapPlain(text string, st style, width int) []string {
	return t.wrap([]span{{text, st}}, width)
}
