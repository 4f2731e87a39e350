package testgpu

// Loads and stores by a full warp whose lanes' addresses are a constant distance apart, which most are: the place is
// looked up once. What does not fit returns false, and goes lane by lane to the same result or error.

// stride returns the address of lane 0 and the distance between neighbours.
func (w *warp) stride(in *inst) (first uint64, step int64, ok bool) {
	switch in.base {
	case base64:
		a := w.r64(in.a)
		diff, bad := a[1]-a[0], uint64(0)
		for l := 1; l < 32; l++ {
			bad |= a[l] - a[l-1] ^ diff
		}
		first, step, ok = a[0]+uint64(in.imm), int64(diff), bad == 0
	case base32:
		a := w.r32(in.a)
		diff, bad := a[1]-a[0], uint32(0)
		for l := 1; l < 32; l++ {
			bad |= a[l] - a[l-1] ^ diff
		}
		first, step, ok = uint64(a[0])+uint64(in.imm), int64(int32(diff)), bad == 0
	}
	return first, step, ok && step >= 0 && step <= 1<<20
}

// globalRow finds the bytes of all lanes, size in all; n is a lane's.
func (w *warp) globalRow(in *inst, n int) (a *allocation, off, size, step int, ok bool) {
	first, far, ok := w.stride(in)
	if !ok || (first|uint64(far))&uint64(n-1) != 0 || in.flags&memStrong != 0 {
		return nil, 0, 0, 0, false
	}
	a, at := w.place(0, first, n)
	size = 31*int(far) + n
	if uint64(size) > uint64(len(a.data))-at {
		return nil, 0, 0, 0, false
	}
	return a, int(at), size, int(far), true
}

func (w *warp) loadGlobalRow(in *inst) bool {
	n := int(in.width) * int(in.count)
	a, off, size, step, ok := w.globalRow(in, n)
	if !ok || !rowWritten(a.written[off:off+size], step, n) {
		return false
	}
	w.traceLoads(a, off, step, n)
	w.takeRow(in, a.data[off:off+size], step)
	return true
}

// loadGlobalLanes is execLoad for a full warp and weak loads of global memory, with the checks in line.
func (w *warp) loadGlobalLanes(in *inst) {
	if in.flags&memStrong != 0 {
		w.loadLanes(in)
		return
	}
	n := int(in.width) * int(in.count)
	watch := w.block.launch.trace != 0
	for l := range 32 {
		addr := w.address(in, l)
		a := w.cached
		off := addr - a.base
		if off >= uint64(len(a.data)) || uint64(n) > uint64(len(a.data))-off || addr&uint64(n-1) != 0 {
			a, off = w.place(l, addr, n)
		}
		if !allWritten(a.written[off : off+uint64(n)]) {
			w.globalLoad(l, addr, n, 0) // which fails
		}
		if watch && a.pages[off/pageBytes].Load() != nil {
			w.traceLoad(a, int(off), n, l, 0)
		}
		w.take(in, l, a.data[off:off+uint64(n)])
	}
}

// take sets the registers of one lane's load.
func (w *warp) take(in *inst, l int, p []byte) {
	if in.width == 4 && in.flags&memReg64 == 0 {
		for i, slot := range in.vec {
			if slot >= 0 {
				w.r[slot][l] = le32(p[4*i:])
			}
		}
		return
	}
	for i, slot := range in.vec {
		if slot >= 0 {
			w.setElement(in, slot, l, p[i*int(in.width):])
		}
	}
}

func rowWritten(written []byte, step, n int) bool {
	if step == 0 {
		return allWritten(written[:n])
	}
	if step == n && n >= 2 { // one piece
		all := uint64(ones)
		for len(written) >= 8 {
			all &= le64(written)
			written = written[8:]
		}
		return all == ones
	}
	for l := range 32 {
		if !allWritten(written[l*step : l*step+n]) {
			return false
		}
	}
	return true
}

// takeRow sets the registers of a load from a row of bytes.
func (w *warp) takeRow(in *inst, data []byte, step int) {
	for i, slot := range in.vec {
		switch {
		case slot < 0:
		case in.width == 4 && in.flags&memReg64 == 0:
			d := &w.r[slot]
			for l := range d {
				d[l] = le32(data[l*step+4*i:])
			}
		case in.width == 8:
			d := &w.d[slot]
			for l := range d {
				d[l] = le64(data[l*step+8*i:])
			}
		case in.width == 2 && in.flags&(memReg64|memSigned) == 0:
			d := &w.r[slot]
			for l := range d {
				d[l] = uint32(le16(data[l*step+2*i:]))
			}
		default:
			for l := range 32 {
				w.setElement(in, slot, l, data[l*step+i*int(in.width):])
			}
		}
	}
}

// storeGlobalRow serves words only.
func (w *warp) storeGlobalRow(in *inst) bool {
	n := 4 * int(in.count)
	if in.width != 4 || in.flags&memReg64 != 0 {
		return false
	}
	a, off, size, step, ok := w.globalRow(in, n)
	if !ok || step < n {
		return false
	}
	if !w.traceStores(a, off, step, n) {
		return false
	}
	data, written := a.data[off:off+size], a.written[off:off+size]
	for i, slot := range in.vec {
		v := w.r32(slot)
		for l := range v {
			putLE32(data[l*step+4*i:], v[l])
			putLE32(written[l*step+4*i:], ones&0xffffffff)
		}
	}
	return true
}

// sharedRow finds the offset of lane 0 in shared memory.
func (w *warp) sharedRow(in *inst, n int) (off, step int, ok bool) {
	first, far, ok := w.stride(in)
	s := &w.block.shared
	at := first - s.base
	if !ok || (first|uint64(far))&uint64(n-1) != 0 || at > uint64(len(s.data)) || uint64(31*far)+uint64(n) > uint64(len(s.data))-at {
		return 0, 0, false
	}
	return int(at), int(far), true
}

// loadSharedRow serves words that nobody has touched since the last barrier except to read them.
func (w *warp) loadSharedRow(in *inst) bool {
	n := int(in.width) * int(in.count)
	if n&3 != 0 || in.flags&memStrong != 0 {
		return false
	}
	off, step, ok := w.sharedRow(in, n)
	if !ok {
		return false
	}
	s := &w.block.shared
	settled := s.lastBar - 1
	for l := range 32 {
		for i := (off + l*step) / 4; i < (off+l*step+n)/4; i++ {
			if s.cells[i].w.time()-1 >= settled {
				return false
			}
		}
	}
	a := access{w: w}
	if step == 0 {
		a.lane = 31
		for i := off / 4; i < (off+n)/4; i++ {
			a.read(&s.cells[i])
			s.cells[i].r |= stampLanes
		}
	} else {
		for l := range 32 {
			a.lane = l
			for i := (off + l*step) / 4; i < (off+l*step+n)/4; i++ {
				a.read(&s.cells[i])
			}
		}
	}
	w.takeRow(in, s.data[off:], step)
	return true
}
