package tui

import (
	"io"
	"slices"
	"strconv"
	"strings"
)

// screen draws on a terminal in inline mode: printed lines go up into the scrollback for good,
// and below them stands a frame of a few lines that is drawn anew as it changes. Both change in
// one write, so that the input at the end of the frame does not jump when lines move from the
// frame to the scrollback. (bubbletea v2.0.9 prints and draws apart from each other, and leaves
// lines behind when a frame shrinks above the cursor; hence this type, and a View that stays
// empty.)
//
// Frame lines must be narrower than the terminal, and frames lower than it. Printed lines may
// have any width; the terminal wraps them.
type screen struct {
	w     io.Writer
	ready bool // nothing is drawn before
	queue []string
	frame []string // as drawn
	row   int      // cursor's line in it
	stale bool     // the terminal may show something else
}

// print adds lines to what the next draw prints.
func (s *screen) print(lines ...string) { s.queue = append(s.queue, lines...) }

// invalidate makes the next draw repeat the whole frame.
func (s *screen) invalidate() { s.stale = true }

const (
	beginUpdate = "\x1b[?2026h\x1b[?25l" // synchronized output, where it is known; cursor off
	endUpdate   = "\x1b[?25h\x1b[?2026l"
	eraseLine   = "\x1b[K" // to the right
	eraseBelow  = "\x1b[J" // to the right and all lines below
)

// draw prints the queue and shows a frame with the cursor at column x of line y.
func (s *screen) draw(frame []string, x, y int) error {
	if !s.ready {
		return nil
	}
	var b strings.Builder
	b.WriteString(beginUpdate + "\r")
	b.WriteString(move(s.row, 'A'))
	if len(s.queue) > 0 || s.stale {
		b.WriteString(eraseBelow)
		for _, line := range s.queue {
			b.WriteString(line + "\r\n")
		}
		s.frame = nil
	}
	for i, line := range frame {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if i >= len(s.frame) || s.frame[i] != line {
			b.WriteString(line + eraseLine)
		}
	}
	if len(frame) < len(s.frame) {
		b.WriteString(s.dropBelow(frame))
	}
	b.WriteString("\r")
	b.WriteString(move(max(len(frame)-1, 0)-y, 'A'))
	b.WriteString(move(x, 'C') + endUpdate)
	s.queue, s.frame, s.row, s.stale = nil, slices.Clone(frame), y, false
	_, err := io.WriteString(s.w, b.String())
	return err
}

// dropBelow erases the lines of the old frame below the new one, from the last line of which
// the cursor comes.
func (s *screen) dropBelow(frame []string) string {
	if len(frame) == 0 {
		return eraseBelow
	}
	return "\r\n" + eraseBelow + move(1, 'A')
}

// close prints what is left and removes the frame.
func (s *screen) close() error { return s.draw(nil, 0, 0) }

// move is a cursor movement by n, which may be 0: up is A, right is C.
func move(n int, direction byte) string {
	if n <= 0 {
		return ""
	}
	return "\x1b[" + strconv.Itoa(n) + string(direction)
}
