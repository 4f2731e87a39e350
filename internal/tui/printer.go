package tui

import (
	"strings"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

// printer puts lines into the scrollback above the program. It exists because bubbletea
// (v2.0.9) asks for care there: prints of two commands may change places; a print that
// together with the live view is higher than the screen drags the view into the scrollback;
// and a line whose width is a multiple of the screen's is erased or counted wrongly. So there is
// one print at a time, of few lines, of safe widths.
type printer struct {
	queue    []string
	ready    bool // the first frame is on the screen
	printing bool // a print is on its way; printedMsg reports its end
}

// printedMsg says that the last print is on the screen.
type printedMsg struct{}

// maxLive is the greatest height of the live view; the rest of the screen is for prints.
func maxLive(height int) int { return max(height*2/3, min(height-1, 4)) }

// next returns the command of the next print, or nil.
func (p *printer) next(width, height int) tea.Cmd {
	if !p.ready || p.printing || len(p.queue) == 0 {
		return nil
	}
	p.printing = true
	text := p.take(width, height)
	return tea.Sequence(tea.Println(text), func() tea.Msg { return printedMsg{} })
}

// rest returns a command that prints all that is left, for the end of the program.
func (p *printer) rest(width, height int) tea.Cmd {
	var cmds []tea.Cmd
	for len(p.queue) > 0 {
		cmds = append(cmds, tea.Println(p.take(width, height)))
	}
	return tea.Sequence(cmds...)
}

// take removes as many lines from the queue as one print may have rows; at least one.
func (p *printer) take(width, height int) string {
	room := max(height-maxLive(height), 1)
	var out []string
	for rows := 0; len(p.queue) > 0; {
		lines := printable(p.queue[0], width, room)
		for len(lines) > 0 && rows+rowsOf(lines[0], width) <= room {
			rows += rowsOf(lines[0], width)
			out = append(out, lines[0])
			lines = lines[1:]
		}
		if len(lines) > 0 {
			p.queue = append(lines, p.queue[1:]...)
			break
		}
		p.queue = p.queue[1:]
	}
	if text := strings.Join(out, "\n"); text != "" {
		return text
	}
	return " " // bubbletea prints nothing for an empty text
}

// printable makes a line safe to print. The terminal may wrap a long line of code, which then
// is still one line when it is copied; but a line of wide characters, of which the terminal may
// leave columns free, or of more rows than there is room for, is cut into rows here.
func printable(line string, width, room int) []string {
	n := columns(line)
	if n < width {
		return []string{line}
	}
	if n%width == 0 {
		line, n = line+" ", n+1
	}
	if utf8.RuneCountInString(ansi.Strip(line)) != n || rowsOf(line, width) > room {
		return strings.Split(ansi.Hardwrap(line, max(width-1, 1), true), "\n")
	}
	return []string{line}
}

// rowsOf is the number of screen rows of a printable line.
func rowsOf(line string, width int) int { return max(1, (columns(line)+width-1)/max(width, 1)) }
