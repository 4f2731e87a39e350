package testgpu

import "math/bits"

// synced notes that the lanes of the warp have met: what they wrote to shared memory is visible to each other.
func (w *warp) synced() { w.lastSync = w.block.shared.tick() }

// member reads an instruction's member mask, which must be the same for all lanes that execute it.
func (w *warp) memberMask(slot int32) uint32 {
	m := w.r32(slot)
	first := bits.TrailingZeros32(w.mask)
	if slot >= 0 {
		for rest := w.mask; rest != 0; rest &= rest - 1 {
			if l := bits.TrailingZeros32(rest); m[l] != m[first] {
				w.fail(LaunchFailed, l, "member mask %#08x differs from %#08x of lane %d", m[l], m[first], first)
			}
		}
	}
	if m[first]>>first&1 == 0 {
		w.fail(LaunchFailed, first, "lane is not in the member mask %#08x", m[first])
	}
	return m[first]
}

// execWarpBarrier is bar.warp.sync.
func execWarpBarrier(w *warp, in *inst) {
	member := w.memberMask(in.a)
	if w.mask == member&w.live {
		w.synced()
		return
	}
	pc := w.pc - 1
	for m := w.mask; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m)
		w.lanePC[l], w.member[l] = pc, member
	}
	w.waiting |= w.mask
	w.active &^= w.mask
	if here := w.waitingWith(pc, member); here == member&w.live {
		w.waiting &^= here
		w.passWarpBarrier(here)
		w.other = min(w.other, 0) // run regroups
	}
}

// passWarpBarrier moves lanes that waited at a bar.warp.sync behind it.
func (w *warp) passWarpBarrier(m uint32) {
	for ; m != 0; m &= m - 1 {
		w.lanePC[bits.TrailingZeros32(m)]++
	}
	w.synced()
}

const (
	shflUp = iota
	shflDown
	shflBfly
	shflIdx
)

// execShfl exchanges a between lanes.
func execShfl(w *warp, in *inst) {
	member := w.memberMask(in.more.src)
	if !w.converge(in, member) {
		return
	}
	w.synced()
	a, b, c := *w.r32(in.a), w.r32(in.b), w.r32(in.c)
	d := &w.r[in.d]
	if in.sub == shflBfly && w.mask == fullMask && in.b < 0 && in.c < 0 && c[0] == 31 && in.second < 0 {
		x := b[0] & 31
		for l := range d {
			d[l] = a[(uint32(l)^x)&31]
		}
		return
	}
	valid := uint32(0)
	for m := w.mask; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m) & 31
		j, ok := shflSource(in.sub, l, int(b[l]&31), c[l])
		if ok {
			valid |= 1 << l
			if w.mask>>j&1 == 0 {
				w.fail(LaunchFailed, l, "shuffle reads lane %d, which does not take part", j)
			}
		}
		d[l] = a[j]
	}
	if in.second >= 0 {
		w.setPred(in.second, valid)
	}
}

// shflSource returns the lane to read, and whether it is in the segment; if not, a lane reads itself.
func shflSource(mode uint8, lane, b int, c uint32) (int, bool) {
	clamp, segment := int(c&31), int(c>>8&31)
	most := lane&segment | clamp&^segment
	least := lane & segment
	j, ok := lane, false
	switch mode {
	case shflUp:
		j = lane - b
		ok = j >= most
	case shflDown:
		j = lane + b
		ok = j <= most
	case shflBfly:
		j = lane ^ b
		ok = j <= most
	case shflIdx:
		j = least | b&^segment
		ok = j <= most
	}
	if !ok {
		return lane, false
	}
	return j, true
}

const (
	voteAll = iota
	voteAny
	voteUni
	voteBallot
)

func execVote(w *warp, in *inst) {
	if !w.converge(in, w.memberMask(in.b)) {
		return
	}
	w.synced()
	p := w.pred(in.a) & w.mask
	result := uint32(0)
	switch in.sub {
	case voteBallot:
		d := &w.r[in.d]
		for m := w.mask; m != 0; m &= m - 1 {
			d[bits.TrailingZeros32(m)] = p
		}
		return
	case voteAll:
		result = -b2u(p == w.mask)
	case voteAny:
		result = -b2u(p != 0)
	case voteUni:
		result = -b2u(p == 0 || p == w.mask)
	}
	w.setPred(in.d, result)
}

// execMatch is match.any (sub 0) and match.all (sub 1), on 32 or 64 bits (width).
func execMatch(w *warp, in *inst) {
	if !w.converge(in, w.memberMask(in.b)) {
		return
	}
	w.synced()
	value := func(l int) uint64 {
		if in.width == 64 {
			return w.r64(in.a)[l]
		}
		return uint64(w.r32(in.a)[l])
	}
	var same [32]uint32
	all := true
	for m := w.mask; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m)
		for n := w.mask; n != 0; n &= n - 1 {
			if k := bits.TrailingZeros32(n); value(k) == value(l) {
				same[l] |= 1 << k
			}
		}
		all = all && same[l] == w.mask
	}
	d := &w.r[in.d]
	for m := w.mask; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m)
		if in.sub == 1 {
			d[l] = w.mask & -b2u(all)
		} else {
			d[l] = same[l]
		}
	}
	if in.second >= 0 {
		w.setPred(in.second, -b2u(all))
	}
}

func execActiveMask(w *warp, in *inst) {
	d := &w.r[in.d]
	for m := w.mask; m != 0; m &= m - 1 {
		d[bits.TrailingZeros32(m)] = w.mask
	}
}

// execRedux folds a over the lanes with more.update.
func execRedux(w *warp, in *inst) {
	if !w.converge(in, w.memberMask(in.b)) {
		return
	}
	w.synced()
	a := w.r32(in.a)
	v := uint64(a[bits.TrailingZeros32(w.mask)])
	for m := w.mask & (w.mask - 1); m != 0; m &= m - 1 {
		v = in.more.update(v, uint64(a[bits.TrailingZeros32(m)]), 0)
	}
	d := &w.r[in.d]
	for m := w.mask; m != 0; m &= m - 1 {
		d[bits.TrailingZeros32(m)] = uint32(v)
	}
}
