package kvcache

import "fmt"

// Seq is a sequence's hold on pages.
type Seq struct {
	length int // positions whose keys and values are in pages
	full   []int32
	window []int32
	slid   int    // window entries below this are none
	last   uint64 // id of the last complete block, parent of the next

	// Blocks whose window pages stay warm when they slide out: a prompt may begin after them.
	reused    int    // [0, reused) were found in the index
	promptEnd extent // before the end of the prompt
	wanted    extent // before the end of the longest match, too long for the window pages that were left
}

// extent is the blocks [from, to).
type extent struct{ from, to int }

func (e extent) has(b int) bool { return e.from <= b && b < e.to }

// Len is how many positions have their keys and values in pages.
func (s *Seq) Len() int { return s.length }

// Full is the block table of the full-attention layers. It is the cache's own and changes with the next call.
func (s *Seq) Full() []int32 { return s.full }

// Window is the block table of the sliding-window layers; -1 stands where no query can read any more.
func (s *Seq) Window() []int32 { return s.window }

// Open starts a sequence whose first tokens are known. It holds the pages of the longest prefix that can be reused,
// of at most limit positions; Len tells how many. At least one token is left to compute. reserve is how many
// positions the tables get room for at once.
func (c *Cache) Open(tokens []int32, limit, reserve int) *Seq {
	n := c.blocks(reserve)
	s := &Seq{full: make([]int32, 0, n), window: make([]int32, 0, n)}
	c.open[s] = struct{}{}
	size := c.config.PageSize
	s.promptEnd = extent{c.windowStart((len(tokens) - 1) / size * size), len(tokens) / size}
	if !c.config.Prefix {
		return s
	}
	n = c.longest(tokens, min(limit, len(tokens)-1)/size)
	s.wanted = extent{c.windowStart(len(c.match) * size), len(c.match)}
	s.reused, s.slid, s.length = n, c.windowStart(n*size), n*size
	for i, b := range c.match[:n] {
		c.full.ref(b.full)
		s.full = append(s.full, b.full)
		if i < s.slid {
			s.window = append(s.window, none)
		} else {
			c.window.ref(b.window)
			s.window = append(s.window, b.window)
		}
		s.last = b.id
	}
	return s
}

// longest leaves the blocks that match tokens, at most limit, in c.match, and returns how many of them can be reused.
func (c *Cache) longest(tokens []int32, limit int) int {
	size := c.config.PageSize
	c.match = c.match[:0]
	var parent uint64
	best, run := 0, 0 // run: consecutive blocks with a window page, ending here
	for n := 1; n <= limit; n++ {
		b := c.index.find(parent, tokens[(n-1)*size:n*size])
		if b == nil {
			break
		}
		c.match, parent = append(c.match, b), b.id
		if b.window == none {
			run = 0
		} else {
			run++
		}
		if run >= n-c.windowStart(n*size) {
			best = n
		}
	}
	return best
}

// Need is how many new pages of each pool n further positions take.
func (c *Cache) Need(s *Seq, n int) (full, window int) {
	blocks := c.blocks(s.length + n)
	return max(0, blocks-len(s.full)), max(0, blocks-len(s.window))
}

// Fit is how many further positions, at most n, can get pages without taking any from a sequence.
func (c *Cache) Fit(s *Seq, n int) int {
	size := c.config.PageSize
	full := (len(s.full)+c.full.available())*size - s.length
	window := (len(s.window)+c.window.available())*size - s.length
	return max(0, min(n, full, window))
}

// Grow gives the sequence pages for n further positions: all of them, or none and false.
func (c *Cache) Grow(s *Seq, n int) bool {
	if n < 0 || c.Fit(s, n) < n {
		return false
	}
	full, window := c.Need(s, n)
	for range full {
		s.full = append(s.full, c.allocateFull())
	}
	for range window {
		s.window = append(s.window, c.allocateWindow())
	}
	return true
}

// Commit says that the keys and values of tokens, the whole sequence up to now, are in its pages. Blocks that became
// complete enter the prefix index; where the index has such a block already, the sequence changes over to its pages
// and gives back its own.
func (c *Cache) Commit(s *Seq, tokens []int32) error {
	if len(tokens) < s.length || c.blocks(len(tokens)) > len(s.full) {
		return fmt.Errorf("commit of %d tokens to a sequence of %d with %d pages", len(tokens), s.length, len(s.full))
	}
	size := c.config.PageSize
	first, end := s.length/size, len(tokens)/size
	s.length = len(tokens)
	if !c.config.Prefix {
		return nil
	}
	for i := first; i < end; i++ {
		c.share(s, i, tokens[i*size:(i+1)*size])
	}
	return nil
}

// share enters block i of a sequence in the index, or takes over the one that is there.
func (c *Cache) share(s *Seq, i int, tokens []int32) {
	b := c.index.find(s.last, tokens)
	if b == nil {
		b = c.index.add(s.last, tokens, s.full[i], s.window[i])
	}
	if b.window == none {
		b.window = s.window[i]
	}
	c.full.replace(&s.full[i], b.full, b)
	c.window.replace(&s.window[i], b.window, b)
	s.last = b.id
}

// replace puts the block's page in place of a sequence's own, which may be the same.
func (p *pool) replace(mine *int32, page int32, b *block) {
	p.pages[page].owner = b
	if *mine != page {
		p.ref(page)
		p.unref(*mine, false)
		*mine = page
	}
}

// Slide releases the window pages that no query from the sequence's next position on can read. Call it before a
// batch is planned, never while one runs.
func (c *Cache) Slide(s *Seq) {
	for end := min(c.windowStart(s.length), len(s.window)); s.slid < end; s.slid++ {
		warm := s.slid < s.reused || s.promptEnd.has(s.slid) || s.wanted.has(s.slid)
		c.window.unref(s.window[s.slid], warm)
		s.window[s.slid] = none
	}
}

// Close ends a sequence. Complete blocks stay cached, other pages are free.
func (c *Cache) Close(s *Seq) {
	for i := len(s.full) - 1; i >= 0; i-- { // the end is evicted first
		c.full.unref(s.full[i], true)
		if s.window[i] != none {
			c.window.unref(s.window[i], true)
		}
	}
	s.full, s.window = nil, nil
	delete(c.open, s)
}

// Discard ends a sequence whose keys and values are not to be trusted: none of its blocks can be found again.
// Sequences that share them keep them.
func (c *Cache) Discard(s *Seq) {
	for _, id := range s.full {
		if b := c.full.pages[id].owner; b != nil {
			c.forget(b)
		}
	}
	c.Close(s)
}
