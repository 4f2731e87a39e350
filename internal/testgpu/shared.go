package testgpu

// Shared memory with a record of who touched each word last, so that sharing without a barrier is an error.
//
// Time is a counter of the block that every barrier and every warp synchronisation advances. An access is ordered
// behind all that happened before the last barrier, and behind its own warp's accesses before the warp's last
// synchronisation (bar.warp.sync, shuffles, votes). A barrier of some of the warps counts as one of all of them.

// stamp is time<<13 | flags | thread. 0: never.
type stamp uint32

const (
	stampThread = 1<<10 - 1
	stampStrong = 1 << 10 // atomic, volatile, relaxed or stronger
	stampLanes  = 1 << 11 // of a read: by several lanes of the warp since its last synchronisation
	stampWarps  = 1 << 12 // of a read: by several warps since the last barrier
	stampShift  = 13
	lastTime    = 1<<19 - 2

	stampMixed   stamp = 0xffffffff // look at the four bytes' own cells
	stampPending stamp = 0xfffffffe // an asynchronous copy that nobody waited for
)

func (s stamp) time() uint32 { return uint32(s >> stampShift) }

// cell is the history of one word, or of one byte of a mixed word.
type cell struct{ w, r stamp }

type sharedMemory struct {
	data      []byte
	cells     []cell    // one for each 4 bytes
	bytes     [][4]cell // of mixed words
	base      uint64    // address of data[0]
	now       uint32
	lastBar   uint32
	forgotten bool // time has started again
}

// reset makes n bytes of uninitialised shared memory, of which only addresses aligned to align are special.
func (s *sharedMemory) reset(n, align int) {
	if cap(s.data) < n {
		s.data = alignedBytes(int64(n))
		s.cells = make([]cell, (n+3)/4)
		s.bytes = nil
	}
	s.data, s.cells = s.data[:n], s.cells[:(n+3)/4]
	clear(s.cells)
	s.base = 1024 + uint64(align)
	s.now, s.lastBar, s.forgotten = 1, 1, false
}

// tick advances time.
func (s *sharedMemory) tick() uint32 {
	s.now++
	if s.now >= lastTime {
		s.forget()
	}
	return s.now
}

// forget makes every access so far ordered before every one to come.
func (s *sharedMemory) forget() {
	old := func(c *cell) {
		if c.w != 0 && c.w != stampPending && c.w != stampMixed {
			c.w = 1<<stampShift | c.w&stampThread
		}
		c.r = 0
	}
	for i := range s.cells {
		old(&s.cells[i])
		if s.cells[i].w == stampMixed {
			for j := range s.bytes[i] {
				old(&s.bytes[i][j])
			}
		}
	}
	s.now, s.lastBar, s.forgotten = 2, 2, true
}

func (s *sharedMemory) barrier() {
	s.lastBar = s.tick()
	if s.now > lastTime/2 {
		s.forget()
	}
}

// access is one lane's access to shared memory.
type access struct {
	w      *warp
	lane   int
	off    int // of the byte, for messages
	strong stamp
}

func (a *access) stamp() stamp {
	return stamp(a.w.block.shared.now)<<stampShift | a.strong | stamp(a.w.index<<5|a.lane)
}

// ordered reports whether the access of s certainly happened before a.
func (a *access) ordered(s stamp) bool {
	if s.time() < a.w.block.shared.lastBar {
		return true
	}
	thread := int(s & stampThread)
	if thread>>5 != a.w.index {
		return false
	}
	return thread&31 == a.lane || s.time() < a.w.lastSync
}

func (a *access) race(kind string, s stamp) {
	thread := int(s & stampThread)
	what := "no barrier"
	if thread>>5 == a.w.index {
		what = "no warp synchronisation"
	}
	a.w.fail(LaunchFailed, a.lane, "race on shared byte %d: %s with %s between it and thread %d", a.off, kind, what, thread)
}

// settled fails if the byte of s may not be read by a.
func (a *access) settled(s stamp) {
	switch {
	case s == 0:
		a.w.fail(LaunchFailed, a.lane, "read of shared byte %d, which nobody has written (yet: is a barrier missing?)", a.off)
	case s == stampPending:
		a.w.fail(LaunchFailed, a.lane, "read of shared byte %d while an asynchronous copy to it is under way (cp.async.wait missing)", a.off)
	case !a.ordered(s) && s&a.strong&stampStrong == 0:
		a.race("read after write", s)
	}
}

func (a *access) noteRead(c *cell) {
	s := a.stamp()
	if old := c.r; old.time() >= a.w.block.shared.lastBar && old&stampThread != s&stampThread {
		s |= old & stampWarps
		if int(old&stampThread)>>5 != a.w.index {
			s |= stampWarps
		} else if old.time() >= a.w.lastSync {
			s |= stampLanes
		}
		if old&a.strong&stampStrong == 0 {
			s &^= stampStrong
		}
	} else if old.time() >= a.w.block.shared.lastBar {
		s |= old & stampWarps
		if old.time() >= a.w.lastSync {
			s |= old & stampLanes
		}
	}
	c.r = s
}

func (a *access) read(c *cell) {
	if t := c.w.time(); t-1 >= a.w.block.shared.lastBar-1 {
		a.settled(c.w)
	}
	if c.r.time() < a.w.block.shared.lastBar {
		c.r = a.stamp()
		return
	}
	a.noteRead(c)
}

// write checks and records a write; same says that the bytes do not change.
func (a *access) write(c *cell, same bool) {
	if c.w == stampPending {
		a.w.fail(LaunchFailed, a.lane, "write to shared byte %d while an asynchronous copy to it is under way", a.off)
	}
	if !a.ordered(c.w) && c.w&a.strong&stampStrong == 0 {
		if !same || int(c.w&stampThread)>>5 != a.w.index { // lanes of a warp may write the same value
			a.race("write after write", c.w)
		}
	}
	if r := c.r; r.time() >= a.w.block.shared.lastBar && r&a.strong&stampStrong == 0 {
		switch {
		case !a.ordered(r):
			a.race("write after read", r)
		case r&stampWarps != 0:
			a.w.fail(LaunchFailed, a.lane, "race on shared byte %d: write after read by other warps with no barrier between", a.off)
		case r&stampLanes != 0 && r.time() >= a.w.lastSync:
			a.w.fail(LaunchFailed, a.lane, "race on shared byte %d: write after read by other lanes with no warp synchronisation between", a.off)
		}
	}
	c.w, c.r = a.stamp(), 0
}

// split gives each byte of word i its own history.
func (s *sharedMemory) split(i int) *[4]cell {
	if s.bytes == nil {
		s.bytes = make([][4]cell, cap(s.cells))
	}
	if c := &s.cells[i]; c.w != stampMixed {
		s.bytes[i] = [4]cell{*c, *c, *c, *c}
		*c = cell{w: stampMixed}
	}
	return &s.bytes[i]
}

// readBytes records reads of n bytes at off that are not whole words, or of words whose bytes differ.
func (s *sharedMemory) readBytes(a *access, off, n int) {
	for end := off + n; off < end; {
		a.off = off
		i := off / 4
		if off&3 == 0 && end-off >= 4 && s.cells[i].w != stampMixed {
			a.read(&s.cells[i])
			off += 4
			continue
		}
		a.read(&s.split(i)[off&3])
		if off++; off&3 == 0 {
			s.join(i)
		}
	}
}

// write records a write of p at off.
func (s *sharedMemory) write(a *access, off int, p []byte) {
	for done := 0; done < len(p); {
		at := off + done
		a.off = at
		i := at / 4
		if at&3 == 0 && len(p)-done >= 4 && s.cells[i].w != stampMixed {
			a.write(&s.cells[i], le32(s.data[at:]) == le32(p[done:]))
			done += 4
			continue
		}
		a.write(&s.split(i)[at&3], s.data[at] == p[done])
		done++
		if (at+1)&3 == 0 {
			s.join(i)
		}
	}
	copy(s.data[off:], p)
}

// join makes a word of four bytes with one history whole again.
func (s *sharedMemory) join(i int) {
	b := &s.bytes[i]
	if b[0] == b[1] && b[0] == b[2] && b[0] == b[3] && b[0].w != stampPending {
		s.cells[i] = b[0]
	}
}

// at checks the place of an access and returns its offset in data.
func (s *sharedMemory) at(w *warp, lane int, addr uint64, n int) int {
	off := addr - s.base
	if off > uint64(len(s.data)) || uint64(n) > uint64(len(s.data))-off {
		w.fail(IllegalAddress, lane, "access of %d bytes at offset %d of %d bytes of shared memory", n, int64(off), len(s.data))
	}
	if addr&uint64(n-1) != 0 {
		w.fail(MisalignedAddress, lane, "access of %d bytes at shared offset %d is not aligned", n, off)
	}
	return int(off)
}

func (s *sharedMemory) load(w *warp, lane int, addr uint64, n int, strong stamp) []byte {
	off := s.at(w, lane, addr, n)
	a := access{w: w, lane: lane, off: off, strong: strong}
	if n&3 == 0 {
		for i := off / 4; ; i++ {
			if c := &s.cells[i]; c.w == stampMixed {
				break
			} else {
				a.off = 4 * i
				a.read(c)
			}
			if 4*i+4 == off+n {
				return s.data[off : off+n]
			}
		}
	}
	s.readBytes(&a, off, n)
	return s.data[off : off+n]
}

func (s *sharedMemory) store(w *warp, lane int, addr uint64, p []byte, strong stamp) {
	off := s.at(w, lane, addr, len(p))
	a := access{w: w, lane: lane, strong: strong}
	s.write(&a, off, p)
}
