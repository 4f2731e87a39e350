package tui

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// program runs the real interactive program on pipes and a fake terminal.
type program struct {
	t    *testing.T
	term *fakeTerminal
	keys *io.PipeWriter
	done chan error
}

func startProgram(t *testing.T, ctx context.Context, o Options) *program {
	in, keys := io.Pipe()
	p := &program{t: t, term: newFakeTerminal(80, 24), keys: keys, done: make(chan error, 1)}
	o.Interactive, o.In, o.Out, o.Env = true, in, p.term, []string{"TERM=xterm"}
	go func() { p.done <- Run(ctx, o) }()
	t.Cleanup(func() { keys.Close() })
	return p
}

func (p *program) press(keys string) {
	if _, err := io.WriteString(p.keys, keys); err != nil {
		p.t.Fatal(err)
	}
}

// wait waits until the terminal shows a line that begins with text.
func (p *program) wait(text string) {
	p.t.Helper()
	deadline := time.After(3 * time.Minute) // of a machine that does much else
	for {
		lines, _ := p.term.text()
		if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, text) }) {
			return
		}
		select {
		case <-p.term.changed:
		case <-deadline:
			p.t.Fatalf("the terminal does not show %q:\n%s", text, strings.Join(lines, "\n"))
		}
	}
}

func TestInteractive(t *testing.T) {
	f := newFakeServer(t)
	p := startProgram(t, t.Context(), Options{BaseURL: f.URL})
	p.wait("openai/gpt-oss-20b")
	p.press("hello\r")
	p.wait("Hello! How can I help you today?")
	p.wait("│ Let me also think about a second line")
	p.wait("openai/gpt-oss-20b · 4")
	p.press("block\r")
	p.wait("This goes on")
	p.press("\x03")
	p.wait("stopped; the part above is kept")
	p.press("denied\r")
	p.wait("error: the server refused: incorrect API key")
	p.press("\x04")
	if err := <-p.done; err != nil {
		t.Error(err)
	}
	if p.term.bad != nil {
		t.Error(p.term.bad)
	}
	lines, _ := p.term.text()
	if last := lines[len(lines)-1]; !strings.HasSuffix(last, "/retry asks again") {
		t.Errorf("the last line left on the terminal is %q", last)
	}
	<-f.requests
	if second := <-f.requests; len(second.Messages) != 3 || second.Messages[1].Role != "assistant" {
		t.Errorf("second request %+v", second.Messages)
	}
}

// TestInteractiveWithoutServer starts before the server can be reached, and stays usable.
func TestInteractiveWithoutServer(t *testing.T) {
	const url = "http://127.0.0.1:1" // below the ephemeral range: no other test's server gets it
	p := startProgram(t, t.Context(), Options{BaseURL: url})
	p.wait("error: no connection to " + url)
	p.press("hello\r")
	p.wait("> hello")
	p.wait("error: no connection to " + url + ": connection refused; /retry asks")
	p.press("/quit\r")
	if err := <-p.done; err != nil {
		t.Error(err)
	}
}

func TestInteractiveCancelled(t *testing.T) {
	f := newFakeServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	p := startProgram(t, ctx, Options{BaseURL: f.URL})
	p.wait("openai/gpt-oss-20b")
	p.press("block\r")
	p.wait("This goes on")
	cancel()
	if err := <-p.done; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context gives %v", err)
	}
}
