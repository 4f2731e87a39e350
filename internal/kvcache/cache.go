// Package kvcache keeps the books of a paged KV cache: which page holds which block of which sequence, what may be
// reused by a prompt that begins alike, and what is given up when space is needed. It never holds a tensor and never
// touches a device.
//
// There are two pools. A page of the full pool is one slot of PageSize positions in every full-attention layer, a page
// of the window pool one slot in every sliding-window layer. Position p of a sequence is in block p/PageSize, and the
// sequence's two tables give the page of each block.
//
// The full table grows with the sequence. The window table gives up what no query can read any more: the next query
// q reads the keys q-Window+1..q, so block b goes once (b+1)*PageSize <= q-Window+1, and its entry becomes -1. A
// batch of positions [q0, q0+n) reads from q0-Window+1 on, so pages go between batches only.
//
// A complete block is entered in the prefix index under its tokens and everything before them, and shared from then
// on. Pages that no sequence holds stay cached until space is needed. A prompt can reuse n blocks if the full pages of
// all n are there, and the window pages of the last Window-1 positions before n*PageSize; the longest such n is taken.
//
// Eviction takes the page that was given up first, and the blocks of a sequence from its end, so that what remains
// is always a prefix. Window pages come in two classes, because a long prompt sheds hundreds that nobody will want:
// warm are those before a boundary where a later prompt may leave off (the end of the prompt, the end of the sequence,
// and any boundary where a prompt matched but the window was gone); all others are cold, and go first.
package kvcache

import "fmt"

// Config gives the sizes of a cache.
type Config struct {
	PageSize    int // positions in a page
	FullPages   int
	WindowPages int
	Window      int  // keys that a query of a sliding-window layer sees, itself included; 0: all of them
	Prefix      bool // keep complete blocks for reuse
}

// Cache owns all pages. One goroutine uses it.
type Cache struct {
	config Config
	full   *pool
	window *pool
	index  *index
	open   map[*Seq]struct{}
	match  []*block // scratch of Open
}

// Usage counts the pages of one pool. Total - Free - Cached are referenced by sequences.
type Usage struct{ Free, Cached, Total int }

// New returns a cache whose pages are all free.
func New(c Config) (*Cache, error) {
	if c.PageSize < 1 || c.FullPages < 1 || c.WindowPages < 1 || c.Window < 0 {
		return nil, fmt.Errorf("cache of %d full and %d window pages of %d positions, window %d: sizes must be positive",
			c.FullPages, c.WindowPages, c.PageSize, c.Window)
	}
	return &Cache{
		config: c, full: newPool(c.FullPages), window: newPool(c.WindowPages),
		index: newIndex(c.PageSize), open: make(map[*Seq]struct{}),
	}, nil
}

// Full counts the pages of the full-attention layers.
func (c *Cache) Full() Usage { return c.full.usage() }

// Window counts the pages of the sliding-window layers.
func (c *Cache) Window() Usage { return c.window.usage() }

func (p *pool) usage() Usage {
	return Usage{Free: len(p.free), Cached: p.cached(), Total: len(p.pages)}
}

// Capacity is the longest sequence, in positions, that fits a cache which holds nothing else.
func (c *Cache) Capacity() int {
	if c.slides() {
		return c.config.FullPages * c.config.PageSize
	}
	return min(c.config.FullPages, c.config.WindowPages) * c.config.PageSize
}

// MaxChunk is how many positions can always be computed in one batch by a sequence that has the cache to itself.
func (c *Cache) MaxChunk() int {
	if !c.slides() {
		return c.Capacity()
	}
	// Window-1+n positions, wherever they begin in a page, touch at most ceil((Window-2+n)/PageSize)+1 pages.
	return min(c.Capacity(), (c.config.WindowPages-1)*c.config.PageSize-c.config.Window+2)
}

// slides reports whether a sequence may outgrow the window pool: whether the pool holds a window wherever it lies.
func (c *Cache) slides() bool {
	w := c.config.Window
	return w > 0 && c.config.WindowPages >= c.blocks(w-1)+1
}

// blocks is how many blocks n positions need.
func (c *Cache) blocks(n int) int { return (n + c.config.PageSize - 1) / c.config.PageSize }

// windowStart is the first block that a query at position q reads in a sliding-window layer.
func (c *Cache) windowStart(q int) int {
	if c.config.Window == 0 {
		return 0
	}
	return max(0, q-c.config.Window+1) / c.config.PageSize
}

// allocateFull takes a page of the full pool, evicting one if it must. The caller has checked that one is available.
func (c *Cache) allocateFull() int32 {
	if len(c.full.free) == 0 {
		b := c.full.pages[c.full.oldest()].owner
		c.forget(b)
	}
	return c.full.take()
}

func (c *Cache) allocateWindow() int32 {
	if len(c.window.free) == 0 {
		id := c.window.oldest()
		c.window.pages[id].owner.window = none
		c.window.disown(id)
	}
	return c.window.take()
}

// forget removes a block from the index. Its pages are free, or private to the sequences that hold them.
func (c *Cache) forget(b *block) {
	c.index.remove(b)
	c.full.disown(b.full)
	if b.window != none {
		c.window.disown(b.window)
	}
}
