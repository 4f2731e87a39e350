package testgpu

import (
	"math"
	"math/bits"
)

const noSlot = math.MinInt32 // an operand that is not there

// What a barrier instruction does (inst.sub).
const (
	barSync = iota
	barArrive
	barPopc
	barAnd
	barOr
)

const flagAligned = 1 << 1 // of inst.flags: all lanes of the warp execute it together

// barrier is one of the 16 of a block.
type barrier struct {
	warps   uint32 // that wait
	arrived int    // threads
	count   int    // threads expected; 0: the whole block
	line    int32
	popc    int
	threads int // whose predicate was counted
}

// execBar is bar.sync, bar.arrive and bar.red.
func execBar(w *warp, in *inst) {
	if !w.converge(in, fullMask) {
		return
	}
	if in.flags&flagAligned != 0 && w.live != w.started {
		w.fail(LaunchFailed, bits.TrailingZeros32(w.mask), "lanes %#08x of the warp have exited before this barrier", w.started&^w.live)
	}
	id, count := int(w.uniform(in.a)), 0
	if in.b != noSlot {
		count = int(w.uniform(in.b))
		if count == 0 || count%32 != 0 {
			w.fail(LaunchFailed, -1, "barrier of %d threads: not a multiple of 32", count)
		}
	}
	if id > 15 {
		w.fail(LaunchFailed, -1, "barrier %d of 16", id)
	}
	b := w.block
	bar := &b.barriers[id]
	if bar.arrived > 0 && bar.count != count {
		w.fail(LaunchFailed, -1, "barrier %d of %d threads, but of %d at line %d", id, count, bar.count, bar.line)
	}
	bar.count, bar.line = count, in.line
	bar.arrived += 32
	if in.sub >= barPopc {
		bar.popc += bits.OnesCount32(w.pred(in.c) & w.mask)
		bar.threads += bits.OnesCount32(w.mask)
	}
	if in.sub != barArrive {
		bar.warps |= 1 << w.index
		w.state, w.barrier = atBarrier, id
	}
	b.check(id)
}

// uniform reads an operand that must be the same for all lanes.
func (w *warp) uniform(slot int32) uint32 {
	v := w.r32(slot)
	first := bits.TrailingZeros32(w.mask)
	for m := w.mask; m != 0; m &= m - 1 {
		if l := bits.TrailingZeros32(m); v[l] != v[first] {
			w.fail(LaunchFailed, l, "operand %d differs from %d of lane %d", v[l], v[first], first)
		}
	}
	return v[first]
}

// check opens barrier id if all have arrived.
func (b *block) check(id int) {
	bar := &b.barriers[id]
	if bar.arrived == 0 {
		return
	}
	expected := bar.count
	if expected == 0 {
		expected = 32 * b.unfinished
	}
	if bar.arrived < expected {
		return
	}
	if bar.arrived > expected {
		panic(&fault{rc: LaunchFailed, lane: -1, line: bar.line, msg: "more threads than expected arrive at a barrier"})
	}
	b.shared.barrier()
	for m := bar.warps; m != 0; m &= m - 1 {
		w := b.warps[bits.TrailingZeros32(m)]
		w.state = ready
		w.synced()
		b.reduced(w, bar)
	}
	*bar = barrier{}
}

// reduced gives a warp the result of bar.red.
func (b *block) reduced(w *warp, bar *barrier) {
	in := &w.code.insts[w.pc-1]
	for m := w.active; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m)
		switch in.sub {
		case barPopc:
			w.r[in.d][l] = uint32(bar.popc)
		case barAnd:
			w.p[in.d] = w.p[in.d]&^(1<<l) | b2u(bar.popc == bar.threads)<<l
		case barOr:
			w.p[in.d] = w.p[in.d]&^(1<<l) | b2u(bar.popc > 0)<<l
		}
	}
}
