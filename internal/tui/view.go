package tui

import (
	"fmt"
	"strings"
)

// view lays out the frame: the open end of the answer, the input and the status line, and the
// place of the cursor. It is lower than the screen; of a longer open end the last lines are shown.
func (m *model) view() (lines []string, x, y int) {
	input := strings.Split(m.input.View(), "\n")
	if m.answer != nil {
		lines = m.answer.preview(m.textWidth(), m.fold)
		if room := max(m.height-len(input)-3, 0); len(lines) > room {
			lines = lines[len(lines)-room:]
		}
		if len(lines) > 0 {
			lines = append(lines, "")
		}
	}
	if c := m.input.Cursor(); c != nil {
		x, y = min(c.X, m.textWidth()-1), len(lines)+c.Y
	}
	lines = append(append(lines, input...), m.status())
	for i, line := range lines {
		lines[i] = strings.TrimRight(shorten(line, m.width-1), " ")
	}
	return lines, x, y
}

var spinner = [...]string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// status is the last line: what is going on, or the notice about the last key.
func (m *model) status() string {
	if m.notice != "" {
		return m.theme.paint(shorten(m.notice, m.textWidth()), bold)
	}
	var parts []part
	s := m.stats
	if a := m.answer; a != nil {
		d := m.now().Sub(a.started)
		frame := spinner[int(d/tickEvery)%len(spinner)]
		parts = append(parts, part{long: fmt.Sprintf("%s %s %d s", frame, a.state(), int(d.Seconds())), keep: 9})
		s = a.stats()
	}
	model := m.info.ID
	if model == "" {
		model = "no model yet"
	}
	parts = append(parts, part{long: oneLine(model), short: oneLine(model[strings.LastIndex(model, "/")+1:]), keep: 8})
	if e := m.conv.Effort; e != "" {
		parts = append(parts, part{long: "effort " + e, short: e, keep: 5})
	}
	approx := ""
	if s.estimate {
		approx = "~"
	}
	if s.completion > 0 {
		parts = append(parts, part{approx + count(s.completion, "token"), fmt.Sprintf("%s%d tok", approx, s.completion), 4})
	}
	if s.rate > 0 {
		parts = append(parts, part{fmt.Sprintf("%s%.1f tokens/s", approx, s.rate), fmt.Sprintf("%s%.0f tok/s", approx, s.rate), 6})
	}
	if used := s.prompt + s.completion; s.prompt > 0 {
		p := part{long: "context " + thousands(used), keep: 7}
		p.short = p.long
		if m.info.MaxLen > 0 {
			percent := fmt.Sprintf("%.0f%%", 100*float64(used)/float64(m.info.MaxLen))
			p.long = fmt.Sprintf("context %s of %s", percent, thousands(m.info.MaxLen))
			p.short = "ctx " + percent
		}
		parts = append(parts, p)
	}
	return m.theme.paint(fitParts(parts, m.textWidth()), dim)
}

// part is a piece of the status line. Where room lacks, first the short forms are taken, then
// the parts with the least keep are left out.
type part struct {
	long, short string
	keep        int
}

const partGap = " · "

func fitParts(parts []part, width int) string {
	join := func() string {
		var s []string
		for _, p := range parts {
			s = append(s, p.long)
		}
		return strings.Join(s, partGap)
	}
	if s := join(); columns(s) <= width {
		return s
	}
	for i, p := range parts {
		if p.short != "" {
			parts[i].long = p.short
		}
	}
	for len(parts) > 1 && columns(join()) > width {
		least := 0
		for i, p := range parts {
			if p.keep < parts[least].keep {
				least = i
			}
		}
		parts = append(parts[:least], parts[least+1:]...)
	}
	return shorten(join(), width)
}

// count prints "1 token", "1,204 tokens".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}

// thousands groups the digits of a count, which is not negative.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
