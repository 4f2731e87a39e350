package tui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/cockroachdb/datadriven"
)

// chatScript drives a model with messages, as bubbletea would, and shows what the terminal
// shows: first the lines that came into the scrollback, then "--", then the frame with the
// cursor's line marked. The scripts in testdata/chat use these commands:
//
//	start [width=N] [height=N] [effort=E] [system=S] [model=M] [max=N]
//	type [enter]          text of the input lines, Ctrl+J between them, ␣ is a space; then Enter
//	key NAME...           ctrl+c, up, ...
//	paste                 bracketed paste of the input
//	stream                lines of the server: open, "reasoning TEXT", "content TEXT" (with Go escapes),
//	                      "call NAME ARGS", "finish REASON", "usage PROMPT COMPLETION", end,
//	                      "fail TEXT", "refuse STATUS CODE TEXT"
//	wait DURATION         moves the clock
//	resize width=N height=N
//	request               the messages of the last request
type chatScript struct {
	t     *testing.T
	clock time.Time
	term  *fakeTerminal
	m     *model
	net   *fakeNetwork
	shown int // lines of the scrollback that have been shown
}

// fakeNetwork records what the model asks.
type fakeNetwork struct {
	requests []chatRequest
	turn     int
	stopped  bool
}

func (n *fakeNetwork) models() tea.Cmd { return nil }

func (n *fakeNetwork) open(turn int, r chatRequest) (tea.Cmd, context.CancelFunc) {
	n.requests, n.turn, n.stopped = append(n.requests, r), turn, false
	return nil, func() { n.stopped = true }
}

func TestChat(t *testing.T) {
	datadriven.Walk(t, "testdata/chat", func(t *testing.T, path string) {
		path, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Chdir(t.TempDir()) // for /save
		s := &chatScript{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if out, ok := s.run(d); ok {
				return out
			}
			return s.show()
		})
	})
}

func (s *chatScript) run(d *datadriven.TestData) (out string, done bool) {
	switch d.Cmd {
	case "start":
		s.start(d)
	case "type":
		for i, line := range strings.Split(d.Input, "\n") {
			if i > 0 {
				s.key("ctrl+j")
			}
			for _, r := range strings.ReplaceAll(line, "␣", " ") {
				s.send(tea.KeyPressMsg{Code: r, Text: string(r)})
			}
		}
		if d.HasArg("enter") {
			s.key("enter")
		}
	case "key":
		for _, a := range d.CmdArgs {
			s.key(a.Key)
		}
	case "paste":
		s.send(tea.PasteMsg{Content: strings.ReplaceAll(d.Input, `\t`, "\t")})
	case "stream":
		for _, line := range strings.Split(d.Input, "\n") {
			s.stream(line)
		}
	case "wait":
		w, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			d.Fatalf(s.t, "%v", err)
		}
		s.clock = s.clock.Add(w)
		s.send(tickMsg(s.net.turn))
	case "resize":
		var w, h int
		d.ScanArgs(s.t, "width", &w)
		d.ScanArgs(s.t, "height", &h)
		s.term, s.shown = newFakeTerminal(w, h), 0
		s.m.screen.w, s.m.screen.row = s.term, 0
		s.send(tea.WindowSizeMsg{Width: w, Height: h})
	case "request":
		return s.request(), true
	default:
		d.Fatalf(s.t, "unknown command %q", d.Cmd)
	}
	return "", false
}

func (s *chatScript) start(d *datadriven.TestData) {
	width, height, info := 60, 20, modelInfo{ID: "openai/gpt-oss-20b"}
	o := Options{Env: []string{"TERM=dumb"}}
	d.MaybeScanArgs(s.t, "width", &width)
	d.MaybeScanArgs(s.t, "height", &height)
	d.MaybeScanArgs(s.t, "effort", &o.Effort)
	d.MaybeScanArgs(s.t, "system", &o.System)
	d.MaybeScanArgs(s.t, "max", &info.MaxLen)
	s.clock, s.shown = time.Unix(0, 0), 0
	s.net, s.term = &fakeNetwork{}, newFakeTerminal(width, height)
	o.Out = s.term
	s.m = newModel(o, s.net, func() time.Time { return s.clock })
	s.m.Init()
	s.send(tea.WindowSizeMsg{Width: width, Height: height})
	s.send(startMsg{})
	s.send(modelsMsg{info: info})
}

// send gives the model a message and runs a command for the file system that it returns.
func (s *chatScript) send(msg tea.Msg) {
	_, cmd := s.m.Update(msg)
	if k, ok := msg.(tea.KeyPressMsg); !ok || k.Code != tea.KeyEnter || cmd == nil || s.m.answer != nil {
		return
	}
	switch answer := cmd().(type) {
	case savedMsg, loadedMsg:
		s.m.Update(answer)
	}
}

func (s *chatScript) key(name string) {
	k := tea.KeyPressMsg{}
	for {
		mod, rest, ok := strings.Cut(name, "+")
		if !ok {
			break
		}
		k.Mod |= map[string]tea.KeyMod{"ctrl": tea.ModCtrl, "alt": tea.ModAlt, "shift": tea.ModShift}[mod]
		name = rest
	}
	special := map[string]rune{"enter": tea.KeyEnter, "up": tea.KeyUp, "down": tea.KeyDown, "left": tea.KeyLeft, "backspace": tea.KeyBackspace}
	if k.Code = special[name]; k.Code == 0 {
		k.Code = []rune(name)[0]
		if k.Mod == 0 {
			k.Text = name
		}
	}
	s.send(k)
}

func (s *chatScript) stream(line string) {
	word, arg, _ := strings.Cut(line, " ")
	text, err := strconv.Unquote(`"` + arg + `"`)
	if err != nil {
		text = arg
	}
	first, second, _ := strings.Cut(arg, " ")
	number, _ := strconv.Atoi(first)
	msg := deltaMsg{turn: s.net.turn}
	var d delta
	switch word {
	case "open":
		s.send(openedMsg{turn: s.net.turn, read: func() tea.Msg { return nil }})
		return
	case "refuse":
		code, text, _ := strings.Cut(second, " ")
		s.send(openedMsg{turn: s.net.turn, err: &APIError{Status: number, Code: code, Message: text}})
		return
	case "reasoning":
		d.Reasoning = text
	case "content":
		d.Content = text
	case "call":
		d.Calls = make([]callDelta, 1)
		d.Calls[0].Function.Name, d.Calls[0].Function.Arguments = first, second
	case "finish":
		d.Finish = arg
	case "usage":
		completion, _ := strconv.Atoi(second)
		d.Usage = &usage{number, completion}
	case "end":
		msg.err = io.EOF
	case "stopped":
		if !s.net.stopped {
			s.t.Fatal("the request has not been stopped")
		}
		msg.err = context.Canceled
	case "fail":
		msg.err = errors.New(arg)
	default:
		s.t.Fatalf("unknown line %q", line)
	}
	if msg.err == nil {
		msg.deltas = []delta{d}
	}
	s.send(msg)
}

func (s *chatScript) request() string {
	n := len(s.net.requests)
	if n == 0 {
		return "none\n"
	}
	r := s.net.requests[n-1]
	var b strings.Builder
	fmt.Fprintf(&b, "%d: model %s, effort %q\n", n, r.Model, r.ReasoningEffort)
	for _, m := range r.Messages {
		j, _ := json.Marshal(m.Content)
		fmt.Fprintf(&b, "%s %s\n", m.Role, j)
	}
	return strings.ReplaceAll(b.String(), `\t`, `<tab>`)
}

func (s *chatScript) show() string {
	if s.term.bad != nil {
		s.t.Fatal(s.term.bad)
	}
	lines, cursor := s.term.text()
	frame := max(cursor-s.m.screen.row, s.shown)
	for len(lines) < frame {
		lines = append(lines, "")
	}
	var b strings.Builder
	for _, line := range lines[s.shown:frame] {
		fmt.Fprintln(&b, line)
	}
	s.shown = frame
	fmt.Fprintln(&b, "--")
	for i, line := range lines[frame:] {
		if frame+i == cursor {
			line += fmt.Sprintf(" @%d", s.term.x)
		}
		fmt.Fprintln(&b, line)
	}
	if s.m.quitting {
		fmt.Fprintln(&b, "(quit)")
	}
	return b.String()
}
