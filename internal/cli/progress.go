package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"hearth/internal/model"
)

const (
	progressAfter = time.Second            // shorter tasks show nothing
	progressFrame = 100 * time.Millisecond // between redraws on a terminal
	progressLine  = 5 * time.Second        // between lines elsewhere
)

// progress shows how far a long task has come: on a terminal in one line that is redrawn, elsewhere in a plain line every
// few seconds. Tasks of less than a second show nothing. Its methods may be called from several goroutines.
type progress struct {
	w     io.Writer
	label string
	total int64              // 0: unknown
	unit  func(int64) string // prints an amount
	width func() int         // columns of the terminal; nil: not a terminal
	now   func() time.Time

	mu          sync.Mutex
	start, next time.Time // begin of the task, and when the next line is due
	first, done int64     // a resumed task does not begin at 0
	shown       bool
}

// newProgress begins a task of total bytes, or of total things if count is set. The first set tells where it begins.
func newProgress(w io.Writer, label string, total int64, counted bool) *progress {
	p := &progress{w: w, label: label, total: total, unit: model.Bytes, now: time.Now, first: -1}
	if counted {
		p.unit = func(n int64) string { return fmt.Sprint(n) }
	}
	if isTerminal(w) {
		fd := int(w.(*os.File).Fd())
		p.width = func() int {
			if width, _, err := term.GetSize(fd); err == nil && width > 0 {
				return width
			}
			return 80
		}
	}
	p.begin()
	return p
}

func (p *progress) begin() {
	p.start = p.now()
	p.next = p.start.Add(progressAfter)
}

// set reports that done of the total is finished.
func (p *progress) set(done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = max(done, 0)
	if p.first < 0 {
		p.first = p.done
	}
	now := p.now()
	if now.Before(p.next) {
		return
	}
	p.shown = true
	if p.width == nil {
		p.next = now.Add(progressLine)
		fmt.Fprintln(p.w, strings.Join(p.parts(now), "  "))
		return
	}
	p.next = now.Add(progressFrame)
	fmt.Fprintf(p.w, "\r%s\x1b[K", p.fit(p.parts(now), p.width()-1))
}

// finish ends the task. What has been shown is replaced by, or followed by, one line about the whole.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.shown {
		return
	}
	now := p.now()
	line := fmt.Sprintf("%s  %s in %s", p.label, p.unit(p.done), duration(now.Sub(p.start)))
	if rate := p.rate(now); rate >= 1 {
		line += ", " + p.unit(int64(rate)) + "/s"
	}
	if p.width != nil {
		line = "\r" + line + "\x1b[K"
	}
	fmt.Fprintln(p.w, line)
	p.shown = false
}

// rate is the average so far, per second.
func (p *progress) rate(now time.Time) float64 {
	if s := now.Sub(p.start).Seconds(); s > 0 && p.done > p.first {
		return float64(p.done-p.first) / s
	}
	return 0
}

// parts are the pieces of a line in the order of their weight: label, share, amount, rate, time left.
func (p *progress) parts(now time.Time) []string {
	parts := []string{p.label}
	amount := p.unit(p.done)
	if p.total > 0 {
		parts = append(parts, fmt.Sprintf("%3d%%", min(100*p.done/p.total, 100)))
		amount += " of " + p.unit(p.total)
	}
	parts = append(parts, amount)
	rate := p.rate(now)
	if rate >= 1 {
		parts = append(parts, p.unit(int64(rate))+"/s")
	}
	if left := p.total - p.done; left > 0 && rate > 0 {
		parts = append(parts, duration(time.Duration(float64(left)/rate*float64(time.Second)))+" left")
	}
	return parts
}

// fit joins as many parts as the width holds, with a bar in what remains.
func (p *progress) fit(parts []string, width int) string {
	line := parts[0]
	for i, part := range parts[1:] {
		if utf8.RuneCountInString(line)+2+len(part) > width {
			parts = parts[:i+1]
			break
		}
		line += "  " + part
	}
	if room := min(width-utf8.RuneCountInString(line)-4, 40); p.total > 0 && room >= 10 && len(parts) > 1 {
		full := int(min(p.done, p.total) * int64(room) / p.total)
		bar := "[" + strings.Repeat("#", full) + strings.Repeat("-", room-full) + "]"
		line = strings.Join(append([]string{parts[0], bar}, parts[1:]...), "  ")
	}
	runes := []rune(line)
	return string(runes[:min(len(runes), max(width, 0))])
}

// duration prints a time for people: "8 s", "3 min 20 s", "1 h 5 min".
func duration(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	}
	return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
}
