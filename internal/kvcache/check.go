package kvcache

import "fmt"

// Check reports the first thing that does not add up: free, cached and referenced pages must be all pages, reference
// counts must equal what the sequences' tables hold, and blocks and pages must name each other.
func (c *Cache) Check() error {
	full, window := make([]int32, len(c.full.pages)), make([]int32, len(c.window.pages))
	for s := range c.open {
		if len(s.full) != len(s.window) || s.length > len(s.full)*c.config.PageSize {
			return fmt.Errorf("a sequence of %d positions has %d full and %d window pages", s.length, len(s.full), len(s.window))
		}
		for i, id := range s.full {
			full[id]++
			if w := s.window[i]; w != none {
				window[w]++
			} else if i >= s.slid {
				return fmt.Errorf("window page of block %d is gone, %d were released", i, s.slid)
			}
		}
	}
	if err := c.full.check(full); err != nil {
		return fmt.Errorf("full pages: %w", err)
	}
	if err := c.window.check(window); err != nil {
		return fmt.Errorf("window pages: %w", err)
	}
	return c.checkIndex()
}

// check compares a pool with the references that were counted.
func (p *pool) check(refs []int32) error {
	seen := make([]bool, len(p.pages))
	visit := func(id int32, where string) error {
		if seen[id] {
			return fmt.Errorf("page %d is %s and elsewhere", id, where)
		}
		seen[id] = true
		return nil
	}
	for _, id := range p.free {
		if err := visit(id, "free"); err != nil {
			return err
		}
		if g := p.pages[id]; g.owner != nil || g.in != nil {
			return fmt.Errorf("page %d is free but owned or in a list", id)
		}
	}
	for _, l := range []*list{&p.cold, &p.warm} {
		n := 0
		for id := l.head; id != none; id = p.pages[id].next {
			if err := visit(id, "cached"); err != nil {
				return err
			}
			if g := p.pages[id]; g.owner == nil || g.in != l {
				return fmt.Errorf("page %d is cached without an owner or in the wrong list", id)
			}
			n++
		}
		if n != l.len {
			return fmt.Errorf("%d pages cached, %d counted", n, l.len)
		}
	}
	for id, g := range p.pages {
		if g.refs != refs[id] {
			return fmt.Errorf("page %d has %d references, tables hold %d", id, g.refs, refs[id])
		}
		if seen[id] == (g.refs > 0) {
			return fmt.Errorf("page %d with %d references: lost, or both held and free", id, g.refs)
		}
	}
	return nil
}

// checkIndex compares blocks with the pages that name them as owner.
func (c *Cache) checkIndex() error {
	blocks, windows := 0, 0
	for h, b := range c.index.blocks {
		for ; b != nil; b = b.next {
			if b.hash != h || len(b.tokens) != c.config.PageSize {
				return fmt.Errorf("block %d is filed wrongly", b.id)
			}
			if c.full.pages[b.full].owner != b {
				return fmt.Errorf("block %d does not own full page %d", b.id, b.full)
			}
			blocks++
			if b.window == none {
				continue
			}
			if c.window.pages[b.window].owner != b {
				return fmt.Errorf("block %d does not own window page %d", b.id, b.window)
			}
			windows++
		}
	}
	if n := c.full.owned(); n != blocks {
		return fmt.Errorf("%d full pages are owned, %d blocks exist", n, blocks)
	}
	if n := c.window.owned(); n != windows {
		return fmt.Errorf("%d window pages are owned, %d blocks have one", n, windows)
	}
	return nil
}

func (p *pool) owned() int {
	n := 0
	for i := range p.pages {
		if p.pages[i].owner != nil {
			n++
		}
	}
	return n
}
