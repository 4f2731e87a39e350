package testgpu

import (
	"cmp"
	"math/bits"
	"slices"
)

// PTX has as many registers as its author likes: thousands, most of them written once. allocate gives those that never
// hold a value at the same time the same slot, so that a warp's registers stay in the cache. Liveness is per thread, and
// so are slots: lanes of a warp that are at different places do not disturb each other.

// Tags of slots while a kernel is decoded; allocate removes them.
const (
	tag64   = 1 << 24
	tagPred = 1 << 25
)

type flowKind uint8

const (
	flowNext flowKind = iota
	flowBranch
	flowIndexed
	flowExit
)

// basicBlock is a run of instructions [first, end) with one entry.
type basicBlock struct {
	first, end int
	next       []int
	use, kill  bitset // read before written here; written on every path
	in, out    bitset
}

type bitset []uint64

func (b bitset) has(i int) bool { return b[i>>6]>>(i&63)&1 != 0 }
func (b bitset) add(i int)      { b[i>>6] |= 1 << (i & 63) }

func (b bitset) each(f func(i int)) {
	for w, v := range b {
		for ; v != 0; v &= v - 1 {
			f(w*64 + bits.TrailingZeros64(v))
		}
	}
}

type allocator struct {
	code   *code
	n32    int // virtual registers; those of 64 bits are numbered behind
	blocks []basicBlock
}

// number returns the virtual register of a tagged slot; -1 for a constant, a predicate or nothing.
func (a *allocator) number(slot int32) int {
	switch {
	case slot < 0 || slot >= tagPred:
		return -1
	case slot >= tag64:
		return a.n32 + int(slot-tag64)
	}
	return int(slot)
}

// sources calls f with the fields of the slots that an instruction reads. A field that it does not use is 0: one use
// more of register 0.
func (in *inst) sources(f func(slot *int32)) {
	f(&in.a)
	f(&in.b)
	f(&in.c)
	if in.more != nil {
		f(&in.more.src)
	}
	for i := int(in.vecOut); i < len(in.vec); i++ {
		f(&in.vec[i])
	}
}

func (in *inst) results(f func(slot *int32)) {
	if in.out != outNone || in.writes {
		f(&in.d)
	}
	for i := range int(in.vecOut) {
		f(&in.vec[i])
	}
}

// allocate renames the registers of c, before its first launch.
func (c *code) allocate() {
	c.allocated = true
	c.regs = max(c.regs, 1)
	a := &allocator{code: c, n32: c.regs}
	a.split()
	a.liveness()
	slots := a.assign()
	rename := func(slot *int32) {
		switch n := a.number(*slot); {
		case n >= 0:
			*slot = slots[n]
		case *slot >= tagPred:
			*slot -= tagPred
		}
	}
	for i := range c.insts {
		in := &c.insts[i]
		in.sources(rename)
		in.results(rename)
		if in.d >= tagPred {
			in.d -= tagPred
		}
		rename(&in.guard)
		rename(&in.second)
	}
}

// split finds the basic blocks.
func (a *allocator) split() {
	insts := a.code.insts
	leader := make([]bool, len(insts)+1)
	leader[0] = true
	targets := func(in *inst) []int32 {
		switch in.flow {
		case flowBranch:
			return []int32{in.target}
		case flowIndexed:
			return in.more.targets
		}
		return nil
	}
	for i := range insts {
		if insts[i].flow != flowNext {
			leader[i+1] = true
			for _, t := range targets(&insts[i]) {
				leader[t] = true
			}
		}
	}
	number := make([]int, len(insts)+1)
	for i := range insts {
		if leader[i] {
			a.blocks = append(a.blocks, basicBlock{first: i})
		}
		number[i] = len(a.blocks) - 1
		a.blocks[len(a.blocks)-1].end = i + 1
	}
	for i := range a.blocks {
		b := &a.blocks[i]
		last := &insts[b.end-1]
		for _, t := range targets(last) {
			b.next = append(b.next, number[t])
		}
		if (last.flow == flowNext || last.guard >= 0) && b.end < len(insts) {
			b.next = append(b.next, number[b.end])
		}
	}
}

// liveness solves for what each block needs from before and what is needed after it.
func (a *allocator) liveness() {
	words := (a.n32 + a.code.regs64 + 63) / 64
	store := make(bitset, 4*words*len(a.blocks))
	for i := range a.blocks {
		b := &a.blocks[i]
		for _, set := range []*bitset{&b.use, &b.kill, &b.in, &b.out} {
			*set, store = store[:words:words], store[words:]
		}
		for j := b.first; j < b.end; j++ {
			in := &a.code.insts[j]
			in.sources(func(slot *int32) {
				if n := a.number(*slot); n >= 0 && !b.kill.has(n) {
					b.use.add(n)
				}
			})
			in.results(func(slot *int32) {
				if n := a.number(*slot); n >= 0 && in.guard < 0 {
					b.kill.add(n)
				}
			})
		}
	}
	for changed := true; changed; {
		changed = false
		for i := len(a.blocks) - 1; i >= 0; i-- {
			b := &a.blocks[i]
			for w := range b.out {
				out := b.out[w]
				for _, n := range b.next {
					out |= a.blocks[n].in[w]
				}
				in := b.use[w] | out&^b.kill[w]
				if in != b.in[w] || out != b.out[w] {
					b.in[w], b.out[w], changed = in, out, true
				}
			}
		}
	}
}

// span is from when to when a register is needed: 2i to read for instruction i, 2i+1 to hold its result.
type span struct {
	register   int
	start, end int
}

// assign returns the slot of each virtual register.
func (a *allocator) assign() []int32 {
	c := a.code
	spans := make([]span, a.n32+c.regs64)
	for i := range spans {
		spans[i] = span{i, len(c.insts) * 2, -1}
	}
	touch := func(n, at int) {
		if n >= 0 {
			spans[n].start, spans[n].end = min(spans[n].start, at), max(spans[n].end, at)
		}
	}
	for i := range a.blocks {
		b := &a.blocks[i]
		b.in.each(func(n int) { touch(n, 2*b.first) })
		b.out.each(func(n int) { touch(n, 2*b.end-1) })
		for j := b.first; j < b.end; j++ {
			c.insts[j].sources(func(slot *int32) { touch(a.number(*slot), 2*j) })
			c.insts[j].results(func(slot *int32) { touch(a.number(*slot), 2*j+1) })
		}
	}
	slots := make([]int32, len(spans))
	c.regs, c.entry32 = scan(spans[:a.n32], slots, a.blocks[0].in)
	c.regs64, c.entry64 = scan(spans[a.n32:], slots, a.blocks[0].in)
	c.regs = max(c.regs, 1)
	return slots
}

// scan gives slots to the registers of one size in the order of their starts. It returns how many slots there are, and
// which hold registers that may be read before they are written.
func scan(spans []span, slots []int32, entry bitset) (count int, unwritten []int32) {
	slices.SortFunc(spans, func(x, y span) int { return cmp.Or(cmp.Compare(x.start, y.start), cmp.Compare(x.register, y.register)) })
	var active []span // sorted by end, latest first
	var free []int32
	for _, s := range spans {
		if s.end < 0 {
			continue // never used
		}
		for n := len(active); n > 0 && active[n-1].end < s.start; n-- {
			free = append(free, slots[active[n-1].register])
			active = active[:n-1]
		}
		if n := len(free); n > 0 {
			slots[s.register], free = free[n-1], free[:n-1]
		} else {
			slots[s.register] = int32(count)
			count++
		}
		if entry.has(s.register) {
			unwritten = append(unwritten, slots[s.register])
		}
		at, _ := slices.BinarySearchFunc(active, s.end, func(x span, end int) int { return end - x.end })
		active = slices.Insert(active, at, s)
	}
	return count, unwritten
}
