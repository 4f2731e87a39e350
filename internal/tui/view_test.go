package tui

import (
	"testing"
	"time"
)

func TestFitParts(t *testing.T) {
	parts := func() []part {
		return []part{{"org/model", "model", 8}, {"effort high", "high", 5}, {"1,000 tokens", "1000 tok", 4}, {"context 4%", "ctx 4%", 7}}
	}
	for _, tc := range []struct {
		width int
		want  string
	}{
		{80, "org/model · effort high · 1,000 tokens · context 4%"},
		{51, "org/model · effort high · 1,000 tokens · context 4%"},
		{50, "model · high · 1000 tok · ctx 4%"},
		{31, "model · high · ctx 4%"},
		{20, "model · ctx 4%"},
		{13, "model"},
		{4, "mod…"},
		{0, ""},
	} {
		if got := fitParts(parts(), tc.width); got != tc.want {
			t.Errorf("width %d: %q, want %q", tc.width, got, tc.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int]string{0: "0 tokens", 1: "1 token", 999: "999 tokens", 1000: "1,000 tokens", 1234567: "1,234,567 tokens"} {
		if got := count(n, "token"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		1240 * time.Millisecond: "1.2 s", 61 * time.Second: "61 s", 125 * time.Second: "2 min 5 s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"plain\n\ttext": "plain\n\ttext", "a\r\nb\r": "a\nb", "\x1b[31m\x07\x00": "␛[31m␇␀", "\x7f\u0085\u009b": "␡\ufffd\ufffd", "日本": "日本",
	} {
		if got := visible(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
