package tui

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestPipe(t *testing.T) {
	for _, tc := range []struct {
		name, in  string
		reasoning bool
		out, note string // standard output and error
		err       string
	}{
		{name: "answer", in: "plain\n", out: "Hello!\n"},
		{name: "a newline at the end is not doubled", in: "poem", out: "Roses are red,\nviolets are blue,\n日本語のテキストもここにあります。\n"},
		{name: "reasoning is hidden", in: "hello", out: "Hello! How can I **help** you today?\n"},
		{name: "reasoning is shown", in: "hello", reasoning: true, out: "Hello! How can I **help** you today?\n",
			note: fakeAnswers["hello"].reasoning + "\n"},
		{name: "scripts get control characters", in: "escape", out: "red \x1b[31malert\x1b]0;title\a and \u009b2J\n"},
		{name: "limit", in: "limit", out: "An answer that is cut\n", note: "note: the answer reached the limit of tokens\n"},
		{name: "limit in the reasoning", in: "limited", err: "no final answer: the answer reached the limit of tokens"},
		{name: "empty", in: "empty", err: "no final answer: the server sent an empty one"},
		{name: "tool call", in: "tool", note: "tool call: get_weather({\"city\":\"Paris\"})\n", err: "no final answer: the model called a tool"},
		{name: "refused", in: "toolong", err: "the server refused: the prompt has 140000 tokens, the model takes 131072 (400 Bad Request, context_length_exceeded)"},
		{name: "cut", in: "cut", out: "Half an answ\n", err: "the server closed the connection before the answer was complete"},
		{name: "broken", in: "broken", out: "Half\n", err: "the server stopped the answer: the engine stopped (server_error)"},
		{name: "no input", in: " \n\n", err: "standard input holds no message"},
		{name: "not text", in: "a\xffb", err: "standard input is not UTF-8 text"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFakeServer(t)
			var out, note bytes.Buffer
			err := Run(t.Context(), Options{BaseURL: f.URL, In: strings.NewReader(tc.in), Out: &out, Err: &note, ShowReasoning: tc.reasoning})
			if got := errText(err); got != tc.err {
				t.Errorf("error %q, want %q", got, tc.err)
			}
			if out.String() != tc.out {
				t.Errorf("output %q, want %q", out.String(), tc.out)
			}
			if note.String() != tc.note {
				t.Errorf("standard error %q, want %q", note.String(), tc.note)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestPipeRequest checks what is asked: the whole input as one message, to the first model.
func TestPipeRequest(t *testing.T) {
	f := newFakeServer(t)
	err := Run(t.Context(), Options{BaseURL: f.URL, In: strings.NewReader("plain\n two lines \r\n"), Out: io.Discard, Err: io.Discard, System: "s", Effort: "high"})
	if err != nil {
		t.Fatal(err)
	}
	r := <-f.requests
	if r.Model != "openai/gpt-oss-20b" || r.ReasoningEffort != "high" || len(r.Messages) != 2 ||
		r.Messages[0] != (message{"system", "s"}) || r.Messages[1] != (message{"user", "plain\n two lines "}) {
		t.Errorf("request %+v", r)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestPipeErrors(t *testing.T) {
	f := newFakeServer(t)
	err := Run(t.Context(), Options{BaseURL: f.URL, In: strings.NewReader("block"), Out: brokenWriter{}, Err: io.Discard})
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a closed output gives %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = Run(ctx, Options{BaseURL: f.URL, In: strings.NewReader("hello"), Out: io.Discard, Err: io.Discard})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context gives %v", err)
	}
	for _, o := range []Options{{Effort: "max"}, {MaxTokens: -1}, {BaseURL: "ftp://x"}, {Interactive: true, Env: []string{"TERM=dumb"}}} {
		o.In = strings.NewReader("hello")
		if err := Run(t.Context(), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}
