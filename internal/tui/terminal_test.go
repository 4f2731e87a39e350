package tui

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rivo/uniseg"
	"pgregory.net/rapid"
)

// fakeTerminal understands what screen writes, as a terminal does: deferred wrap at the last
// column, scrolling at the last line, CR, LF, and the sequences CUU, CUF, EL, ED, SGR and modes.
// Anything else fails loudly.
type fakeTerminal struct {
	mu            sync.Mutex
	changed       chan struct{} // holds a token after a write
	width, height int
	above         []string // scrolled away
	lines         [][]string
	x, y          int
	pending       bool // the cursor stands behind the last column
	bad           error
}

func newFakeTerminal(width, height int) *fakeTerminal {
	t := &fakeTerminal{width: width, height: height, changed: make(chan struct{}, 1)}
	for range height {
		t.lines = append(t.lines, t.blank())
	}
	return t
}

func (t *fakeTerminal) blank() []string { return make([]string, t.width) }

func (t *fakeTerminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := string(p); s != ""; {
		switch s[0] {
		case '\r':
			t.x, t.pending = 0, false
			s = s[1:]
		case '\n':
			t.down()
			s = s[1:]
		case '\x1b':
			s = t.escape(s[1:])
		default:
			cluster, rest, width, _ := uniseg.FirstGraphemeClusterInString(s, -1)
			if i := strings.IndexAny(cluster, "\r\n\x1b"); i > 0 {
				cluster, rest = s[:i], s[i:]
			}
			t.put(cluster, width)
			s = rest
		}
	}
	select {
	case t.changed <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (t *fakeTerminal) down() {
	t.pending = false
	if t.y+1 < t.height {
		t.y++
		return
	}
	t.above = append(t.above, strings.TrimRight(t.row(0), " "))
	t.lines = append(t.lines[1:], t.blank())
}

func (t *fakeTerminal) put(cluster string, width int) {
	if t.pending || t.x+width > t.width {
		t.x = 0
		t.down()
	}
	t.lines[t.y][t.x] = cluster
	for i := 1; i < width; i++ {
		t.lines[t.y][t.x+i] = "\x00" // covered by the wide character
	}
	t.x += width
	if t.x == t.width {
		t.x, t.pending = t.width-1, true
	}
}

func (t *fakeTerminal) escape(s string) string {
	if !strings.HasPrefix(s, "[") {
		return t.osc(s)
	}
	end := strings.IndexFunc(s[1:], func(r rune) bool { return r >= 0x40 }) + 1
	arg, final := s[1:end], s[end]
	n, err := strconv.Atoi(arg)
	if err != nil {
		n = 1
	}
	switch final {
	case 'A':
		t.y, t.pending = max(t.y-n, 0), false
	case 'C':
		t.x, t.pending = min(t.x+n, t.width-1), false
	case 'J':
		for y := t.y + 1; y < t.height; y++ {
			t.lines[y] = t.blank()
		}
		fallthrough
	case 'K':
		clear(t.lines[t.y][t.x:])
	case 'm', 'h', 'l', 'u', 'p', 'n', 'c', 'q', 'z':
	default:
		t.bad = fmt.Errorf("unknown sequence %q", s[:end+1])
	}
	return s[end+1:]
}

// osc skips a string sequence.
func (t *fakeTerminal) osc(s string) string {
	if _, rest, ok := strings.Cut(s, "\x1b\\"); ok {
		return rest
	}
	if _, rest, ok := strings.Cut(s, "\a"); ok {
		return rest
	}
	t.bad = fmt.Errorf("unknown escape %q", s)
	return ""
}

func (t *fakeTerminal) row(y int) string {
	var b strings.Builder
	for _, c := range t.lines[y] {
		switch c {
		case "":
			b.WriteByte(' ')
		case "\x00":
		default:
			b.WriteString(c)
		}
	}
	return b.String()
}

// text returns the scrollback and the screen, and the line of the cursor in it.
func (t *fakeTerminal) text() (lines []string, cursor int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines = append(lines, t.above...)
	for y := range t.lines {
		lines = append(lines, strings.TrimRight(t.row(y), " "))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines, len(t.above) + t.y
}

func TestFakeTerminal(t *testing.T) {
	term := newFakeTerminal(5, 2)
	fmt.Fprint(term, "12345\r\nab\x1b[1mcdefg\r\n日本語\x1b[A\r\x1b[2C\x1b[K")
	lines, cursor := term.text()
	if diff := cmp.Diff([]string{"12345", "abcde", "fg", "日", "語"}, lines); diff != "" {
		t.Error(diff)
	}
	if cursor != 3 {
		t.Errorf("cursor on line %d, want 3", cursor)
	}
}

// TestScreen draws random frames and prints, and expects the terminal to show all printed
// lines, wrapped, and then the frame; nothing else, and nothing twice.
func TestScreen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width, height := rapid.IntRange(4, 12).Draw(t, "width"), rapid.IntRange(3, 8).Draw(t, "height")
		term := newFakeTerminal(width, height)
		s := screen{w: term, ready: true}
		letters := rapid.SampledFrom([]rune("abc日é"))
		var printed []string
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			line := rapid.StringOfN(letters, 0, 25, -1)
			news := rapid.SliceOfN(line, 0, 12).Draw(t, fmt.Sprint("print", i))
			frame := rapid.SliceOfN(rapid.StringOfN(letters, 1, (width-1)/2, -1), 1, height-1).Draw(t, fmt.Sprint("frame", i))
			y := rapid.IntRange(0, len(frame)-1).Draw(t, "y")
			if rapid.Bool().Draw(t, "stale") {
				s.invalidate()
			}
			s.print(news...)
			if err := s.draw(frame, 1, y); err != nil {
				t.Fatal(err)
			}
			for _, n := range news {
				printed = append(printed, wrapHard(n, width)...)
			}
			lines, cursor := term.text()
			if diff := cmp.Diff(append(printed[:len(printed):len(printed)], frame...), lines); diff != "" {
				t.Fatalf("step %d (-want +got):\n%s", i, diff)
			}
			if want := len(printed) + y; cursor != want || term.x != 1 {
				t.Fatalf("step %d: cursor on line %d column %d, want %d, 1", i, cursor, term.x, want)
			}
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		for len(printed) > 0 && printed[len(printed)-1] == "" {
			printed = printed[:len(printed)-1]
		}
		if lines, _ := term.text(); len(lines) != len(printed) || term.bad != nil {
			t.Fatalf("after close: %q, %v, want %q", lines, term.bad, printed)
		}
	})
}

// wrapHard cuts a line as a terminal does.
func wrapHard(s string, width int) []string {
	lines := []string{""}
	used := 0
	for _, r := range s {
		w := columns(string(r))
		if used+w > width {
			lines, used = append(lines, ""), 0
		}
		lines[len(lines)-1] += string(r)
		used += w
	}
	return lines
}

// TestScreenDiff checks that a line that has not changed is not written again.
func TestScreenDiff(t *testing.T) {
	var out bytes.Buffer
	s := screen{w: &out, ready: true}
	s.draw([]string{"one", "two"}, 0, 0)
	out.Reset()
	s.draw([]string{"one", "TWO"}, 0, 0)
	if got := out.String(); strings.Contains(got, "one") || !strings.Contains(got, "TWO") {
		t.Errorf("second draw wrote %q", got)
	}
}
