package tui

import (
	"strconv"
	"strings"
)

// style is a set of text attributes. Colours are the terminal's own 16, so that they fit its
// light or dark theme.
type style uint16

const (
	bold style = 1 << iota
	dim
	italic
	underline
	strike
	codeColor
	userColor
	errorColor
)

// sgr lists the Select Graphic Rendition parameter of each style bit.
var sgr = [...]struct {
	style style
	param int
	color bool
}{
	{bold, 1, false}, {dim, 2, false}, {italic, 3, false}, {underline, 4, false}, {strike, 9, false},
	{codeColor, 36, true}, {userColor, 32, true}, {errorColor, 31, true},
}

// theme says which attributes the terminal gets. The zero value is plain text.
type theme struct {
	attributes bool // bold, dim, ...
	colors     bool // needs attributes
}

// newTheme follows NO_COLOR (no colours, https://no-color.org) and TERM=dumb (nothing at all).
func newTheme(env []string) theme {
	if t := getenv(env, "TERM"); t == "dumb" {
		return theme{}
	}
	return theme{attributes: true, colors: getenv(env, "NO_COLOR") == ""}
}

// paint gives s, which holds no escape sequences and no newline, a style.
func (t theme) paint(s string, st style) string {
	if !t.attributes || st == 0 || s == "" {
		return s
	}
	var b strings.Builder
	for _, a := range sgr {
		if st&a.style == 0 || (a.color && !t.colors) {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("\x1b[")
		} else {
			b.WriteByte(';')
		}
		b.WriteString(strconv.Itoa(a.param))
	}
	if b.Len() == 0 {
		return s
	}
	b.WriteByte('m')
	b.WriteString(s)
	b.WriteString("\x1b[m")
	return b.String()
}
