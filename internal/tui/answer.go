package tui

import (
	"context"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
)

// answer is one answer while it arrives. Its methods return the lines that became final and
// belong in the scrollback.
type answer struct {
	turn   int
	cancel context.CancelFunc
	read   tea.Cmd // nil until the server has accepted the request
	theme  theme

	reasoning string
	shown     int       // bytes of reasoning that have been printed
	headed    bool      // its heading has been printed
	thought   bool      // it is over
	since     time.Time // its beginning

	content string
	md      *markdown
	calls   []toolCall
	ended   string // finish_reason
	usage   *usage
	chunks  int // deltas with text, which servers send about one a token

	started, first, last time.Time // request sent; first and last text
}

// add takes one delta.
func (a *answer) add(d delta, now time.Time, width int, fold bool) []string {
	if d.Reasoning != "" || d.Content != "" || len(d.Calls) > 0 {
		if a.chunks == 0 {
			a.first = now
		}
		a.last = now
		a.chunks++
	}
	if d.Usage != nil {
		a.usage = d.Usage
	}
	if d.Finish != "" {
		a.ended = d.Finish
	}
	var lines []string
	if d.Reasoning != "" {
		lines = a.reason(visible(d.Reasoning), now, width, fold)
	}
	if d.Content != "" || len(d.Calls) > 0 {
		lines = append(lines, a.endThought(now, width, fold)...)
	}
	a.calls = addCalls(a.calls, d.Calls)
	a.content += d.Content
	return append(lines, a.md.push(d.Content, width)...)
}

// reason takes a piece of reasoning. After a part of the final text it begins a new block.
func (a *answer) reason(text string, now time.Time, width int, fold bool) []string {
	var lines []string
	if a.thought && a.reasoning+a.content != "" {
		if lines = a.md.finish(width); len(lines) > 0 {
			lines = append(lines, "")
		}
		if all := a.shown == len(a.reasoning); a.reasoning != "" && !strings.HasSuffix(a.reasoning, "\n") {
			a.reasoning += "\n"
			if all {
				a.shown++
			}
		}
	}
	if a.thought || a.reasoning == "" {
		a.thought, a.headed, a.since = false, false, now
	}
	a.reasoning += text
	if !fold {
		lines = append(lines, a.thinking(width, false)...)
	}
	return lines
}

// end closes what is open.
func (a *answer) end(now time.Time, width int, fold bool) []string {
	lines := append(a.endThought(now, width, fold), a.md.finish(width)...)
	if a.content != "" {
		lines = append(lines, "")
	}
	for _, c := range a.calls {
		lines = append(lines, a.call(c, width)...)
		lines = append(lines, "")
	}
	return lines
}

// call lays out a tool call.
func (a *answer) call(c toolCall, width int) []string {
	return a.theme.wrap([]span{
		{"tool call ", dim}, {oneLine(c.Name), bold}, {" " + visible(c.Arguments), codeColor},
	}, width)
}

// endThought ends the reasoning: its rest, or one line in its place.
func (a *answer) endThought(now time.Time, width int, fold bool) []string {
	if a.thought {
		return nil
	}
	a.thought = true
	switch {
	case a.reasoning == "":
		return nil
	case fold && a.hidden():
		line := fmt.Sprintf("Thought for %s. Ctrl+T shows it.", seconds(now.Sub(a.since)))
		if a.headed { // folded half-way
			line = "│ …\n\n" + line
		}
		return append(a.theme.wrapPlain(line, dim, width), "")
	}
	return a.unfold(width)
}

// unfold returns what has not been printed of a finished reasoning, and the blank line after it.
func (a *answer) unfold(width int) []string { return append(a.thinking(width, true), "") }

// again returns a finished reasoning from its beginning.
func (a *answer) again(width int) []string {
	a.shown, a.headed = 0, false
	return a.unfold(width)
}

// hidden reports whether some of a finished reasoning has not been printed.
func (a *answer) hidden() bool { return a.thought && a.shown < len(a.reasoning) }

// thinking returns the complete lines of the reasoning that have not been printed, or with all
// set also the last, unfinished one.
func (a *answer) thinking(width int, all bool) []string {
	rest := a.reasoning[a.shown:]
	if !all {
		rest = rest[:strings.LastIndexByte(rest, '\n')+1]
	}
	a.shown += len(rest)
	if rest == "" {
		return nil
	}
	var lines []string
	if !a.headed {
		a.headed = true
		lines = append(lines, a.theme.paint("Thinking", dim|bold))
	}
	return append(lines, a.quote(strings.TrimSuffix(rest, "\n"), width)...)
}

// quote lays out reasoning: dim, behind a bar.
func (a *answer) quote(text string, width int) []string {
	var lines []string
	for _, line := range a.theme.wrapPlain(text, dim, max(width-2, minWidth)) {
		lines = append(lines, strings.TrimRight(a.theme.paint("│ ", dim)+line, " "))
	}
	return lines
}

// preview lays out the part that is not final yet.
func (a *answer) preview(width int, fold bool) []string {
	var lines []string
	switch {
	case a.thought:
		lines = a.md.preview(width)
	case a.reasoning != "" && fold && a.headed:
		lines = []string{a.theme.paint("│ …", dim)}
	case a.reasoning != "" && fold:
		lines = []string{a.theme.paint("Thinking …", dim|bold)}
	case a.reasoning != "":
		if !a.headed {
			lines = append(lines, a.theme.paint("Thinking", dim|bold))
		}
		if rest := a.reasoning[a.shown:]; rest != "" {
			lines = append(lines, a.quote(tail(rest, maxPreview), width)...)
		}
	}
	for _, c := range a.calls {
		lines = append(lines, a.call(c, width)...)
	}
	return lines
}

// state says in a word what the answer is doing.
func (a *answer) state() string {
	switch {
	case a.chunks == 0:
		return "waiting"
	case !a.thought && a.reasoning != "":
		return "thinking"
	}
	return "answering"
}

// stats are the numbers of the status line.
type stats struct {
	prompt, completion int     // tokens
	rate               float64 // tokens a second; 0 is unknown
	estimate           bool    // completion counts chunks, since the server has not told
}

// stats counts what has arrived. The rate leaves out the first token, whose time is that of
// the prompt.
func (a *answer) stats() stats {
	s := stats{completion: a.chunks, estimate: true}
	if a.usage != nil && a.usage.Completion > 0 {
		s = stats{prompt: a.usage.Prompt, completion: a.usage.Completion}
	}
	if d := a.last.Sub(a.first).Seconds(); d > 0.05 && s.completion > 1 {
		s.rate = float64(s.completion-1) / d
	}
	return s
}

// seconds prints a duration for people.
func seconds(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
}
