package testgpu

import (
	"fmt"
	"math"
	"math/bits"
)

// Registers hold one value for each of a warp's 32 lanes. 16-bit registers live in the low half of a 32-bit one, the
// rest zero; predicates are masks with a bit for each lane.
type (
	lanes   = [32]uint32
	lanes64 = [32]uint64
)

const (
	fullMask = 0xffffffff
	never    = math.MaxInt32 // a PC that no lane reaches
)

// handler executes one instruction for the lanes of w.mask, which is not empty. Handlers with a destination in
// inst.out compute all 32 lanes into what dst32 or dst64 returns; the loop in run merges the active ones.
type handler func(w *warp, in *inst)

type outKind uint8

const (
	outNone outKind = iota
	out32
	out64
)

// inst is a decoded instruction. Operands are slots of the register file; negative slots are constants of the code.
type inst struct {
	fn      handler
	d       int32
	a, b, c int32
	guard   int32 // predicate slot; -1: none
	line    int32
	imm     int64
	target  int32
	second  int32 // slot of a second result, a predicate; noSlot: none
	out     outKind
	not     bool // guard is negated
	width   uint8
	count   uint8 // elements of a vector
	flags   uint8
	sub     uint8
	base    uint8 // of an address: baseNone, base32, base64
	flow    flowKind
	writes  bool    // d, without out
	vecOut  uint8   // elements of vec, from the first, that are results
	vec     []int32 // registers of a vector; fragments of mma
	more    *extra
}

// extra holds what few instructions need.
type extra struct {
	targets  []int32
	from, to scalar
	round    rounding
	update   func(old, b, c uint64) uint64 // atomics
	regWidth int
	src      int32
	mma      mmaShape
	special  specialRegister
}

const (
	flagWarpBarrier = 1 << iota // bar.warp.sync, which lanes may meet at different places
)

const (
	baseNone = iota
	base32
	base64
)

type warpState uint8

const (
	ready warpState = iota
	atBarrier
	finished
)

// warp runs 32 lanes. Lanes that are not active keep their own PC; the lanes with the smallest PC run first, so that
// diverged lanes meet again where the code lets them.
type warp struct {
	block *block
	code  *code
	r     []lanes
	d     []lanes64
	p     []uint32

	index   int
	state   warpState
	mask    uint32 // lanes that execute the current instruction
	active  uint32 // lanes at pc
	live    uint32 // lanes that have not exited
	started uint32 // lanes that exist
	early   uint32 // lanes that have not waited for the launches before
	waiting uint32 // lanes that wait for others at a .sync instruction
	pc      int32
	other   int32 // smallest PC among runnable lanes that are not active
	lanePC  [32]int32
	member  [32]uint32 // what a waiting lane waits for

	carry    uint32
	lastSync uint32 // time of the warp's last synchronisation
	copies   copyQueue
	fences   fences
	locals   localMemory
	cached   *allocation // the last one that was hit
	barrier  int         // where the warp waits

	strong [8]byte // what a strong load read
	t32    lanes
	t64    lanes64
	f      [3]lanes
}

// fault ends a launch. It is thrown with panic inside a launch and caught at the block's run.
type fault struct {
	rc   int
	lane int // -1: the warp
	msg  string
	line int32
}

func (w *warp) fail(rc, lane int, format string, args ...any) {
	panic(&fault{rc: rc, lane: lane, msg: fmt.Sprintf(format, args...)})
}

func (w *warp) r32(slot int32) *lanes {
	if slot < 0 {
		return &w.code.k32[^slot]
	}
	return &w.r[slot]
}

func (w *warp) r64(slot int32) *lanes64 {
	if slot < 0 {
		return &w.code.k64[^slot]
	}
	return &w.d[slot]
}

func (w *warp) dst32(in *inst) *lanes {
	if w.mask == fullMask {
		return &w.r[in.d]
	}
	return &w.t32
}

func (w *warp) dst64(in *inst) *lanes64 {
	if w.mask == fullMask {
		return &w.d[in.d]
	}
	return &w.t64
}

func (w *warp) setPred(slot int32, m uint32) { w.p[slot] = w.p[slot]&^w.mask | m&w.mask }

// merge copies the active lanes of a temporary result to the register.
func (w *warp) merge(in *inst) {
	switch in.out {
	case out32:
		d := &w.r[in.d]
		for m := w.mask; m != 0; m &= m - 1 {
			l := bits.TrailingZeros32(m) & 31
			d[l] = w.t32[l]
		}
	case out64:
		d := &w.d[in.d]
		for m := w.mask; m != 0; m &= m - 1 {
			l := bits.TrailingZeros32(m) & 31
			d[l] = w.t64[l]
		}
	}
}

// run executes at most steps instructions and returns how many it did. It stops early when the warp waits at a block
// barrier or has finished.
func (w *warp) run(steps int) int {
	code := w.code.insts
	n := 0
	for n < steps && w.state == ready {
		in := &code[w.pc]
		w.pc++
		n++
		mask := w.active
		if in.guard >= 0 {
			if in.not {
				mask &^= w.p[in.guard]
			} else {
				mask &= w.p[in.guard]
			}
		}
		if mask != 0 {
			w.mask = mask
			in.fn(w, in)
			if mask != fullMask && in.out != outNone {
				w.merge(in)
			}
		}
		if w.pc >= w.other || w.active == 0 {
			w.regroup()
		}
	}
	return n
}

// park leaves the active lanes at their PC and picks others.
func (w *warp) park() {
	for m := w.active; m != 0; m &= m - 1 {
		w.lanePC[bits.TrailingZeros32(m)] = w.pc
	}
	w.active = 0
}

// regroup makes the runnable lanes with the smallest PC the active ones.
func (w *warp) regroup() {
	w.park()
	runnable := w.live &^ w.waiting
	if runnable == 0 {
		w.stuck()
		return
	}
	w.pc, w.other = never, never
	for m := runnable; m != 0; m &= m - 1 {
		switch l := bits.TrailingZeros32(m); {
		case w.lanePC[l] < w.pc:
			w.other = w.pc
			w.pc, w.active = w.lanePC[l], 1<<l
		case w.lanePC[l] == w.pc:
			w.active |= 1 << l
		case w.lanePC[l] < w.other:
			w.other = w.lanePC[l]
		}
	}
}

// stuck handles a warp in which no lane can run: it has finished, its waiting lanes can go on because the ones they
// wait for have exited, or they wait for ever.
func (w *warp) stuck() {
	w.pc, w.other = 0, never
	if w.live == 0 {
		w.state = finished
		return
	}
	for m := w.waiting; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m)
		if together := w.waitingWith(w.lanePC[l], w.member[l]); together == w.member[l]&w.live {
			w.release(together)
			return
		}
	}
	l := bits.TrailingZeros32(w.waiting)
	together := w.waitingWith(w.lanePC[l], w.member[l])
	rest := w.live & w.member[l] &^ together
	at := w.code.insts[w.lanePC[bits.TrailingZeros32(rest)]].line
	panic(&fault{rc: LaunchFailed, lane: l, line: w.code.insts[w.lanePC[l]].line,
		msg: fmt.Sprintf("lanes %#08x wait here for lanes %#08x, which wait at line %d: deadlock by divergence", together, rest, at)})
}

// waitingWith returns the lanes that wait for member at pc, or at any bar.warp.sync if the one at pc is one.
func (w *warp) waitingWith(pc int32, member uint32) uint32 {
	together := uint32(0)
	anywhere := w.code.insts[pc].flags&flagWarpBarrier != 0
	for m := w.waiting; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m)
		same := w.lanePC[l] == pc || anywhere && w.code.insts[w.lanePC[l]].flags&flagWarpBarrier != 0
		if same && w.member[l] == member {
			together |= 1 << l
		}
	}
	return together
}

// release lets waiting lanes run again, at the instruction they wait at; run regroups.
func (w *warp) release(m uint32) {
	w.waiting &^= m
	l := bits.TrailingZeros32(m)
	if w.code.insts[w.lanePC[l]].flags&flagWarpBarrier != 0 {
		w.passWarpBarrier(m)
	}
	w.regroup()
}

// converge is called by a .sync instruction whose lanes must execute it together with all live lanes of member. It
// reports whether they are all here, in w.mask; if not, the lanes wait and the instruction does nothing yet.
func (w *warp) converge(in *inst, member uint32) bool {
	need := member & w.live
	if w.mask == need {
		return true
	}
	pc := w.pc - 1
	if w.mask&^member != 0 {
		w.fail(LaunchFailed, bits.TrailingZeros32(w.mask&^member), "lane is not in the member mask %#08x", member)
	}
	here := w.waitingWith(pc, member) | w.mask
	for m := w.mask; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m)
		w.lanePC[l], w.member[l] = pc, member
	}
	if here == need { // the last ones have come
		rest := w.active &^ w.mask
		w.active = rest
		w.park()
		w.waiting &^= here // run regroups, and they come back here together
		return false
	}
	w.waiting |= w.mask
	w.active &^= w.mask
	return false
}

// branch moves the lanes of taken to target.
func (w *warp) branch(taken uint32, target int32) {
	if taken == w.active {
		w.pc = target
		return
	}
	if target == w.pc {
		return
	}
	for m := taken; m != 0; m &= m - 1 {
		w.lanePC[bits.TrailingZeros32(m)] = target
	}
	w.active &^= taken
	w.other = min(w.other, target) // run regroups if that is behind the others
}

func execBranch(w *warp, in *inst) { w.branch(w.mask, in.target) }

// execIndexed is brx.idx.
func execIndexed(w *warp, in *inst) {
	index := w.r32(in.a)
	from := w.pc
	for m := w.mask; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m)
		if int(index[l]) >= len(in.more.targets) {
			w.fail(LaunchFailed, l, "index %d of a table of %d branch targets", index[l], len(in.more.targets))
		}
		w.lanePC[l] = in.more.targets[index[l]]
	}
	rest := w.active &^ w.mask
	for m := rest; m != 0; m &= m - 1 {
		w.lanePC[bits.TrailingZeros32(m)] = from
	}
	w.active = 0
	w.regroup()
}

func execExit(w *warp, in *inst) {
	w.live &^= w.mask
	w.active &^= w.mask
}

func execTrap(w *warp, in *inst) {
	w.fail(LaunchFailed, bits.TrailingZeros32(w.mask), "trap")
}

func execNothing(*warp, *inst) {}
