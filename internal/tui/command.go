package tui

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
)

// command is one slash command. What a run returns is carried out by bubbletea.
type command struct {
	name, arg, help string
	idle            bool // refused while an answer is running
	run             func(m *model, arg string) tea.Cmd
}

// commandTable lists the commands in the order of /help.
func commandTable() []command {
	return []command{
		{"/help", "", "show this list", false, (*model).cmdHelp},
		{"/clear", "", "forget the conversation", true, (*model).cmdClear},
		{"/retry", "", "ask for the last answer again", true, (*model).cmdRetry},
		{"/effort", "low|medium|high", "set how long the model thinks", false, (*model).cmdEffort},
		{"/system", "TEXT", "set the system message; - removes it", false, (*model).cmdSystem},
		{"/save", "FILE", "save the conversation", false, (*model).cmdSave},
		{"/load", "FILE", "load a saved conversation", true, (*model).cmdLoad},
		{"/quit", "", "leave", false, (*model).cmdQuit},
	}
}

var keyHelp = [][2]string{
	{"Enter", "send"},
	{"Alt+Enter, Ctrl+J", "new line"},
	{"Up, Down", "earlier messages"},
	{"Ctrl+T", "fold or show the reasoning"},
	{"Ctrl+C", "stop the answer; twice: leave"},
	{"Ctrl+D", "leave"},
}

type (
	savedMsg struct {
		path  string
		turns int
		err   error
	}
	loadedMsg struct {
		path string
		conv *conversation
		err  error
	}
)

// command obeys a line that begins with a slash.
func (m *model) command(line string) tea.Cmd {
	name, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	table := commandTable()
	i := slices.IndexFunc(table, func(c command) bool { return c.name == name })
	switch {
	case i < 0:
		m.say(errorColor, "unknown command %s; /help lists them. To send a message that begins with a slash, put a space before it.", name)
		return nil
	case table[i].idle && m.answer != nil:
		m.say(errorColor, "%s: an answer is running; Ctrl+C stops it", name)
		return nil
	}
	return table[i].run(m, strings.TrimSpace(arg))
}

func (m *model) cmdHelp(string) tea.Cmd {
	var rows [][2]string
	for _, c := range commandTable() {
		rows = append(rows, [2]string{strings.TrimSpace(c.name + " " + c.arg), c.help})
	}
	m.print(m.columns(append(rows, keyHelp...))...)
	m.print("")
	return nil
}

// columns lays out pairs side by side, or below each other on a narrow screen.
func (m *model) columns(rows [][2]string) []string {
	left := 0
	for _, r := range rows {
		left = max(left, columns(r[0])+2)
	}
	width := m.textWidth()
	var lines []string
	for _, r := range rows {
		first := m.theme.paint(r[0], bold)
		rest := strings.Repeat(" ", left)
		if width-left < 24 {
			lines, rest = append(lines, first), "  "
			first = rest
		} else {
			first += rest[columns(r[0]):]
		}
		for _, text := range m.theme.wrapPlain(r[1], 0, max(width-columns(rest), minWidth)) {
			lines = append(lines, first+text)
			first = rest
		}
	}
	return lines
}

func (m *model) cmdClear(string) tea.Cmd {
	m.conv.Turns, m.failed, m.stats = nil, "", stats{}
	m.say(dim, "the conversation is forgotten")
	return nil
}

func (m *model) cmdRetry(string) tea.Cmd {
	prompt := m.failed
	if n := len(m.conv.Turns); prompt == "" && n > 0 {
		prompt = m.conv.Turns[n-1].Prompt
		m.conv.Turns = m.conv.Turns[:n-1]
	}
	if prompt == "" {
		m.say(errorColor, "/retry: there is no message yet")
		return nil
	}
	m.say(dim, "asking again: %s", shorten(oneLine(prompt), 60))
	return m.send(prompt)
}

func (m *model) cmdEffort(arg string) tea.Cmd {
	if arg == "" {
		m.say(dim, "effort is %s", m.effort())
		return nil
	}
	if err := checkEffort(arg); err != nil {
		m.fail(err)
		return nil
	}
	m.conv.Effort = arg
	m.say(dim, "effort is %s", m.effort())
	return nil
}

func (m *model) effort() string {
	if m.conv.Effort == "" {
		return "the server's default"
	}
	return m.conv.Effort
}

func (m *model) cmdSystem(arg string) tea.Cmd {
	switch arg {
	case "":
	case "-":
		m.conv.System = ""
	default:
		m.conv.System = m.expandPastes(arg)
	}
	if m.conv.System == "" {
		m.say(dim, "there is no system message")
	} else {
		m.say(dim, "system message: %s", m.conv.System)
	}
	return nil
}

func (m *model) cmdSave(arg string) tea.Cmd {
	if arg == "" {
		m.say(errorColor, "/save needs the name of a file")
		return nil
	}
	path, c := homePath(arg, m.opt.Env), m.conv
	if m.answer != nil { // its turn is not complete
		c.Turns = c.Turns[:len(c.Turns)-1]
	}
	c.Turns = slices.Clone(c.Turns)
	return func() tea.Msg { return savedMsg{path, len(c.Turns), c.save(path)} }
}

func (m *model) saved(msg savedMsg) {
	if msg.err != nil {
		m.fail(msg.err)
		return
	}
	m.say(dim, "saved %s to %s", count(msg.turns, "turn"), msg.path)
}

func (m *model) cmdLoad(arg string) tea.Cmd {
	if arg == "" {
		m.say(errorColor, "/load needs the name of a file")
		return nil
	}
	path := homePath(arg, m.opt.Env)
	return func() tea.Msg {
		c, err := loadConversation(path)
		return loadedMsg{path, c, err}
	}
}

// loaded replaces the conversation and shows it, without the reasoning.
func (m *model) loaded(msg loadedMsg) {
	switch {
	case msg.err != nil:
		m.fail(msg.err)
		return
	case m.answer != nil:
		m.say(errorColor, "%s is not loaded: an answer has begun meanwhile", msg.path)
		return
	}
	m.conv, m.failed, m.stats, m.last = *msg.conv, "", stats{}, nil
	for _, t := range m.conv.Turns {
		m.printPrompt(t.Prompt)
		md := newMarkdown(m.theme)
		m.print(md.push(t.Content, m.textWidth())...)
		m.print(md.finish(m.textWidth())...)
		m.print("")
		m.history.add(m.keep(t.Prompt))
	}
	m.say(dim, "loaded %s from %s", count(len(m.conv.Turns), "turn"), msg.path)
}

func (m *model) cmdQuit(string) tea.Cmd {
	m.quit()
	return nil
}

// homePath resolves a leading ~/.
func homePath(path string, env []string) string {
	rest, ok := strings.CutPrefix(path, "~"+string(os.PathSeparator))
	if home := getenv(env, "HOME"); ok && home != "" {
		return filepath.Join(home, rest)
	}
	return path
}
