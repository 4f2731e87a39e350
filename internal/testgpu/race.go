package testgpu

import (
	"sync"
	"sync/atomic"
)

// Races in global memory. Each two bytes that kernels have stored to remember who did it and when; another thread may
// touch them in the same launch only behind a barrier (in its block) or behind a fence and an atomic access of the
// writer that came before an atomic access and a fence of its own (in any block). Which address the atomics use is not
// looked at. Reads are not remembered: a write after a read is found only where blocks or warps run in another order
// (Config.Shuffle). Single bytes are not watched.

// trace, read and written atomically by atomic accesses, is launch<<52 | block<<32 | stamp; 0: not written by a kernel.
type trace uint64

func (t *trace) load(strong stamp) trace {
	if strong != 0 {
		return trace(atomic.LoadUint64((*uint64)(t)))
	}
	return *t
}

func (t *trace) set(v trace, strong stamp) {
	if strong != 0 {
		atomic.StoreUint64((*uint64)(t), uint64(v))
	} else {
		*t = v
	}
}

const (
	traceBlocks   = 1 << 20 // launches of more blocks are not watched
	traceLaunches = 1<<12 - 1
)

// tracePage is the traces of pageBytes bytes, made at the first store to them.
type tracePage [pageBytes / 2]trace

const pageBytes = 4096

// traces returns those of n bytes at off, in one page: an access is aligned, so it does not cross one. With make it makes
// the page; without, nil says that no kernel has stored there.
func (a *allocation) traces(off, n int, make bool) []trace {
	at := &a.pages[off/pageBytes]
	page := at.Load()
	if page == nil {
		if !make {
			return nil
		}
		at.CompareAndSwap(nil, new(tracePage))
		page = at.Load()
	}
	off %= pageBytes
	return page[off/2 : (off+n+1)/2]
}

// syncPoint says that what a block wrote up to a time (of its own) is published since a moment of the launch.
type syncPoint struct {
	until  uint32
	thread uint32 // whose fence it was
	moment int64
}

// syncs is what a launch's blocks have published.
type syncs struct {
	clock  atomic.Int64
	mu     sync.Mutex
	points map[uint32][]syncPoint
}

// publish notes that block number id has done an atomic access behind a fence.
func (s *syncs) publish(id, until, thread uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.points[id]
	if n := len(all); n > 0 && all[n-1].until >= until && all[n-1].thread == thread {
		return
	}
	if s.points == nil {
		s.points = map[uint32][]syncPoint{}
	}
	s.points[id] = append(all, syncPoint{until, thread, s.clock.Add(1)})
}

// published returns the moment since which a block's write is published; false if it is not.
func (s *syncs) published(id uint32, write stamp) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.points[id] {
		if p.until > write.time() || p.until == write.time() && p.thread == uint32(write&stampThread) {
			return p.moment, true
		}
	}
	return 0, false
}

// fences is what a warp's lanes have done to order memory.
type fences struct {
	at      [32]uint32 // time of the lane's last fence; 0: none
	touched [32]int64  // moment of its last atomic access
}

// execFence is fence and membar of more than a block.
func execFence(w *warp, in *inst) {
	for l := range 32 {
		if w.mask>>l&1 != 0 {
			w.fences.at[l] = w.block.shared.now
			w.block.acquired = max(w.block.acquired, w.fences.touched[l])
		}
	}
}

const (
	orderAcquire = 1 << iota // of atomics' inst.flags
	orderRelease
)

// beforeAtomic publishes the lane's fence, or all if the access itself releases.
func (w *warp) beforeAtomic(lane int, release bool) {
	until := w.fences.at[lane]
	if release {
		until = w.block.shared.now
	}
	if until > 0 {
		w.block.launch.syncs.publish(uint32(w.block.serial), until, uint32(w.index<<5|lane))
	}
}

// afterAtomic notes when the lane saw what others have published.
func (w *warp) afterAtomic(lane int, acquire bool) {
	moment := w.block.launch.syncs.clock.Add(1)
	w.fences.touched[lane] = moment
	if acquire {
		w.block.acquired = max(w.block.acquired, moment)
	}
}

// trace of a store by a lane now.
func (w *warp) traceOf(lane int, strong stamp) trace {
	b := w.block
	a := access{w: w, lane: lane, strong: strong}
	return b.launch.trace | trace(b.serial)<<32 | trace(a.stamp())
}

// traceStore checks and notes a store of p at off, before it is done. The lanes of a warp may write the same value.
func (w *warp) traceStore(a *allocation, off int, p []byte, lane int, strong stamp) {
	if w.early>>lane&1 != 0 {
		w.fail(LaunchFailed, lane, "store before griddepcontrol.wait: a kernel before this one may still use what was there")
	}
	if w.block.launch.trace == 0 || len(p) < 2 {
		return
	}
	mine := w.traceOf(lane, strong)
	traces := a.traces(off, len(p), true)
	for i := range traces {
		if t := traces[i].load(strong); t>>52 == mine>>52 && t != mine {
			const warp = traceBlocks<<32 - 1<<32 | stampThread&^31
			if strong != 0 || (t^mine)&warp != 0 || le16(a.data[off+2*i:]) != le16(p[2*i:]) {
				w.conflict(t, lane, strong, "write after write", off+2*i)
			}
		}
		traces[i].set(mine, strong)
	}
}

// traceStores notes a row of stores of n bytes each, step apart. It returns false where one needs a closer look.
func (w *warp) traceStores(a *allocation, off, step, n int) bool {
	if w.block.launch.trace == 0 {
		return true
	}
	mine := w.traceOf(0, 0)
	row, onePage := a.rowTraces(off, 31*step+n, true)
	for l := range 32 {
		traces := row
		if onePage {
			traces = row[l*step/2 : (l*step+n)/2]
		} else {
			traces = a.traces(off+l*step, n, true)
		}
		for i, t := range traces {
			if t>>52 == mine>>52 && t != mine {
				return false
			}
			traces[i] = mine
		}
		mine++ // the next thread
	}
	return true
}

// traceLoads checks a row of loads of n bytes each.
func (w *warp) traceLoads(a *allocation, off, step, n int) {
	if w.block.launch.trace == 0 {
		return
	}
	row, onePage := a.rowTraces(off, 31*step+n, false)
	// Between lanes that leave gaps other blocks may store now: their traces are not looked at.
	if onePage && (row == nil || step <= n && !anyOf(row, w.block.launch.trace>>52)) {
		return
	}
	between := 1
	if step == 0 {
		between = 31 // the first and the last stand for all
	}
	for l := 0; l < 32; l += between {
		w.traceLoad(a, off+l*step, n, l, 0)
	}
}

func anyOf(traces []trace, launch trace) bool {
	for _, t := range traces {
		if t>>52 == launch {
			return true
		}
	}
	return false
}

// rowTraces is traces for a row of accesses, if it lies in one page.
func (a *allocation) rowTraces(off, size int, make bool) ([]trace, bool) {
	if off/pageBytes != (off+size-1)/pageBytes {
		return nil, false
	}
	return a.traces(off, size, make), true
}

// traceLoad checks a load of n bytes at off.
func (w *warp) traceLoad(a *allocation, off, n, lane int, strong stamp) {
	if w.block.launch.trace == 0 {
		return
	}
	launch := w.block.launch.trace >> 52
	traces := a.traces(off, n, false)
	for i := range traces {
		if t := traces[i].load(strong); t>>52 == launch {
			w.conflict(t, lane, strong, "read after write", off+2*i)
		}
	}
}

// conflict fails if the write of t is not ordered before what the lane does now.
func (w *warp) conflict(t trace, lane int, strong stamp, kind string, off int) {
	b := w.block
	write, from := stamp(t), uint32(t>>32)&(traceBlocks-1)
	if write&strong&stampStrong != 0 {
		return
	}
	if from == uint32(b.serial) {
		a := access{w: w, lane: lane}
		if b.shared.forgotten || a.ordered(write) {
			return
		}
	}
	if moment, ok := b.launch.syncs.published(from, write); ok && moment < b.acquired {
		return
	}
	thread := int(write & stampThread)
	if from == uint32(b.serial) {
		w.fail(LaunchFailed, lane, "race on byte %d of an allocation: %s with no barrier between it and thread %d", off, kind, thread)
	}
	w.fail(LaunchFailed, lane, "race on byte %d of an allocation: %s with no fence and atomic access between it and thread %d of block %v",
		off, kind, thread, b.launch.blockID(int(from)))
}

// blockID returns the coordinates of block number i.
func (l *launch) blockID(i int) [3]int {
	return [3]int{i % l.grid[0], i / l.grid[0] % l.grid[1], i / l.grid[0] / l.grid[1]}
}

// watch gives a launch its number in traces; when numbers are used up, all traces are wiped.
func (g *GPU) watch(l *launch, blocks int) {
	if g.config.IgnoreGlobalRaces || blocks > traceBlocks {
		return
	}
	if g.watched++; g.watched > traceLaunches {
		g.watched = 1
		for _, a := range g.memory.allocs {
			for i := range a.pages {
				a.pages[i].Store(nil)
			}
		}
	}
	l.trace = trace(g.watched) << 52
}
