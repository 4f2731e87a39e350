package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// maxPiped bounds the input of pipe mode.
const maxPiped = 64 << 20

// runPipe sends the whole input as one message and streams the answer to Out as plain text,
// with a newline at its end. Reasoning goes to Err if asked for. Text is cleaned of control
// characters only where it goes to a terminal; scripts get it as the model wrote it.
func runPipe(ctx context.Context, o Options, c *client) error {
	prompt, err := readPrompt(o.In)
	if err != nil {
		return err
	}
	model := o.Model
	if model == "" {
		m, err := c.pickModel(ctx, "")
		if err != nil {
			return err
		}
		model = m.ID
	}
	ctx, cancel := context.WithCancel(ctx) // frees the server when Out is closed early
	defer cancel()
	conv := &conversation{System: o.System, Effort: o.Effort, Turns: []turn{{Prompt: prompt}}}
	stream, err := c.chat(ctx, o.request(model, conv))
	if err != nil {
		return err
	}
	defer stream.close()
	p := &pipe{out: newTextWriter(o.Out, o.Env, 0), reasoning: newTextWriter(o.Err, o.Env, dim), show: o.ShowReasoning}
	if err := p.copy(ctx, stream); err != nil {
		return errors.Join(err, p.endLines())
	}
	return p.finish(o.Err)
}

// readPrompt reads the whole input. It must be text, since JSON cannot carry anything else.
func readPrompt(r io.Reader) (string, error) {
	in, err := readAtMost(r, maxPiped)
	if err != nil {
		return "", fmt.Errorf("standard input: %w", err)
	}
	if !utf8.Valid(in) {
		return "", errors.New("standard input is not UTF-8 text")
	}
	prompt := strings.TrimRight(string(in), "\r\n")
	if strings.TrimSpace(prompt) == "" {
		return "", errors.New("standard input holds no message")
	}
	return prompt, nil
}

// pipe writes one answer.
type pipe struct {
	out, reasoning *textWriter
	show           bool // the reasoning
	calls          []toolCall
	reason         string // finish_reason
}

// copy writes the answer as it arrives.
func (p *pipe) copy(ctx context.Context, s *chatStream) error {
	for {
		d, err := s.next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if p.show {
			if err := p.reasoning.write(d.Reasoning); err != nil {
				return fmt.Errorf("writing the reasoning: %w", err)
			}
		}
		if d.Content != "" {
			err = errors.Join(p.reasoning.endLine(), p.out.write(d.Content))
		}
		if err != nil {
			return fmt.Errorf("writing the answer: %w", err)
		}
		p.calls = addCalls(p.calls, d.Calls)
		if d.Finish != "" {
			p.reason = d.Finish
		}
	}
}

func (p *pipe) endLines() error { return errors.Join(p.reasoning.endLine(), p.out.endLine()) }

// finish ends the answer. One without a final text is an error, so that scripts notice; one that
// was cut gets a note on w.
func (p *pipe) finish(w io.Writer) error {
	if err := p.endLines(); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	for _, c := range p.calls {
		fmt.Fprintf(w, "tool call: %s(%s)\n", oneLine(c.Name), oneLine(c.Arguments))
	}
	note := finishNote(p.reason)
	switch {
	case p.out.used && note != "":
		fmt.Fprintln(w, "note: "+note)
	case !p.out.used && note != "":
		return errors.New("no final answer: " + note)
	case !p.out.used && len(p.calls) > 0:
		return errors.New("no final answer: the model called a tool")
	case !p.out.used:
		return errors.New("no final answer: the server sent an empty one")
	}
	return nil
}

// finishNote explains an end of an answer that the user would not expect, or returns "".
func finishNote(reason string) string {
	switch reason {
	case "", "stop", "tool_calls", "function_call":
		return ""
	case "length":
		return "the answer reached the limit of tokens"
	}
	return "the server ended the answer: " + oneLine(reason)
}

// textWriter writes the model's text. Where w is a terminal the text is styled and cleaned of
// control characters.
type textWriter struct {
	w     io.Writer
	tty   bool
	theme theme
	style style
	used  bool // something has been written
	ended bool // the last byte was a newline
}

func newTextWriter(w io.Writer, env []string, st style) *textWriter {
	t := &textWriter{w: w, style: st}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		t.tty, t.theme = true, newTheme(env)
	}
	return t
}

func (t *textWriter) write(s string) error {
	if s == "" {
		return nil
	}
	t.used, t.ended = true, strings.HasSuffix(s, "\n")
	if t.tty {
		s = t.theme.paint(visible(s), t.style)
	}
	_, err := io.WriteString(t.w, s)
	return err
}

// endLine ends a line that has been begun.
func (t *textWriter) endLine() error {
	if !t.used || t.ended {
		return nil
	}
	return t.write("\n")
}
