package testgpu

import "math/bits"

// copyQueue holds a warp's asynchronous copies that were not waited for, oldest first.
type copyQueue struct {
	pending   []asyncCopy
	committed [32]int32 // groups that a lane has closed
}

// asyncCopy carries the bytes from the time it was issued; they appear at the wait.
type asyncCopy struct {
	data  [16]byte
	off   int32 // in shared memory
	group int32
	n     uint8
	lane  uint8
}

func (q *copyQueue) reset() {
	q.pending = q.pending[:0]
	clear(q.committed[:])
}

// execCopyAsync is cp.async of width bytes, of which the first b are read and the rest are zero (noSlot: all). The
// destination is address a + imm, the source more.src + target.
func execCopyAsync(w *warp, in *inst) {
	n := int(in.width)
	for m := w.mask; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m) & 31
		c := asyncCopy{n: in.width, lane: uint8(l), group: w.copies.committed[l]}
		from := w.r64(in.more.src)[l] + uint64(int64(in.target))
		size := n
		if in.b != noSlot {
			size = int(w.r32(in.b)[l])
			if size > n {
				w.fail(LaunchFailed, l, "cp.async of %d bytes from a source of %d", n, size)
			}
		}
		if from&uint64(n-1) != 0 {
			w.fail(MisalignedAddress, l, "cp.async of %d bytes from %#x is not aligned", n, from)
		}
		for i := 0; i < size; {
			step := n
			for step > size-i {
				step /= 2
			}
			copy(c.data[i:], w.globalLoad(l, from+uint64(i), step, 0))
			i += step
		}
		s := &w.block.shared
		off := s.at(w, l, w.address(in, l), n)
		c.off = int32(off)
		a := access{w: w, lane: l}
		for i := off; i < off+n; i += 4 {
			a.off = i
			s.markPending(&a, i)
		}
		w.copies.pending = append(w.copies.pending, c)
	}
}

// markPending checks a write to the word at off and makes every access to it an error until the copy has arrived.
func (s *sharedMemory) markPending(a *access, off int) {
	c := &s.cells[off/4]
	if c.w == stampMixed {
		for i := range s.bytes[off/4] {
			a.write(&s.bytes[off/4][i], false)
		}
		*c = cell{}
	} else {
		a.write(c, false)
	}
	c.w, c.r = stampPending, 0
}

// execCommit is cp.async.commit_group.
func execCommit(w *warp, in *inst) {
	for m := w.mask; m != 0; m &= m - 1 {
		w.copies.committed[bits.TrailingZeros32(m)]++
	}
}

// execWait is cp.async.wait_group imm and, with imm < 0, cp.async.wait_all.
func execWait(w *warp, in *inst) {
	q := &w.copies
	kept := q.pending[:0]
	for i := range q.pending {
		c := &q.pending[i]
		l := c.lane & 31
		if w.mask>>l&1 == 0 || in.imm >= 0 && int64(c.group) >= int64(q.committed[l])-in.imm {
			kept = append(kept, *c)
			continue
		}
		w.arrive(c)
	}
	q.pending = kept
}

// arrive makes a copy visible, as written by its thread now.
func (w *warp) arrive(c *asyncCopy) {
	s := &w.block.shared
	off, n := int(c.off), int(c.n)
	copy(s.data[off:off+n], c.data[:n])
	a := access{w: w, lane: int(c.lane)}
	for i := off; i < off+n; i += 4 {
		s.cells[i/4] = cell{w: a.stamp()}
	}
}
