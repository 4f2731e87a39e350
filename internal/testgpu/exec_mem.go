package testgpu

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Windows of the generic address space: what cvta adds to an address of the space.
const (
	sharedWindow = 1 << 56
	localWindow  = 2 << 56
	constWindow  = 3 << 56
	windowMask   = 0xff << 56

	localStart = 16      // first local address
	paramFrame = 1 << 20 // parameters of calls, in the param space: local memory from here
	constStart = 256     // first address of a module's constants
)

const (
	memSigned  = 1 << iota // extend by sign
	memReg64               // registers have 64 bits
	memStrong              // volatile, relaxed, acquire or release
	memOrdered             // acquire or release
)

func le16(p []byte) uint16       { return binary.LittleEndian.Uint16(p) }
func le32(p []byte) uint32       { return binary.LittleEndian.Uint32(p) }
func le64(p []byte) uint64       { return binary.LittleEndian.Uint64(p) }
func putLE32(p []byte, v uint32) { binary.LittleEndian.PutUint32(p, v) }

// localMemory holds each lane's stack frame.
type localMemory struct {
	size    int
	data    []byte
	written []byte
}

func (m *localMemory) reset(size int) {
	if cap(m.data) < 32*size {
		m.data, m.written = make([]byte, 32*size), make([]byte, 32*size)
	}
	m.size, m.data, m.written = size, m.data[:32*size], m.written[:32*size]
	clear(m.written)
}

func (m *localMemory) at(w *warp, lane int, addr uint64, n int) int {
	off := addr - localStart
	if off > uint64(m.size) || uint64(n) > uint64(m.size)-off {
		w.fail(IllegalAddress, lane, "access of %d bytes at offset %d of a stack frame of %d bytes", n, int64(off), m.size)
	}
	if addr&uint64(n-1) != 0 {
		w.fail(MisalignedAddress, lane, "access of %d bytes at stack offset %d is not aligned", n, off)
	}
	return lane*m.size + int(off)
}

func (w *warp) address(in *inst, lane int) uint64 {
	switch in.base {
	case base64:
		return w.r64(in.a)[lane] + uint64(in.imm)
	case base32:
		return uint64(w.r32(in.a)[lane]) + uint64(in.imm)
	}
	return uint64(in.imm)
}

// load returns the n bytes at addr for one lane, after checking that they may be read.
func (w *warp) load(in *inst, lane int, addr uint64, n int) []byte {
	where := space(in.sub)
	if where == generic {
		where, addr = resolve(addr)
	}
	switch where {
	case global:
		if in.flags&memStrong != 0 {
			return w.strongLoad(in, lane, addr, n)
		}
		return w.globalLoad(lane, addr, n, 0)
	case shared:
		return w.block.shared.load(w, lane, addr, n, strength(in))
	case local:
		off := w.locals.at(w, lane, addr, n)
		if i := firstZero(w.locals.written[off : off+n]); i >= 0 {
			w.fail(LaunchFailed, lane, "read of stack byte %d, which was never written", off-lane*w.locals.size+i)
		}
		return w.locals.data[off : off+n]
	case param:
		if addr >= paramFrame {
			off := w.locals.at(w, lane, addr-paramFrame, n)
			return w.locals.data[off : off+n]
		}
		return w.constLoad(lane, "parameters", w.block.launch.params, addr, n)
	}
	return w.constLoad(lane, "constants", w.code.module.constants, addr-constStart, n)
}

func strength(in *inst) stamp {
	if in.flags&memStrong != 0 {
		return stampStrong
	}
	return 0
}

// resolve finds the space of a generic address.
func resolve(addr uint64) (space, uint64) {
	switch addr & windowMask {
	case sharedWindow:
		return shared, addr &^ windowMask
	case localWindow:
		return local, addr &^ windowMask
	case constWindow:
		return constant, addr &^ windowMask
	}
	return global, addr
}

func (w *warp) constLoad(lane int, what string, data []byte, addr uint64, n int) []byte {
	if addr > uint64(len(data)) || uint64(n) > uint64(len(data))-addr {
		w.fail(IllegalAddress, lane, "read of %d bytes at offset %d of %d bytes of %s", n, int64(addr), len(data), what)
	}
	if addr&uint64(n-1) != 0 {
		w.fail(MisalignedAddress, lane, "read of %d bytes at offset %d of the %s is not aligned", n, addr, what)
	}
	return data[addr : addr+uint64(n)]
}

// place finds n aligned bytes of global memory.
func (w *warp) place(lane int, addr uint64, n int) (*allocation, uint64) {
	a := w.cached
	off := addr - a.base
	if off >= uint64(len(a.data)) || uint64(n) > uint64(len(a.data))-off {
		memory := &w.block.launch.gpu.memory
		found, at, ok := memory.piece(addr, int64(n))
		if !ok {
			w.fail(IllegalAddress, lane, "access of %d bytes at %s", n, memory.describe(addr))
		}
		w.cached = found
		a, off = found, uint64(at)
	}
	if addr&uint64(n-1) != 0 {
		w.fail(MisalignedAddress, lane, "access of %d bytes at %#x is not aligned", n, addr)
	}
	if w.early>>lane&1 != 0 {
		w.checkEarly(a, int(off), n, lane)
	}
	return a, off
}

func (w *warp) globalLoad(lane int, addr uint64, n int, strong stamp) []byte {
	a, off := w.place(lane, addr, n)
	written := a.written[off : off+uint64(n)]
	if !allWritten(written) {
		w.fail(LaunchFailed, lane, "read of %d bytes at %s: byte %d was never written", n, w.block.launch.gpu.memory.describe(addr), firstZero(written))
	}
	w.traceLoad(a, int(off), n, lane, strong)
	return a.data[off : off+uint64(n)]
}

const ones = 0x0101010101010101

func allWritten(p []byte) bool {
	switch len(p) {
	case 16:
		return le64(p)&le64(p[8:]) == ones
	case 8:
		return le64(p) == ones
	case 4:
		return le32(p) == ones&0xffffffff
	}
	return firstZero(p) < 0
}

// store writes p at addr for one lane.
func (w *warp) store(in *inst, lane int, addr uint64, p []byte) {
	where := space(in.sub)
	if where == generic {
		where, addr = resolve(addr)
	}
	switch where {
	case global:
		if in.flags&memStrong != 0 {
			w.strongStore(in, lane, addr, p)
			return
		}
		a, off := w.place(lane, addr, len(p))
		w.traceStore(a, int(off), p, lane, 0)
		copy(a.data[off:], p)
		fill(a.written[off:off+uint64(len(p))], 1)
	case shared:
		w.block.shared.store(w, lane, addr, p, strength(in))
	case local, param:
		if where == param {
			addr -= paramFrame
		}
		off := w.locals.at(w, lane, addr, len(p))
		copy(w.locals.data[off:], p)
		fill(w.locals.written[off:off+len(p)], 1)
	default:
		w.fail(IllegalAddress, lane, "write to constant memory")
	}
}

// execLoad is ld with count elements of width bytes.
func execLoad(w *warp, in *inst) {
	if w.mask == fullMask && w.early == 0 {
		switch space(in.sub) {
		case global:
			if !w.loadGlobalRow(in) {
				w.loadGlobalLanes(in)
			}
			return
		case shared:
			if w.loadSharedRow(in) {
				return
			}
		}
	}
	w.loadLanes(in)
}

// loadLanes is execLoad lane by lane, for every space.
func (w *warp) loadLanes(in *inst) {
	n := int(in.width) * int(in.count)
	for m := w.mask; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m) & 31
		w.take(in, l, w.load(in, l, w.address(in, l), n))
	}
}

func (w *warp) setElement(in *inst, slot int32, l int, p []byte) {
	var v uint64
	switch in.width {
	case 1:
		v = uint64(p[0])
		if in.flags&memSigned != 0 {
			v = uint64(int64(int8(v)))
		}
	case 2:
		v = uint64(le16(p))
		if in.flags&memSigned != 0 {
			v = uint64(int64(int16(v)))
		}
	case 4:
		v = uint64(le32(p))
		if in.flags&memSigned != 0 {
			v = uint64(int64(int32(v)))
		}
	case 8:
		v = le64(p)
	}
	if in.flags&memReg64 != 0 {
		w.d[slot][l] = v
	} else {
		w.r[slot][l] = uint32(v) & uint32(in.target) // 0xffff for a 16-bit register
	}
}

func execStore(w *warp, in *inst) {
	if w.mask == fullMask && w.early == 0 && space(in.sub) == global && w.storeGlobalRow(in) {
		return
	}
	var buf [32]byte
	n := int(in.width) * int(in.count)
	for m := w.mask; m != 0; m &= m - 1 {
		l := bits.TrailingZeros32(m) & 31
		for i, slot := range in.vec {
			p := buf[i*int(in.width):]
			switch {
			case in.flags&memReg64 == 0 && in.width == 4:
				putLE32(p, w.r32(slot)[l])
			case in.flags&memReg64 == 0 && in.width == 1:
				p[0] = byte(w.r32(slot)[l])
			case in.flags&memReg64 == 0:
				binary.LittleEndian.PutUint16(p, uint16(w.r32(slot)[l]))
			default:
				var v [8]byte
				binary.LittleEndian.PutUint64(v[:], w.r64(slot)[l])
				copy(p[:in.width], v[:])
			}
		}
		w.store(in, l, w.address(in, l), buf[:n])
	}
}

// execLoadParam is ld of a kernel parameter at a fixed address: one value for all lanes.
func execLoadParam(w *warp, in *inst) {
	if in.base != baseNone || in.imm >= paramFrame || w.mask != fullMask || in.width != 4 && in.width != 8 {
		execLoad(w, in)
		return
	}
	n := int(in.width) * int(in.count)
	p := w.constLoad(0, "parameters", w.block.launch.params, uint64(in.imm), n)
	for i, slot := range in.vec {
		if slot < 0 {
			continue
		}
		switch {
		case in.flags&memReg64 == 0:
			d, v := &w.r[slot], le32(p[4*i:])
			for l := range d {
				d[l] = v
			}
		default:
			d := &w.d[slot]
			w.setElement(in, slot, 0, p[i*int(in.width):])
			for l := range d {
				d[l] = d[0]
			}
		}
	}
}

// describe says where an address lies.
func (m *memory) describe(addr uint64) string {
	a := m.find(addr)
	if a == nil {
		return fmt.Sprintf("%#x, below all allocations", addr)
	}
	if off := addr - a.base; off < uint64(len(a.data)) {
		return fmt.Sprintf("%#x, byte %d of an allocation of %d bytes", addr, off, len(a.data))
	} else {
		return fmt.Sprintf("%#x, %d bytes past an allocation of %d bytes", addr, off-uint64(len(a.data)), len(a.data))
	}
}
