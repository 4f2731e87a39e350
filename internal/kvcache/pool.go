package kvcache

// pool owns the pages of one group of layers. Every page is in exactly one place: on the free list, in one of the two
// LRU lists (cached: a block has it, no sequence does), or referenced by sequences.
type pool struct {
	pages []page
	free  []int32
	// cold pages are evicted before warm ones; within a list, the one that was released first.
	cold, warm list
}

type page struct {
	refs       int32
	prev, next int32  // in an LRU list; none outside
	in         *list  // the list it is in; nil if free or referenced
	owner      *block // the complete block that this page holds; nil while it is private to one sequence
}

// list is a doubly linked list through pool.pages, oldest first.
type list struct {
	head, tail int32
	len        int
}

const none = -1

func newPool(n int) *pool {
	p := &pool{pages: make([]page, n), free: make([]int32, n), cold: emptyList(), warm: emptyList()}
	for i := range p.pages {
		p.pages[i] = page{prev: none, next: none}
		p.free[i] = int32(n - 1 - i) // low numbers first
	}
	return p
}

func emptyList() list { return list{head: none, tail: none} }

// available is how many pages can be had without taking one from a sequence.
func (p *pool) available() int { return len(p.free) + p.cached() }

func (p *pool) cached() int { return p.cold.len + p.warm.len }

// take gives a page to a sequence. The caller has evicted one if none was free.
func (p *pool) take() int32 {
	id := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.pages[id].refs = 1
	return id
}

// oldest is the page to evict next. The caller knows that one is cached.
func (p *pool) oldest() int32 {
	if p.cold.len > 0 {
		return p.cold.head
	}
	return p.warm.head
}

// ref adds a sequence to a page that a block owns.
func (p *pool) ref(id int32) {
	if p.pages[id].in != nil {
		p.unlink(id)
	}
	p.pages[id].refs++
}

// unref takes a sequence off a page. With the last one the page is cached, if a block owns it, or free.
func (p *pool) unref(id int32, warm bool) {
	g := &p.pages[id]
	g.refs--
	switch {
	case g.refs > 0:
	case g.owner == nil:
		p.free = append(p.free, id)
	case warm:
		p.link(&p.warm, id)
	default:
		p.link(&p.cold, id)
	}
}

// disown takes a page from its block; nobody can find it any more, so without a reference it is free.
func (p *pool) disown(id int32) {
	g := &p.pages[id]
	g.owner = nil
	if g.in != nil {
		p.unlink(id)
		p.free = append(p.free, id)
	}
}

func (p *pool) link(l *list, id int32) {
	g := &p.pages[id]
	g.in, g.prev, g.next = l, l.tail, none
	if l.tail == none {
		l.head = id
	} else {
		p.pages[l.tail].next = id
	}
	l.tail = id
	l.len++
}

func (p *pool) unlink(id int32) {
	g := &p.pages[id]
	l := g.in
	if g.prev == none {
		l.head = g.next
	} else {
		p.pages[g.prev].next = g.next
	}
	if g.next == none {
		l.tail = g.prev
	} else {
		p.pages[g.next].prev = g.prev
	}
	l.len--
	g.in, g.prev, g.next = nil, none, none
}
