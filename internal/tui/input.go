package tui

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"charm.land/bubbles/v2/key"
	"charm.land/bubbles/v2/textarea"
	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

func newInput(t theme) textarea.Model {
	in := textarea.New()
	in.ShowLineNumbers = false
	in.DynamicHeight = true
	in.MaxContentHeight = 9000 // textarea drops what is beyond 10000; see keep
	in.SetVirtualCursor(false)
	in.Placeholder = "Message"
	in.SetPromptFunc(2, func(p textarea.PromptInfo) string {
		if p.LineNumber == 0 {
			return "> "
		}
		return "  "
	})
	in.KeyMap.InsertNewline = key.NewBinding(key.WithKeys("alt+enter", "ctrl+j", "shift+enter"))
	in.KeyMap.Paste.SetEnabled(false) // it would run a clipboard program; terminals paste by themselves
	in.SetStyles(inputStyles(t))
	return in
}

func inputStyles(t theme) textarea.Styles {
	st := textarea.StyleState{}
	if t.attributes {
		st.Placeholder = lipgloss.NewStyle().Faint(true)
		st.Prompt = lipgloss.NewStyle().Bold(true)
		st.Selection = lipgloss.NewStyle().Reverse(true)
	}
	if t.colors {
		st.Prompt = st.Prompt.Foreground(lipgloss.Green)
	}
	return textarea.Styles{Focused: st, Blurred: st}
}

// key handles one key press.
func (m *model) key(k tea.KeyPressMsg) tea.Cmd {
	armed := m.armed
	m.armed, m.notice = false, ""
	switch k.String() {
	case "ctrl+c":
		m.cancelOrQuit(armed)
		return nil
	case "ctrl+d":
		if m.input.Value() == "" {
			m.quit()
			return nil
		}
	case "ctrl+t":
		m.toggleFold()
		return nil
	case "enter":
		return m.enter()
	case "up":
		if m.input.Line() == 0 && m.input.LineInfo().RowOffset == 0 {
			m.recall(m.history.older)
			return nil
		}
	case "down":
		info := m.input.LineInfo()
		if m.input.Line() == m.input.LineCount()-1 && info.RowOffset >= info.Height-1 {
			m.recall(m.history.newer)
			return nil
		}
	}
	var cmd tea.Cmd
	m.input, cmd = m.input.Update(k)
	return cmd
}

// cancelOrQuit is Ctrl+C: stop the answer, else clear the input, else quit; twice quits.
func (m *model) cancelOrQuit(armed bool) {
	if armed || (m.answer == nil && m.input.Value() == "") {
		m.quit()
		return
	}
	m.armed = true
	if m.answer != nil {
		m.answer.cancel()
		m.notice = "stopping; Ctrl+C again quits"
		return
	}
	m.input.Reset()
	m.notice = "Ctrl+C again quits"
}

func (m *model) quit() {
	if m.answer != nil {
		m.answer.cancel()
	}
	m.quitting = true
}

// toggleFold folds and unfolds the reasoning: of a running answer from here on, of the last one
// by printing it.
func (m *model) toggleFold() {
	if m.answer == nil && m.last != nil && m.last.hidden() {
		m.fold = false
		m.print(m.last.again(m.textWidth())...)
		return
	}
	m.fold = !m.fold
	m.notice = "reasoning is shown; Ctrl+T folds it"
	if m.fold {
		m.notice = "reasoning is folded; Ctrl+T shows it"
	} else if m.answer != nil && !m.answer.thought {
		m.print(m.answer.thinking(m.textWidth(), false)...)
	}
}

// enter sends the input or obeys it. What cannot be done now stays in the input.
func (m *model) enter() tea.Cmd {
	text := strings.TrimLeft(m.input.Value(), "\n")
	if strings.TrimSpace(text) == "" {
		return nil
	}
	isCommand := strings.HasPrefix(text, "/")
	if m.answer != nil && !isCommand {
		m.notice = "an answer is running; Ctrl+C stops it"
		return nil
	}
	m.history.add(text)
	m.input.Reset()
	if isCommand {
		return m.command(text)
	}
	m.printPrompt(text)
	return m.send(m.expandPastes(strings.TrimSpace(text)))
}

// printPrompt shows a message of the user.
func (m *model) printPrompt(text string) {
	for i, line := range m.theme.wrapPlain(visible(strings.TrimSpace(text)), userColor|bold, max(m.textWidth()-2, minWidth)) {
		mark := "  "
		if i == 0 {
			mark = m.theme.paint("> ", userColor|bold)
		}
		m.print(mark + line)
	}
	m.print("")
}

func (m *model) recall(step func(string) (string, bool)) {
	if text, ok := step(m.input.Value()); ok {
		m.input.SetValue(text)
		m.input.MoveToEnd()
	}
}

// A paste of this many lines or bytes is kept beside the input.
const (
	keepLines = 8
	keepBytes = 2000
)

// paste inserts text at the cursor.
func (m *model) paste(text string) {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	m.input.InsertString(m.keep(text))
}

// keep returns text if the input can hold it. A long text, which would fill the screen or be
// cut by the input, and one with tabs, which it would replace, is kept aside for the session;
// a mark stands for it.
func (m *model) keep(text string) string {
	if pasteLines(text) < keepLines && len(text) < keepBytes && !strings.Contains(text, "\t") {
		return text
	}
	m.pastes = append(m.pastes, text)
	return pasteMark(len(m.pastes), text)
}

func pasteLines(text string) int { return strings.Count(strings.TrimSuffix(text, "\n"), "\n") + 1 }

func pasteMark(n int, text string) string {
	if lines := pasteLines(text); lines > 1 {
		return fmt.Sprintf("[paste %d: %d lines]", n, lines)
	}
	return fmt.Sprintf("[paste %d: %d characters]", n, utf8.RuneCountInString(text))
}

// expandPastes puts the pasted texts in place of their marks.
func (m *model) expandPastes(text string) string {
	var pairs []string
	for i, p := range m.pastes {
		pairs = append(pairs, pasteMark(i+1, p), p)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// history holds what has been entered.
type history struct {
	entries []string
	at      int    // entry shown in the input; len(entries) is the draft
	draft   string // input before the history was entered
}

func (h *history) add(text string) {
	if n := len(h.entries); n == 0 || h.entries[n-1] != text {
		h.entries = append(h.entries, text)
	}
	h.at, h.draft = len(h.entries), ""
}

// older steps back; current is what the input shows.
func (h *history) older(current string) (string, bool) {
	if h.at == 0 {
		return "", false
	}
	if h.at == len(h.entries) {
		h.draft = current
	}
	h.at--
	return h.entries[h.at], true
}

// newer steps forward, at last to the draft.
func (h *history) newer(string) (string, bool) {
	if h.at >= len(h.entries) {
		return "", false
	}
	h.at++
	if h.at == len(h.entries) {
		return h.draft, true
	}
	return h.entries[h.at], true
}
