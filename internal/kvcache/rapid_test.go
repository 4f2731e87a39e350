package kvcache

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// world is a naive model of a cache and of the memory behind it. Each slot of each page remembers which prefix it was
// computed for; every batch checks that all slots that its queries read hold what they must. Wrong tables, early
// release and wrong reuse all show as a slot with another prefix.
type world struct {
	config Config
	cache  *Cache
	seqs   []*worldSeq
	full   map[slot]string
	window map[slot]string
	// computed has every block-aligned prefix that was ever committed and not discarded.
	computed map[string]bool
}

type worldSeq struct {
	*Seq
	tokens []int32
	grown  int // positions that have pages
	slid   int // position that the window was last slid to
}

type slot struct {
	page int32
	at   int
}

// prefix names the tokens up to and including a position.
func prefix(tokens []int32, p int) string { return fmt.Sprint(tokens[:p+1]) }

func TestRandomOperations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 4).Draw(t, "size")
		w := newWorld(t, Config{
			PageSize:    size,
			FullPages:   rapid.IntRange(1, 24).Draw(t, "full pages"),
			WindowPages: rapid.IntRange(1, 24).Draw(t, "window pages"),
			Window:      rapid.IntRange(0, 9).Draw(t, "window"),
			Prefix:      rapid.IntRange(0, 4).Draw(t, "prefix") > 0,
		})
		t.Repeat(map[string]func(*rapid.T){
			"open": w.open, "step": w.step, "step again": w.step, "append": w.extend,
			"close": w.close, "discard": w.discard, "": w.check,
		})
	})
}

func newWorld(t *rapid.T, c Config) *world {
	cache, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if rapid.Bool().Draw(t, "weak hash") { // everything collides: only comparing tokens can tell blocks apart
		cache.index.hash = func(parent uint64, tokens []int32) uint64 { return parent % 2 }
	}
	return &world{
		config: c, cache: cache, full: make(map[slot]string), window: make(map[slot]string), computed: make(map[string]bool),
	}
}

func (w *world) pick(t *rapid.T) *worldSeq {
	if len(w.seqs) == 0 {
		t.Skip("no sequence")
	}
	return rapid.SampledFrom(w.seqs).Draw(t, "sequence")
}

func drawTokens(t *rapid.T, least, most int) []int32 {
	return rapid.SliceOfN(rapid.Int32Range(0, 1), least, most).Draw(t, "tokens")
}

func (w *world) open(t *rapid.T) {
	var tokens []int32
	if len(w.seqs) > 0 && rapid.Bool().Draw(t, "like another") {
		other := w.pick(t).tokens
		tokens = slices.Clone(other[:rapid.IntRange(0, len(other)).Draw(t, "shared")])
	}
	tokens = append(tokens, drawTokens(t, 1, 20)...)
	limit := len(tokens)
	if rapid.Bool().Draw(t, "limited") {
		limit = rapid.IntRange(0, len(tokens)).Draw(t, "limit")
	}
	want := w.longest(tokens, min(limit, len(tokens)-1))
	s := &worldSeq{Seq: w.cache.Open(tokens, limit, len(tokens)), tokens: tokens}
	if s.Len() != want {
		t.Fatalf("reuses %d positions of %v, could reuse %d", s.Len(), tokens, want)
	}
	s.grown, s.slid = s.Len(), s.Len()
	w.seqs = append(w.seqs, s)
}

// longest finds the longest reusable prefix by trying every length against every block that exists, and every key
// that its queries would read.
func (w *world) longest(tokens []int32, limit int) (best int) {
	if !w.config.Prefix {
		return 0
	}
	var chain []*block
	for n := w.config.PageSize; n <= limit; n += w.config.PageSize {
		b := w.after(chain, tokens[n-w.config.PageSize:n])
		if b == nil {
			break
		}
		chain = append(chain, b)
		complete := true
		for p := range n {
			readable := w.config.Window == 0 || p > n-w.config.Window
			if readable && chain[p/w.config.PageSize].window == none {
				complete = false
			}
		}
		if complete {
			best = n
		}
	}
	return best
}

func (w *world) after(chain []*block, tokens []int32) *block {
	var parent uint64
	if len(chain) > 0 {
		parent = chain[len(chain)-1].id
	}
	for _, b := range w.cache.index.blocks {
		for ; b != nil; b = b.next {
			if b.parent == parent && slices.Equal(b.tokens, tokens) {
				return b
			}
		}
	}
	return nil
}

// step computes the next positions of one sequence.
func (w *world) step(t *rapid.T) {
	s := w.pick(t)
	left := len(s.tokens) - s.Len()
	if left == 0 {
		t.Skip("nothing to compute")
	}
	w.cache.Slide(s.Seq)
	s.slid = s.Len()
	n := rapid.IntRange(1, left).Draw(t, "n")
	fit := w.cache.Fit(s.Seq, n)
	full, window := w.need(s, n)
	if can := full <= w.available(w.cache.Full(), w.fullHeld) && window <= w.available(w.cache.Window(), w.windowHeld); can != (fit == n) {
		t.Fatalf("%d of %d positions fit; they need %d full and %d window pages", fit, n, full, window)
	}
	if w.cache.Grow(s.Seq, n) != (fit == n) {
		t.Fatalf("grow by %d contradicts fit %d", n, fit)
	}
	if fit < n {
		return
	}
	s.grown = max(s.grown, s.Len()+n)
	w.compute(t, s, n)
}

// need counts new pages from first principles.
func (w *world) need(s *worldSeq, n int) (full, window int) {
	for b := range w.cache.blocks(s.Len() + n) {
		if b >= w.cache.blocks(s.grown) {
			full++
			window++
		}
	}
	return full, window
}

func (w *world) available(u Usage, held func() int) int { return u.Total - held() }

func (w *world) fullHeld() int {
	held := make(map[int32]bool)
	for _, s := range w.seqs {
		for _, p := range s.Full() {
			held[p] = true
		}
	}
	return len(held)
}

func (w *world) windowHeld() int {
	held := make(map[int32]bool)
	for _, s := range w.seqs {
		for _, p := range s.Window() {
			held[p] = true
		}
	}
	delete(held, none)
	return len(held)
}

// compute reads and writes what the model would: all keys of the batch are written, then each query reads its own.
func (w *world) compute(t *rapid.T, s *worldSeq, n int) {
	size := w.config.PageSize
	first := s.Len()
	for p := first; p < first+n; p++ {
		w.full[slot{s.Full()[p/size], p % size}] = prefix(s.tokens, p)
		w.window[slot{s.Window()[p/size], p % size}] = prefix(s.tokens, p)
	}
	for q := first; q < first+n; q++ {
		for p := 0; p <= q; p++ {
			want := prefix(s.tokens, p)
			if got := w.full[slot{s.Full()[p/size], p % size}]; got != want {
				t.Fatalf("query %d reads full key %d of %s, want %s", q, p, got, want)
			}
			if w.config.Window > 0 && p <= q-w.config.Window {
				continue
			}
			if got := w.window[slot{s.Window()[p/size], p % size}]; got != want {
				t.Fatalf("query %d reads window key %d of %q, want %s", q, p, got, want)
			}
		}
	}
	if err := w.cache.Commit(s.Seq, s.tokens[:first+n]); err != nil {
		t.Fatal(err)
	}
	for p := size - 1; p < s.Len(); p += size {
		w.computed[prefix(s.tokens, p)] = true
	}
}

func (w *world) extend(t *rapid.T) {
	s := w.pick(t)
	s.tokens = append(s.tokens, drawTokens(t, 1, 6)...)
}

func (w *world) close(t *rapid.T) {
	s := w.pick(t)
	w.cache.Close(s.Seq)
	w.seqs = slices.DeleteFunc(w.seqs, func(o *worldSeq) bool { return o == s })
}

func (w *world) discard(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "rarely") > 0 {
		t.Skip("not this time")
	}
	s := w.pick(t)
	full, window := slices.Clone(s.Full()), slices.Clone(s.Window())
	w.cache.Discard(s.Seq)
	w.seqs = slices.DeleteFunc(w.seqs, func(o *worldSeq) bool { return o == s })
	for i, id := range full {
		if w.cache.full.pages[id].owner != nil || window[i] != none && w.cache.window.pages[window[i]].owner != nil {
			t.Fatalf("block %d of a discarded sequence can be found", i)
		}
	}
}

func (w *world) check(t *rapid.T) {
	if err := w.cache.Check(); err != nil {
		t.Fatal(err)
	}
	for name, u := range map[string]Usage{"full": w.cache.Full(), "window": w.cache.Window()} {
		held := w.fullHeld()
		if name == "window" {
			held = w.windowHeld()
		}
		if u.Free+u.Cached+held != u.Total {
			t.Fatalf("%s pages: %d free, %d cached and %d held are not %d", name, u.Free, u.Cached, held, u.Total)
		}
	}
	for _, s := range w.seqs {
		w.checkRelease(t, s)
	}
}

// checkRelease: a window page is held if and only if a query from the last slide on can read it.
func (w *world) checkRelease(t *rapid.T, s *worldSeq) {
	for b, page := range s.Window() {
		end := (b + 1) * w.config.PageSize
		gone := w.config.Window > 0 && end <= s.slid-w.config.Window+1
		if gone != (page == none) {
			t.Fatalf("sequence at %d, slid at %d: window block %d is page %d", s.Len(), s.slid, b, page)
		}
	}
}

// TestNothingIsForgottenWithoutNeed: in a cache that never has to evict, a prompt reuses exactly what was ever
// computed of it.
func TestNothingIsForgottenWithoutNeed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, Config{PageSize: 2, FullPages: 1 << 12, WindowPages: 1 << 12, Window: rapid.IntRange(0, 7).Draw(t, "window"), Prefix: true})
		for range rapid.IntRange(1, 12).Draw(t, "prompts") {
			tokens := drawTokens(t, 1, 16)
			want := 0
			for n := 2; n < len(tokens) && w.computed[prefix(tokens, n-1)]; n += 2 {
				want = n
			}
			s := &worldSeq{Seq: w.cache.Open(tokens, len(tokens), 0), tokens: tokens}
			if s.Len() != want {
				t.Fatalf("%v reuses %d positions, want %d", tokens, s.Len(), want)
			}
			s.grown, s.slid = s.Len(), s.Len()
			w.seqs = append(w.seqs, s)
			w.step(t)
			if rapid.Bool().Draw(t, "close") {
				w.close(t)
			}
			w.check(t)
		}
	})
}

// TestSteadyStateDoesNotAllocate: a sequence that grows, slides and evicts in a full cache allocates nothing.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	const size = 4
	c, err := New(Config{PageSize: size, FullPages: 300, WindowPages: 8, Window: 6, Prefix: true})
	if err != nil {
		t.Fatal(err)
	}
	tokens := make([]int32, 0, 1200)
	grow := func(s *Seq) {
		c.Slide(s)
		tokens = append(tokens, int32(len(tokens)))
		if !c.Grow(s, 1) {
			t.Fatal("no page")
		}
		if err := c.Commit(s, tokens); err != nil {
			t.Fatal(err)
		}
	}
	// The first sequence leaves its blocks behind; the second one, which must not share them, evicts them.
	for _, first := range []int32{1, 2} {
		tokens = append(tokens[:0], first)
		s := c.Open(tokens, 0, cap(tokens))
		for range 1000 {
			grow(s)
		}
		if first == 2 {
			if n := testing.AllocsPerRun(100, func() { grow(s) }); n != 0 {
				t.Errorf("%v allocations a step", n)
			}
		}
		c.Close(s)
	}
}
