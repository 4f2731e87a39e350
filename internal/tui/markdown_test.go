package tui

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/charmbracelet/x/ansi"
	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestMarkdown renders the texts in testdata/markdown; -rewrite updates the expectations.
//
//	render width=N [style=attributes|colors]
//
// Escape sequences are shown as <1;4> and <>.
func TestMarkdown(t *testing.T) {
	datadriven.Walk(t, "testdata/markdown", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var th theme
			for _, a := range d.CmdArgs {
				switch a.String() {
				case "style=attributes":
					th = theme{attributes: true}
				case "style=colors":
					th = theme{attributes: true, colors: true}
				}
			}
			var width int
			d.ScanArgs(t, "width", &width)
			lines := renderAll(th, d.Input, width)
			return showEscapes(strings.Join(lines, "\n")) + "\n"
		})
	})
}

func renderAll(t theme, text string, width int) []string {
	m := newMarkdown(t)
	return append(m.push(text, width), m.finish(width)...)
}

var escapes = regexp.MustCompile("\x1b\\[([0-9;]*)m")

func showEscapes(s string) string { return escapes.ReplaceAllString(s, "<$1>") }

// markdownText draws text that is rich in markup, line by line.
func markdownText() *rapid.Generator[string] {
	piece := rapid.SampledFrom([]string{
		"word", "longerword", "日本語", "é", " ", "  ", "\t", "*", "**", "_", "`", "``", "~~", "[", "](", ")", "(", "<br>", "<b>", "\\",
		"&amp;", "&", "http://a.b/c", "|", ":", "!", "#", "1.", "\\(", "\\)", "👩‍👩‍👧",
	})
	start := rapid.SampledFrom([]string{
		"", "", "", "- ", "  - ", "   - ", "* ", "1. ", "2) ", "> ", "> > ", "# ", "### ", "```", "~~~~", "```go", "    ", "---", "===",
		"| a | b |", "|---|:-:|", "\\[", "\\]", "$$", "[a]: /b", "- [ ] ", "<div>", "10. ",
	})
	line := rapid.Custom(func(t *rapid.T) string {
		return start.Draw(t, "start") + strings.Join(rapid.SliceOfN(piece, 0, 6).Draw(t, "pieces"), "")
	})
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(line, 0, 10).Draw(t, "lines"), "\n")
	})
}

// TestMarkdownStream checks that the way in which a text arrives does not matter, and that
// what has been printed and the preview together are what the whole text gives so far.
func TestMarkdownStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := markdownText().Draw(t, "text")
		width := rapid.IntRange(minWidth, 60).Draw(t, "width")
		want := renderAll(theme{}, text, width)
		m := newMarkdown(theme{})
		var got []string
		for pos := 0; pos < len(text); {
			n := rapid.IntRange(1, 8).Draw(t, "n")
			for n++; pos+n < len(text) && text[pos+n]&0xC0 == 0x80; n++ {
			}
			n = min(n, len(text)-pos)
			got = append(got, m.push(text[pos:pos+n], width)...)
			pos += n
			sofar := append(got[:len(got):len(got)], m.preview(width)...)
			if diff := cmp.Diff(renderAll(theme{}, text[:pos], width), sofar); diff != "" {
				t.Fatalf("after %d bytes (-whole +stream):\n%s", pos, diff)
			}
		}
		got = append(got, m.finish(width)...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-whole +stream):\n%s", diff)
		}
	})
}

// checkRendered checks what holds for every text: no line is too wide, but for code; each line
// stands for itself; no letter is lost.
func checkRendered(t interface{ Fatalf(string, ...any) }, text string, width int) {
	plain := renderAll(theme{}, text, width)
	styled := renderAll(theme{attributes: true, colors: true}, text, width)
	if !strings.Contains(text, "```") && !strings.Contains(text, "~~~") && !regexp.MustCompile(`(?m)(    |\t)`).MatchString(text) {
		for i, line := range plain {
			if n := columns(line); n > width {
				t.Fatalf("line %d has %d columns, more than %d: %q", i, n, width, line)
			}
		}
	}
	for i, line := range styled {
		if open := strings.Count(line, "\x1b["); open%2 != 0 || strings.ContainsAny(line, "\n\r\t") {
			t.Fatalf("line %d does not stand for itself: %q", i, line)
		}
		if strings.Contains(escapes.ReplaceAllString(line, ""), "\x1b") {
			t.Fatalf("line %d has a foreign escape sequence: %q", i, line)
		}
	}
	if got, want := letters(strings.Join(plain, " ")), letters(markup.ReplaceAllString(visible(text), "")); !want.within(got) {
		t.Fatalf("letters are lost: %v of\n%s", want.minus(got), strings.Join(plain, "\n"))
	}
	if got, want := letters(ansi.Strip(strings.Join(styled, " "))), letters(strings.Join(plain, " ")); !want.within(got) {
		t.Fatalf("letters are lost by styles: %v", want.minus(got))
	}
}

// markup is what rendering replaces by something without its letters.
var markup = regexp.MustCompile(`(?i)&[#a-z0-9]+;|<\s*br\s*/?\s*>|\[x\]`)

type letterCount map[rune]int

func letters(s string) letterCount {
	n := letterCount{}
	for _, r := range s {
		if unicode.IsLetter(r) {
			n[r]++
		}
	}
	return n
}

func (n letterCount) within(m letterCount) bool { return len(n.minus(m)) == 0 }

func (n letterCount) minus(m letterCount) letterCount {
	out := letterCount{}
	for r, c := range n {
		if c > m[r] {
			out[r] = c - m[r]
		}
	}
	return out
}

func (n letterCount) String() string {
	s := ""
	for r, c := range n {
		s += fmt.Sprintf("%q %d ", r, c)
	}
	return s
}

func TestMarkdownProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkRendered(t, markdownText().Draw(t, "text"), rapid.IntRange(minWidth, 60).Draw(t, "width"))
	})
}

func FuzzMarkdown(f *testing.F) {
	f.Add(tourText, uint8(40))
	for _, s := range []string{
		"| a | b |\n|---|---|\n| c | d | e |", "1. a\n1. b\n\n\n   c", "> - > 1. a\n```\nx", "\\[\na\n\\]", "[a](b \"c\")![d](<e> 'f')",
		"a\\\nb  \nc\\", "\\(", "&#27;[31m&bogus;", "\x1b[31m\a\u009b", "- \n-\n  a\n+ b", "***a** b*", "<a\nb>", "a\n===\nb\n---", "\ta\n    b",
	} {
		f.Add(s, uint8(20))
	}
	f.Fuzz(func(t *testing.T, text string, width uint8) {
		checkRendered(t, strings.ToValidUTF8(text, "?"), max(int(width), minWidth))
	})
}

// TestLargeBlock checks that hostile nesting and very large blocks end, and end as text.
func TestLargeBlock(t *testing.T) {
	for name, text := range map[string]string{
		"brackets": strings.Repeat("[", maxParsed-2),
		"quotes":   strings.Repeat("> ", 2000) + "a",
		"lists":    strings.Repeat("- ", 2000) + "a",
		"stars":    strings.Repeat("*a ", maxParsed/4),
		"math":     strings.Repeat(`\(`, maxParsed/4),
		"large":    strings.Repeat("*word* ", maxParsed/5),
	} {
		t.Run(name, func(t *testing.T) { checkRendered(t, text, 40) })
	}
}
