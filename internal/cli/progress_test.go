package cli

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// fakeProgress is a progress with a clock that the test moves, as begun on a terminal of that width, or in a pipe (0).
func fakeProgress(label string, total int64, counted bool, width int) (p *progress, out *bytes.Buffer, clock *time.Time) {
	out, clock = &bytes.Buffer{}, new(time.Time)
	*clock = time.Unix(1000, 0)
	p = newProgress(out, label, total, counted)
	p.now = func() time.Time { return *clock }
	if width > 0 {
		p.width = func() int { return width }
	}
	p.begin()
	return p, out, clock
}

func TestProgress(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct {
		name    string
		total   int64
		counted bool
		width   int
		steps   []int64 // amounts, a second apart, the first at once
		want    []string
	}{
		{"short", 100 * mib, false, 80, []int64{100 * mib}, nil},
		{"terminal", 100 * mib, false, 80, []int64{0, 20 * mib, 60 * mib}, []string{
			"pull  [####----------------]   20%  20.0 MiB of 100.0 MiB  20.0 MiB/s  4 s left<K>",
			"pull  [############--------]   60%  60.0 MiB of 100.0 MiB  30.0 MiB/s  1 s left<K>",
			"pull  60.0 MiB in 2 s, 30.0 MiB/s<K>"}},
		{"narrow terminal", 100 * mib, false, 40, []int64{0, 20 * mib}, []string{
			"pull   20%  20.0 MiB of 100.0 MiB<K>", "pull  20.0 MiB in 1 s, 20.0 MiB/s<K>"}},
		{"very narrow terminal", 100 * mib, false, 12, []int64{0, 20 * mib}, []string{
			"pull   20%<K>", "pull  20.0 MiB in 1 s, 20.0 MiB/s<K>"}},
		{"resumed", 100 * mib, false, 0, []int64{50 * mib, 60 * mib}, []string{
			"pull   60%  60.0 MiB of 100.0 MiB  10.0 MiB/s  4 s left", "pull  60.0 MiB in 1 s, 10.0 MiB/s"}},
		{"pipe", 100 * mib, false, 0, []int64{0, 10 * mib, 20 * mib, 30 * mib, 40 * mib, 50 * mib, 60 * mib, 70 * mib}, []string{
			"pull   10%  10.0 MiB of 100.0 MiB  10.0 MiB/s  9 s left",
			"pull   60%  60.0 MiB of 100.0 MiB  10.0 MiB/s  4 s left",
			"pull  70.0 MiB in 7 s, 10.0 MiB/s"}},
		{"slow count", 24, true, 0, []int64{0, 0, 1}, []string{
			"pull    0%  0 of 24", "pull  1 in 2 s"}},
		{"unknown total", 0, false, 60, []int64{0, 3 * mib}, []string{
			"pull  3.0 MiB  3.0 MiB/s<K>", "pull  3.0 MiB in 1 s, 3.0 MiB/s<K>"}},
		{"more than announced", 2, true, 60, []int64{0, 9}, []string{
			"pull  [################################]  100%  9 of 2  9/s<K>", "pull  9 in 1 s, 9/s<K>"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, out, clock := fakeProgress("pull", tc.total, tc.counted, tc.width)
			for i, n := range tc.steps {
				if i > 0 {
					*clock = clock.Add(time.Second)
				}
				p.set(n)
			}
			p.finish()
			p.finish() // has nothing more to say
			var got []string
			if out.Len() > 0 {
				got = strings.FieldsFunc(strings.ReplaceAll(out.String(), "\x1b[K", "<K>"), func(r rune) bool { return r == '\r' || r == '\n' })
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestProgressWidth checks that no redrawn line is as wide as the terminal.
func TestProgressWidth(t *testing.T) {
	for width := 1; width < 130; width++ {
		p, out, clock := fakeProgress("Größe", 3<<30, false, width)
		p.set(0)
		*clock = clock.Add(100 * time.Second)
		p.set(1 << 30)
		line := strings.TrimSuffix(strings.TrimPrefix(out.String(), "\r"), "\x1b[K")
		if n := utf8.RuneCountInString(line); n >= width || !utf8.ValidString(line) {
			t.Errorf("width %d: %d columns in %q", width, n, line)
		}
	}
}

// TestProgressFrames checks that a terminal is not redrawn for every step.
func TestProgressFrames(t *testing.T) {
	p, out, clock := fakeProgress("pull", 1000, true, 80)
	for n := range int64(1000) {
		*clock = clock.Add(10 * time.Millisecond)
		p.set(n)
	}
	if n := strings.Count(out.String(), "\r"); n != 91 { // each 100 ms from the first second to the tenth
		t.Errorf("%d redraws in ten seconds, want 91", n)
	}
}

func TestProgressConcurrent(t *testing.T) {
	p, _, _ := fakeProgress("pull", 100, true, 80)
	var wg sync.WaitGroup
	for n := range int64(100) {
		wg.Go(func() { p.set(n) })
	}
	wg.Wait()
	p.finish()
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		400 * time.Millisecond: "0 s", 59600 * time.Millisecond: "1 min 0 s", 200 * time.Second: "3 min 20 s", 3900 * time.Second: "1 h 5 min",
	} {
		if got := duration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
