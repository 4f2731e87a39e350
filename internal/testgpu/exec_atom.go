package testgpu

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// execAtom is atom and red on width bytes: d (-1: none) receives the old value, more.update makes the new one.
func execAtom(w *warp, in *inst) {
	n := int(in.width)
	for m := w.mask; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m) & 31
		addr := w.address(in, l)
		where := space(in.sub)
		if where == generic {
			where, addr = resolve(addr)
		}
		var b, c uint64
		if n == 8 {
			b = w.r64(in.b)[l]
			c = w.r64(in.c)[l]
		} else {
			b = uint64(w.r32(in.b)[l])
			c = uint64(w.r32(in.c)[l])
		}
		var old uint64
		switch where {
		case global:
			p := w.globalLoad(l, addr, n, stampStrong)
			a, off := w.place(l, addr, n)
			w.traceStore(a, int(off), p, l, stampStrong)
			w.beforeAtomic(l, in.flags&orderRelease != 0)
			old = atomicUpdate(p, func(old uint64) uint64 { return in.more.update(old, b, c) })
			w.afterAtomic(l, in.flags&orderAcquire != 0)
		case shared:
			old = w.sharedUpdate(in, l, addr, b, c)
		default:
			w.fail(IllegalAddress, l, "atomic access in space %s", where)
		}
		if in.d < 0 {
			continue
		}
		if n == 8 {
			w.d[in.d][l] = old
		} else {
			w.r[in.d][l] = uint32(old)
		}
	}
}

func (w *warp) sharedUpdate(in *inst, l int, addr, b, c uint64) uint64 {
	s := &w.block.shared
	p := s.load(w, l, addr, int(in.width), stampStrong)
	var buf [8]byte
	if in.width == 8 {
		old := le64(p)
		v := in.more.update(old, b, c)
		putLE32(buf[:], uint32(v))
		putLE32(buf[4:], uint32(v>>32))
		s.store(w, l, addr, buf[:], stampStrong)
		return old
	}
	old := le32(p)
	putLE32(buf[:], uint32(in.more.update(uint64(old), b, c)))
	s.store(w, l, addr, buf[:4], stampStrong)
	return uint64(old)
}

// atomicUpdate replaces the 4 or 8 bytes of p, which other blocks may update at the same time.
func atomicUpdate(p []byte, update func(uint64) uint64) uint64 {
	if len(p) == 8 {
		at := (*uint64)(unsafe.Pointer(unsafe.SliceData(p)))
		for {
			if old := atomic.LoadUint64(at); atomic.CompareAndSwapUint64(at, old, update(old)) {
				return old
			}
		}
	}
	at := (*uint32)(unsafe.Pointer(unsafe.SliceData(p)))
	for {
		if old := atomic.LoadUint32(at); atomic.CompareAndSwapUint32(at, old, uint32(update(uint64(old)))) {
			return uint64(old)
		}
	}
}

// strongLoad is a volatile, relaxed or acquiring load of global memory, atomic up to 8 bytes.
func (w *warp) strongLoad(in *inst, lane int, addr uint64, n int) []byte {
	p := w.globalLoad(lane, addr, n, stampStrong)
	if n == 4 || n == 8 {
		v := atomicUpdate(p, func(old uint64) uint64 { return old })
		binary.LittleEndian.PutUint64(w.strong[:], v)
		p = w.strong[:n]
	}
	w.afterAtomic(lane, in.flags&memOrdered != 0)
	return p
}

// strongStore is a volatile, relaxed or releasing store to global memory.
func (w *warp) strongStore(in *inst, lane int, addr uint64, p []byte) {
	a, off := w.place(lane, addr, len(p))
	w.traceStore(a, int(off), p, lane, stampStrong)
	w.beforeAtomic(lane, in.flags&memOrdered != 0)
	to := a.data[off : off+uint64(len(p))]
	switch len(p) {
	case 4:
		atomicUpdate(to, func(uint64) uint64 { return uint64(le32(p)) })
	case 8:
		atomicUpdate(to, func(uint64) uint64 { return le64(p) })
	default:
		copy(to, p)
	}
	if written := a.written[off : off+uint64(len(p))]; !allWritten(written) {
		fill(written, 1)
	}
}

// atomicOp returns the function of op on type t; nil if PTX has none for sm_80.
func atomicOp(op string, t scalar) func(old, b, c uint64) uint64 {
	wide := t.size() == 8
	switch op {
	case "exch":
		return func(_, b, _ uint64) uint64 { return b }
	case "cas":
		return func(old, b, c uint64) uint64 {
			if old == b {
				return c
			}
			return old
		}
	case "and":
		return func(old, b, _ uint64) uint64 { return old & b }
	case "or":
		return func(old, b, _ uint64) uint64 { return old | b }
	case "xor":
		return func(old, b, _ uint64) uint64 { return old ^ b }
	case "inc":
		return func(old, b, _ uint64) uint64 {
			if old >= b {
				return 0
			}
			return old + 1
		}
	case "dec":
		return func(old, b, _ uint64) uint64 {
			if old == 0 || old > b {
				return b
			}
			return old - 1
		}
	case "add":
		return atomicAdd(t, wide)
	case "min", "max":
		return atomicMinMax(op == "min", t, wide)
	}
	return nil
}

func atomicAdd(t scalar, wide bool) func(old, b, c uint64) uint64 {
	switch t {
	case f32:
		return func(old, b, _ uint64) uint64 { return uint64(ofF32(toF32(uint32(old)) + toF32(uint32(b)))) }
	case f64:
		return func(old, b, _ uint64) uint64 { return ofF64(toF64(old) + toF64(b)) }
	case f16x2, bf16x2:
		flags := uint8(halfPair)
		if t == bf16x2 {
			flags |= halfBF16
		}
		return func(old, b, _ uint64) uint64 {
			lo := half(halfAdd, flags, uint16(old), uint16(b), 0)
			return uint64(lo) | uint64(half(halfAdd, flags, uint16(old>>16), uint16(b>>16), 0))<<16
		}
	}
	if wide {
		return func(old, b, _ uint64) uint64 { return old + b }
	}
	return func(old, b, _ uint64) uint64 { return uint64(uint32(old) + uint32(b)) }
}

func atomicMinMax(least bool, t scalar, wide bool) func(old, b, c uint64) uint64 {
	below := func(a, b uint64) bool { return a < b }
	switch {
	case t.signed() && wide:
		below = func(a, b uint64) bool { return int64(a) < int64(b) }
	case t.signed():
		below = func(a, b uint64) bool { return int32(a) < int32(b) }
	}
	return func(old, b, _ uint64) uint64 {
		if below(b, old) == least {
			return b
		}
		return old
	}
}
