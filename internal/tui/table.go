package tui

import (
	"bytes"
	"slices"
	"strings"

	"github.com/yuin/goldmark/ast"
	east "github.com/yuin/goldmark/extension/ast"
)

const (
	columnGap  = " │ "
	crossing   = "─┼─"
	gapColumns = 3
	minColumn  = 8  // narrower columns of wrapped text are hard to read
	maxWord    = 20 // longer words may be broken
)

// tableCells is a table as rows of cells; the first row is the header. Every row has a cell
// for every column.
type tableCells struct {
	rows  [][][]span
	align []east.Alignment
}

// table lays out columns side by side, wrapping wide cells. Where the columns would become
// too narrow it writes every row as a list of "header: value" lines instead.
func (w *walker) table(n *east.Table, width int) []string {
	t := tableCells{align: n.Alignments}
	for row := n.FirstChild(); row != nil; row = row.NextSibling() {
		t.rows = append(t.rows, w.cells(row, len(n.Alignments)))
	}
	widths, ok := t.fit(width)
	if !ok {
		return w.records(t, width)
	}
	var lines []string
	for i, row := range t.rows {
		lines = append(lines, w.row(row, t.align, widths)...)
		if i == 0 {
			rule := make([]string, len(widths))
			for c, cw := range widths {
				rule[c] = strings.Repeat("─", cw)
			}
			lines = append(lines, w.theme.paint(strings.Join(rule, crossing), dim))
		}
	}
	return lines
}

// cells collects a row. Text beyond the last column, which the grammar drops, goes with it.
func (w *walker) cells(row ast.Node, n int) [][]span {
	st := style(0)
	if _, ok := row.(*east.TableHeader); ok {
		st = bold
	}
	var cells [][]span
	for c := row.FirstChild(); c != nil && len(cells) < n; c = c.NextSibling() {
		cells = append(cells, w.inlines(c, st))
		if c.NextSibling() != nil || c.Lines().Len() == 0 {
			continue
		}
		rest, _, _ := bytes.Cut(w.src[c.Lines().At(0).Stop:], []byte("\n"))
		if extra := strings.Trim(string(rest), " \t|"); extra != "" {
			cells[len(cells)-1] = append(cells[len(cells)-1], span{" | " + extra, st})
		}
	}
	for len(cells) < n {
		cells = append(cells, nil)
	}
	return cells
}

// fit chooses the widths of the columns, or reports that they have no room. No column is
// narrower than its longest word, within reason; what is left widens the narrowest first.
func (t tableCells) fit(width int) ([]int, bool) {
	n := len(t.align)
	need, widths := make([]int, n), make([]int, n)
	for _, row := range t.rows {
		for c, spans := range row {
			line, word := measure(spans)
			need[c], widths[c] = max(need[c], line, 1), max(widths[c], word)
		}
	}
	room := width - gapColumns*(n-1)
	for c := range widths {
		widths[c] = min(max(widths[c], minColumn), maxWord, need[c])
		room -= widths[c]
	}
	for ; room > 0; room-- {
		narrowest := -1
		for c := range widths {
			if widths[c] < need[c] && (narrowest < 0 || widths[c] < widths[narrowest]) {
				narrowest = c
			}
		}
		if narrowest < 0 {
			break
		}
		widths[narrowest]++
	}
	return widths, room >= 0
}

// row lays out one row; its height is that of the highest cell.
func (w *walker) row(cells [][]span, align []east.Alignment, widths []int) []string {
	height := 1
	text := make([][]string, len(cells))
	for c, spans := range cells {
		text[c] = w.theme.wrap(spans, widths[c])
		height = max(height, len(text[c]))
	}
	gap := w.theme.paint(columnGap, dim)
	var lines []string
	for i := range height {
		var line strings.Builder
		for c := range cells {
			if c > 0 {
				line.WriteString(gap)
			}
			s := ""
			if i < len(text[c]) {
				s = text[c][i]
			}
			line.WriteString(pad(s, widths[c], align[c], c+1 == len(cells)))
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}

// pad aligns s within width columns. The last column gets no spaces at its end.
func pad(s string, width int, a east.Alignment, last bool) string {
	left, right := 0, width-columns(s)
	switch a {
	case east.AlignRight:
		left, right = right, 0
	case east.AlignCenter:
		left = right / 2
		right -= left
	}
	if last {
		right = 0
	}
	return strings.Repeat(" ", max(left, 0)) + s + strings.Repeat(" ", max(right, 0))
}

// records writes each row as "header: value" lines.
func (w *walker) records(t tableCells, width int) []string {
	if len(t.rows) == 1 {
		t.rows = append(t.rows, make([][]span, len(t.align)))
	}
	var lines []string
	for i, row := range t.rows[1:] {
		if i > 0 {
			lines = append(lines, w.theme.paint(strings.Repeat("─", min(width, 8)), dim))
		}
		for c, value := range row {
			spans := slices.Concat(t.rows[0][c], []span{{": ", bold}}, value)
			lines = append(lines, w.nest("", "  ", width, func(width int) []string {
				return w.theme.wrap(spans, width)
			})...)
		}
	}
	return lines
}
