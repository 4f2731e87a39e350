package tui

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// visible replaces control characters, so that text from a server cannot move the cursor or
// start an escape sequence: C0 and DEL become their control pictures (U+2400 block), C1 becomes
// U+FFFD. Newline and tab stay; carriage returns are dropped.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || !unicode.IsControl(r):
			return r
		case r == '\r':
			return -1
		case r < 0x20:
			return 0x2400 + r
		case r == 0x7f:
			return 0x2421
		}
		return unicode.ReplacementChar
	}, s)
}

// oneLine makes text fit for a one-line message.
func oneLine(s string) string {
	return visible(strings.Join(strings.Fields(s), " "))
}

// shorten cuts s to at most width columns, the last of which is then an ellipsis. It keeps
// escape sequences.
func shorten(s string, width int) string {
	if width <= 0 {
		return ""
	}
	return ansi.Truncate(s, width, "…")
}

// tail returns about the last n bytes of s.
func tail(s string, n int) string {
	i := max(len(s)-n, 0)
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	return s[i:]
}

// columns is the width of s, without escape sequences, on a terminal. Terminals disagree
// about clusters such as emoji sequences; the larger count keeps lines within the screen.
func columns(s string) int {
	return max(ansi.StringWidth(s), ansi.StringWidthWc(s))
}
