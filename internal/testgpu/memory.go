package testgpu

import (
	"sort"
	"sync/atomic"
	"unsafe"
)

const (
	globalBase = 0x7f00_0000_0000 // first device address
	globalGap  = 4096             // never mapped, between allocations
	allocAlign = 512
)

// allocation is a piece of global memory. Its bytes count as uninitialised until they are written.
type allocation struct {
	base    uint64
	data    []byte                      // 16-byte aligned
	written []byte                      // 1 for each byte that holds a value, else 0
	owned   bool                        // by a module
	pages   []atomic.Pointer[tracePage] // who stored what, for each pageBytes
}

// memory holds the allocations in ascending order of their addresses.
type memory struct {
	allocs []*allocation
	next   uint64
	used   int64
}

func alignedBytes(n int64) []byte {
	words := make([]complex128, (n+15)/16)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(words)*16)[:n]
}

func (m *memory) add(size int64) *allocation {
	a := &allocation{base: m.next, data: alignedBytes(size), written: alignedBytes(size),
		pages: make([]atomic.Pointer[tracePage], (size+pageBytes-1)/pageBytes)}
	m.allocs = append(m.allocs, a)
	m.next += (uint64(size)+allocAlign-1)/allocAlign*allocAlign + globalGap
	m.next = (m.next + allocAlign - 1) / allocAlign * allocAlign
	m.used += size
	return a
}

// find returns the allocation that holds addr, else the one before it (for messages), else nil.
func (m *memory) find(addr uint64) *allocation {
	i := sort.Search(len(m.allocs), func(i int) bool { return m.allocs[i].base > addr })
	if i == 0 {
		return nil
	}
	return m.allocs[i-1]
}

// piece returns the allocation that holds all of [addr, addr+n) and the offset there.
func (m *memory) piece(addr uint64, n int64) (*allocation, int64, bool) {
	a := m.find(addr)
	if a == nil || n < 0 {
		return nil, 0, false
	}
	off := addr - a.base
	if off > uint64(len(a.data)) || uint64(n) > uint64(len(a.data))-off {
		return a, 0, false
	}
	return a, int64(off), true
}

// MemAlloc returns new memory whose contents count as uninitialised, 512-byte aligned.
func (g *GPU) MemAlloc(size int64) (uint64, int) {
	rc := g.enter("MemAlloc")
	defer g.mu.Unlock()
	if rc != Success {
		return 0, rc
	}
	if size <= 0 {
		return 0, g.fail(InvalidValue, "MemAlloc of %d bytes", size)
	}
	if size > g.config.Memory-g.memory.used {
		return 0, g.fail(OutOfMemory, "MemAlloc of %d bytes: %d of %d in use", size, g.memory.used, g.config.Memory)
	}
	return g.memory.add(size).base, Success
}

// MemFree gives memory back. Later access to it is an error: addresses are never used again.
func (g *GPU) MemFree(ptr uint64) int {
	rc := g.enter("MemFree")
	defer g.mu.Unlock()
	if rc != Success {
		return rc
	}
	for i, a := range g.memory.allocs {
		if a.base == ptr && !a.owned {
			g.memory.used -= int64(len(a.data))
			g.memory.allocs = append(g.memory.allocs[:i], g.memory.allocs[i+1:]...)
			return Success
		}
	}
	return g.fail(InvalidValue, "MemFree of %#x, which is no allocation", ptr)
}

// Live counts allocations that were not freed, and their bytes.
func (g *GPU) Live() (allocs int, bytes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.memory.allocs {
		if !a.owned {
			allocs++
		}
	}
	return allocs, g.memory.used
}

// MemInfo returns free and total bytes.
func (g *GPU) MemInfo() (free, total int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.config.Memory - g.memory.used, g.config.Memory
}

// hostPiece is piece for a call from the host, which records its failure.
func (g *GPU) hostPiece(call string, addr uint64, n int64) (*allocation, int64, int) {
	a, off, ok := g.memory.piece(addr, n)
	if !ok {
		return nil, 0, g.fail(InvalidValue, "%s of %d bytes at %s", call, n, g.memory.describe(addr))
	}
	return a, off, Success
}

// CopyIn copies from the host and marks the bytes as written.
func (g *GPU) CopyIn(dst uint64, src []byte) int {
	rc := g.enter("CopyIn")
	defer g.mu.Unlock()
	if rc != Success {
		return rc
	}
	a, off, rc := g.hostPiece("CopyIn", dst, int64(len(src)))
	if rc != Success {
		return rc
	}
	copy(a.data[off:], src)
	fill(a.written[off:off+int64(len(src))], 1)
	return Success
}

// CopyOut copies to the host. Bytes that nobody wrote are an error.
func (g *GPU) CopyOut(dst []byte, src uint64) int {
	rc := g.enter("CopyOut")
	defer g.mu.Unlock()
	if rc != Success {
		return rc
	}
	n := int64(len(dst))
	a, off, rc := g.hostPiece("CopyOut", src, n)
	if rc != Success {
		return rc
	}
	if i := firstZero(a.written[off : off+n]); i >= 0 {
		return g.fail(InvalidValue, "CopyOut of %d bytes at %s: byte %d was never written", n, g.memory.describe(src), i)
	}
	copy(dst, a.data[off:])
	return Success
}

// CopyDevice copies device memory; uninitialised bytes stay so. The ranges may not overlap.
func (g *GPU) CopyDevice(dst, src uint64, n int64) int {
	rc := g.enter("CopyDevice")
	defer g.mu.Unlock()
	if rc != Success {
		return rc
	}
	from, i, rc := g.hostPiece("CopyDevice", src, n)
	if rc != Success {
		return rc
	}
	to, j, rc := g.hostPiece("CopyDevice", dst, n)
	if rc != Success {
		return rc
	}
	if from == to && i < j+n && j < i+n && n > 0 {
		return g.fail(InvalidValue, "CopyDevice of %d bytes: source and destination overlap", n)
	}
	copy(to.data[j:j+n], from.data[i:i+n])
	copy(to.written[j:j+n], from.written[i:i+n])
	return Success
}

// Set8 writes n bytes v.
func (g *GPU) Set8(dst uint64, v byte, n int64) int {
	rc := g.enter("Set8")
	defer g.mu.Unlock()
	if rc != Success {
		return rc
	}
	a, off, rc := g.hostPiece("Set8", dst, n)
	if rc != Success {
		return rc
	}
	fill(a.data[off:off+n], v)
	fill(a.written[off:off+n], 1)
	return Success
}

// Set32 writes n words v.
func (g *GPU) Set32(dst uint64, v uint32, n int64) int {
	rc := g.enter("Set32")
	defer g.mu.Unlock()
	if rc != Success {
		return rc
	}
	if n < 0 || n > 1<<60 || dst%4 != 0 {
		return g.fail(InvalidValue, "Set32 of %d words at %#x", n, dst)
	}
	a, off, rc := g.hostPiece("Set32", dst, 4*n)
	if rc != Success {
		return rc
	}
	for i := off; i < off+4*n; i += 4 {
		putLE32(a.data[i:], v)
	}
	fill(a.written[off:off+4*n], 1)
	return Success
}

// Define marks n bytes as holding values, without changing them to anything useful: for padding that a kernel reads and
// then ignores. Bytes that nobody wrote become 0xff, which is a NaN in every float format.
func (g *GPU) Define(ptr uint64, n int64) int {
	rc := g.enter("Define")
	defer g.mu.Unlock()
	if rc != Success {
		return rc
	}
	a, off, rc := g.hostPiece("Define", ptr, n)
	if rc != Success {
		return rc
	}
	for i := off; i < off+n; i++ {
		if a.written[i] == 0 {
			a.data[i], a.written[i] = 0xff, 1
		}
	}
	return Success
}

// Undefine marks n bytes as uninitialised again: for buffers that are used a second time.
func (g *GPU) Undefine(ptr uint64, n int64) int {
	rc := g.enter("Undefine")
	defer g.mu.Unlock()
	if rc != Success {
		return rc
	}
	a, off, rc := g.hostPiece("Undefine", ptr, n)
	if rc != Success {
		return rc
	}
	fill(a.written[off:off+n], 0)
	return Success
}

func fill(b []byte, v byte) {
	if len(b) == 0 {
		return
	}
	b[0] = v
	for n := 1; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}

func firstZero(b []byte) int {
	for i, v := range b {
		if v == 0 {
			return i
		}
	}
	return -1
}
