package tui

import (
	"bytes"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// mathNode is TeX between \( and \) or \[ and \]. It is shown as written: to Markdown its
// backslashes would be escapes and its underscores emphasis.
type mathNode struct {
	ast.BaseInline
	segments text.Segments
}

var kindMath = ast.NewNodeKind("Math")

func (n *mathNode) Kind() ast.NodeKind { return kindMath }

func (n *mathNode) Dump(source []byte, level int) { ast.DumpHelper(n, source, level, nil, nil) }

// mathParser finds mathNodes; they may span several lines of a paragraph.
type mathParser struct{}

func (mathParser) Trigger() []byte { return []byte{'\\'} }

func (mathParser) Parse(_ ast.Node, block text.Reader, _ parser.Context) ast.Node {
	line, seg := block.PeekLine()
	var end []byte
	switch {
	case bytes.HasPrefix(line, []byte(`\(`)):
		end = []byte(`\)`)
	case bytes.HasPrefix(line, []byte(`\[`)):
		end = []byte(`\]`)
	default:
		return nil
	}
	n := &mathNode{}
	for skip := 2; line != nil; skip = 0 {
		if i := bytes.Index(line[skip:], end); i >= 0 {
			stop := skip + i + len(end)
			n.segments.Append(text.NewSegment(seg.Start, seg.Start+stop))
			block.Advance(stop)
			return n
		}
		n.segments.Append(seg)
		block.AdvanceLine()
		line, seg = block.PeekLine()
	}
	return nil
}
