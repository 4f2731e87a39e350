package tui

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestWrap(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		width    int
		want     []string
	}{
		{"empty", "", 10, []string{""}},
		{"fits", "one two", 7, []string{"one two"}},
		{"breaks at a space", "one two", 6, []string{"one", "two"}},
		{"spaces at the break go", "one    two ", 5, []string{"one", "two"}},
		{"spaces at the beginning stay", "  one", 10, []string{"  one"}},
		{"newlines", "a\n\nb\n", 10, []string{"a", "", "b", ""}},
		{"long word", "abcdefgh ij", 3, []string{"abc", "def", "gh", "ij"}},
		{"tab", "a\tb", 10, []string{"a    b"}},
		{"wide", "日本語", 5, []string{"日本", "語"}},
		{"wide punctuation does not begin a line", "日本語。", 6, []string{"日本", "語。"}},
		{"no-break space", "a b\u00a0c", 4, []string{"a", "b\u00a0c"}},
		{"command", "ask /retry", 9, []string{"ask", "/retry"}},
		{"path", "in dir/file now", 8, []string{"in dir/", "file now"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, theme{}.wrapPlain(tc.in, 0, tc.width)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestWrapProperties checks that lines fit, that only white space goes, and that measure
// agrees with wrap.
func TestWrapProperties(t *testing.T) {
	text := rapid.StringOf(rapid.SampledFrom([]rune("ab c,/-日。é\u0301\n\t👩\u200d🇫")))
	rapid.Check(t, func(t *rapid.T) {
		var spans []span
		all := ""
		for range rapid.IntRange(0, 4).Draw(t, "spans") {
			s := span{text.Draw(t, "text"), style(rapid.IntRange(0, 3).Draw(t, "style"))}
			spans, all = append(spans, s), all+s.text
		}
		width := rapid.IntRange(2, 20).Draw(t, "width")
		lines := theme{}.wrap(spans, width)
		for _, line := range lines {
			if n := columns(line); n > max(width, 8) { // an emoji sequence may be counted as 8
				t.Fatalf("%d columns in %q", n, line)
			}
		}
		squeeze := func(s string) string { return strings.Join(strings.Fields(s), "") }
		if got, want := squeeze(strings.Join(lines, "")), squeeze(all); got != want {
			t.Fatalf("text is %q, was %q", got, want)
		}
		line, word := measure(spans)
		if word > line {
			t.Fatalf("word %d, line %d", word, line)
		}
		if n := len(theme{}.wrap(spans, max(line, 1))); n != strings.Count(all, "\n")+1 {
			t.Fatalf("%d lines at the measured width %d: %q", n, line, all)
		}
	})
}

func TestTheme(t *testing.T) {
	for _, tc := range []struct {
		env  []string
		want string
	}{
		{[]string{"TERM=xterm"}, "\x1b[1;36mx\x1b[m"},
		{[]string{"TERM=xterm", "NO_COLOR=1"}, "\x1b[1mx\x1b[m"},
		{[]string{"TERM=xterm", "NO_COLOR=yes"}, "\x1b[1mx\x1b[m"},
		{[]string{"TERM=xterm", "NO_COLOR="}, "\x1b[1;36mx\x1b[m"},
		{[]string{"TERM=dumb"}, "x"},
		{[]string{"TERM=dumb", "TERM=xterm", "NO_COLOR=1"}, "\x1b[1mx\x1b[m"},
	} {
		if got := newTheme(tc.env).paint("x", bold|codeColor); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.env, got, tc.want)
		}
	}
}
