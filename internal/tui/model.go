package tui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"charm.land/bubbles/v2/textarea"
	tea "charm.land/bubbletea/v2"
)

// model is the state of the interactive chat. All of it is touched only by Update, of which
// bubbletea makes one call at a time. Network and files are reached through the commands that
// Update returns.
type model struct {
	opt   Options
	net   network
	now   func() time.Time
	theme theme

	width, height int
	input         textarea.Model
	history       history
	pastes        []string // texts that stand behind paste marks, for the whole session

	conv   conversation
	info   modelInfo // ID "" until a model is known
	answer *answer   // the running one, or nil
	last   *answer   // the previous one
	turns  int       // number of answers asked for, which identifies their messages
	failed string    // prompt of an answer that was not kept, for /retry
	fold   bool      // reasoning is folded
	stats  stats     // of the last answer

	notice   string // one line in place of the status, until the next key
	armed    bool   // the last key was Ctrl+C; another one quits
	screen   screen
	broken   error // the terminal could not be written
	quitting bool
}

// network is what the model needs of a server.
type network interface {
	// models returns a command that answers with a modelsMsg.
	models() tea.Cmd
	// open returns a command that sends a request and answers with an openedMsg, and a
	// function that stops the answer, now or later.
	open(turn int, r chatRequest) (tea.Cmd, context.CancelFunc)
}

type (
	// startMsg comes when bubbletea has set up the terminal; nothing may be drawn before.
	startMsg struct{}
	// settleMsg comes some time after a start or a change of size, at which bubbletea erases
	// what is below the cursor and hides it.
	settleMsg struct{}
	// tickMsg moves the clock of the running answer with this number.
	tickMsg int
	// modelsMsg tells what the server calls its model.
	modelsMsg struct {
		info modelInfo
		err  error
	}
	// openedMsg is the server's first reaction to a request.
	openedMsg struct {
		turn int
		info modelInfo // if it had to be looked up
		read tea.Cmd   // waits for the next deltaMsg; to be used again after each
		err  error
	}
	// deltaMsg brings the next pieces of an answer. err is io.EOF with the last ones.
	deltaMsg struct {
		turn   int
		deltas []delta
		err    error
	}
)

const (
	tickEvery  = 100 * time.Millisecond
	startAfter = 50 * time.Millisecond // several frames of bubbletea
	settle     = 100 * time.Millisecond
)

// runInteractive runs the terminal program until the user quits or ctx ends.
func runInteractive(ctx context.Context, o Options, c *client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := newModel(o, &httpNetwork{ctx: ctx, client: c, model: o.Model}, time.Now)
	m.print("Chat with "+c.base, "/help lists commands and keys.", "")
	env := o.Env
	if getenv(env, "NO_COLOR") != "" {
		env = append(env[:len(env):len(env)], "NO_COLOR=1") // bubbletea wants a number
	}
	p := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(o.In), tea.WithOutput(o.Out), tea.WithEnvironment(env))
	_, err := p.Run()
	if !m.quitting { // the frame still stands
		m.broken = cmp.Or(m.broken, m.screen.close())
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err = cmp.Or(err, m.broken); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}

func newModel(o Options, n network, now func() time.Time) *model {
	t := newTheme(o.Env)
	m := &model{
		opt: o, net: n, now: now, theme: t, width: 80, height: 24,
		conv: conversation{System: o.System, Effort: o.Effort},
		info: modelInfo{ID: o.Model}, input: newInput(t), screen: screen{w: o.Out},
	}
	m.resize(m.width, m.height)
	return m
}

func (m *model) Init() tea.Cmd {
	return tea.Batch(m.input.Focus(), after(startAfter, startMsg{}))
}

func after(d time.Duration, msg tea.Msg) tea.Cmd {
	return tea.Tick(d, func(time.Time) tea.Msg { return msg })
}

// Update handles one message and brings the screen up to date.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	cmd := m.handle(msg)
	if m.quitting {
		m.broken = m.screen.close()
		return m, tea.Quit
	}
	if m.broken = m.screen.draw(m.view()); m.broken != nil {
		return m, tea.Quit
	}
	return m, cmd
}

// View is empty: Update draws by itself; see screen.
func (m *model) View() tea.View { return tea.NewView("") }

func (m *model) handle(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.resize(msg.Width, msg.Height)
		m.screen.invalidate()
		return after(settle, settleMsg{})
	case settleMsg:
		m.screen.invalidate()
	case tea.KeyPressMsg:
		return m.key(msg)
	case tea.PasteMsg:
		m.paste(msg.Content)
	case startMsg:
		m.screen.ready = true
		return tea.Batch(m.net.models(), after(settle, settleMsg{}))
	case modelsMsg:
		if msg.err != nil {
			m.fail(msg.err)
		} else {
			m.info = msg.info
		}
	case savedMsg:
		m.saved(msg)
	case loadedMsg:
		m.loaded(msg)
	case tickMsg:
		if m.answer != nil && m.answer.turn == int(msg) {
			return m.tick()
		}
	case openedMsg:
		return m.opened(msg)
	case deltaMsg:
		return m.received(msg)
	default:
		var cmd tea.Cmd
		m.input, cmd = m.input.Update(msg)
		return cmd
	}
	return nil
}

func (m *model) tick() tea.Cmd { return after(tickEvery, tickMsg(m.answer.turn)) }

func (m *model) resize(width, height int) {
	if width <= 0 || height <= 0 {
		return // not known
	}
	m.width, m.height = width, height
	m.input.MaxHeight = max(1, min(10, height/3))
	m.input.SetWidth(m.textWidth())
}

// textWidth is the width of printed text. The last column stays free: after a character there,
// terminals differ in where the cursor is.
func (m *model) textWidth() int { return max(m.width-1, minWidth) }

// print adds lines to the scrollback.
func (m *model) print(lines ...string) { m.screen.print(lines...) }

// say prints one message of the program itself, followed by a blank line.
func (m *model) say(st style, format string, args ...any) {
	m.print(m.theme.wrapPlain(visible(fmt.Sprintf(format, args...)), st, m.textWidth())...)
	m.print("")
}

func (m *model) fail(err error) { m.say(errorColor, "error: %s", oneLine(err.Error())) }

// send starts the answer to a prompt. The turn joins the conversation now and leaves it again
// if it brings no answer.
func (m *model) send(prompt string) tea.Cmd {
	m.failed = ""
	m.conv.Turns = append(m.conv.Turns, turn{Prompt: prompt})
	m.turns++
	open, cancel := m.net.open(m.turns, m.opt.request(m.info.ID, &m.conv))
	m.answer = &answer{turn: m.turns, cancel: cancel, started: m.now(), theme: m.theme, md: newMarkdown(m.theme)}
	return tea.Batch(open, m.tick())
}

func (m *model) opened(msg openedMsg) tea.Cmd {
	a := m.answer
	if a == nil || a.turn != msg.turn {
		return nil
	}
	if msg.err != nil {
		m.finish(msg.err)
		return nil
	}
	if msg.info.ID != "" {
		m.info = msg.info
	}
	a.read = msg.read
	return a.read
}

func (m *model) received(msg deltaMsg) tea.Cmd {
	a := m.answer
	if a == nil || a.turn != msg.turn {
		return nil
	}
	for _, d := range msg.deltas {
		m.print(a.add(d, m.now(), m.textWidth(), m.fold)...)
	}
	if msg.err != nil {
		m.finish(msg.err)
		return nil
	}
	return a.read
}

// finish ends the running answer: err is io.EOF for a complete one. What there is of the
// final text is kept; a turn without any leaves the conversation.
func (m *model) finish(err error) {
	a := m.answer
	m.answer, m.last, m.notice = nil, a, ""
	a.cancel() // frees the connection
	m.print(a.end(m.now(), m.textWidth(), m.fold)...)
	m.stats = a.stats()

	t := &m.conv.Turns[len(m.conv.Turns)-1]
	t.Reasoning, t.Content = a.reasoning, a.content
	kept := t.Content != ""
	if !kept {
		m.failed = t.Prompt
		m.conv.Turns = m.conv.Turns[:len(m.conv.Turns)-1]
	}
	note := finishNote(a.ended)
	switch {
	case err == io.EOF && kept && note == "":
	case err == io.EOF && kept:
		m.say(dim, "%s", note)
	case err == io.EOF && note != "":
		m.say(errorColor, "no final answer: %s; /retry asks again", note)
	case err == io.EOF && len(a.calls) > 0:
		m.say(errorColor, "no final answer: the model called a tool, and this chat offers none; /retry asks again")
	case err == io.EOF:
		m.say(errorColor, "no final answer: the server sent an empty one; /retry asks again")
	case errors.Is(err, context.Canceled) && kept:
		m.say(dim, "stopped; the part above is kept")
	case errors.Is(err, context.Canceled):
		m.say(dim, "stopped; /retry asks again")
	case kept:
		m.say(errorColor, "error: %s; the part above is kept, /retry asks again", oneLine(err.Error()))
	default:
		m.say(errorColor, "error: %s; /retry asks again", oneLine(err.Error()))
	}
}

// httpNetwork is the network of the running program.
type httpNetwork struct {
	ctx    context.Context // of the program; bubbletea's commands take none
	client *client
	model  string // as asked for
}

func (n *httpNetwork) models() tea.Cmd {
	return func() tea.Msg {
		info, err := n.client.pickModel(n.ctx, n.model)
		return modelsMsg{info, err}
	}
}

func (n *httpNetwork) open(turn int, r chatRequest) (tea.Cmd, context.CancelFunc) {
	ctx, cancel := context.WithCancel(n.ctx)
	return func() tea.Msg {
		msg := openedMsg{turn: turn}
		if r.Model == "" { // it could not be looked up when the program started
			if msg.info, msg.err = n.client.pickModel(ctx, ""); msg.err != nil {
				return msg
			}
			r.Model = msg.info.ID
		}
		stream, err := n.client.chat(ctx, r)
		msg.read, msg.err = func() tea.Msg { return readDeltas(ctx, stream, turn) }, err
		return msg
	}, cancel
}

// maxBatch bounds the deltas of one message, so that a fast server cannot hold up the screen.
const maxBatch = 64

// readDeltas waits for the next delta and takes those that have arrived with it.
func readDeltas(ctx context.Context, s *chatStream, turn int) tea.Msg {
	msg := deltaMsg{turn: turn}
	for len(msg.deltas) < maxBatch {
		d, err := s.next(ctx)
		if err != nil {
			s.close()
			msg.err = err
			break
		}
		msg.deltas = append(msg.deltas, d)
		if !s.pending() {
			break
		}
	}
	return msg
}
