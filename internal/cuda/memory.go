package cuda

import (
	"errors"
	"fmt"
	"slices"
)

// buffer is a piece of the GPU's memory.
type buffer struct {
	ptr  devptr
	size int64
}

// use says what memory is for, in the books.
type use uint8

const (
	useWeights use = iota
	useKV
	useActivation
	useWorkspace
	useStaging // while weights are loaded
	uses
)

func (u use) String() string {
	return [...]string{"weights", "the KV cache", "activations", "workspace", "loading"}[u]
}

const (
	alignment = 256
	granule   = 2 << 20 // what the driver maps at a time
)

// books is the memory of a context. The driver hands out physical memory in granules; what a request leaves of its last
// granule serves later, smaller requests for the same use. So a chunk goes back to the driver when all of its buffers are
// freed, which fits a session: it frees everything together.
type books struct {
	granule int64 // 0: every buffer is an allocation of the driver (in tests, which watch the ends)
	chunks  []*chunk
	taken   [uses]int64 // from the driver
}

type chunk struct {
	ptr        devptr
	size, used int64
	live       int
	what       use
}

// alloc gives memory, 256-byte aligned. Its contents are undefined. The error names the size, what it was for, and how
// much is free.
func (c *context) alloc(size int64, what use) (buffer, error) {
	if size <= 0 || size > 1<<46 {
		return buffer{}, fmt.Errorf("%d bytes of GPU memory for %s asked for", size, what)
	}
	if c.lost != nil {
		return buffer{}, c.lost
	}
	m := &c.memory
	for _, h := range m.chunks {
		if at := roundUp(h.used, alignment); h.what == what && m.granule > 0 && h.size-at >= size {
			h.used = at + size
			h.live++
			return buffer{h.ptr + devptr(at), size}, nil
		}
	}
	h, err := c.chunk(size, what)
	if err != nil {
		return buffer{}, err
	}
	h.used, h.live = size, 1
	return buffer{h.ptr, size}, nil
}

// reserve takes memory for the next requests, size bytes in all, so that they lie side by side and round up once. What of
// it is not asked for goes back with trim.
func (c *context) reserve(size int64, what use) error {
	m := &c.memory
	if m.granule == 0 || slices.ContainsFunc(m.chunks, func(h *chunk) bool { return h.what == what && h.size-roundUp(h.used, alignment) >= size }) {
		return nil
	}
	_, err := c.chunk(size, what)
	return err
}

// trim gives back chunks that nothing lies in.
func (c *context) trim() {
	for _, h := range slices.Clone(c.memory.chunks) {
		if h.live == 0 {
			h.live = 1
			c.free(buffer{h.ptr, h.size})
		}
	}
}

// chunk takes whole granules from the driver.
func (c *context) chunk(size int64, what use) (*chunk, error) {
	if c.lost != nil {
		return nil, c.lost
	}
	c.enter()
	defer c.leave()
	m := &c.memory
	whole := roundUp(size, max(m.granule, 1))
	p, s := c.d.alloc(whole)
	if err := c.note("cuMemAlloc", s); err != nil {
		if c.lost != nil {
			return nil, err
		}
		free, total, _ := c.d.memoryInfo()
		return nil, fmt.Errorf("%d MiB of GPU memory for %s, %d of %d MiB are free: %w", whole>>20, what, free>>20, total>>20, err)
	}
	h := &chunk{ptr: p, size: whole, what: what}
	m.chunks = append(m.chunks, h)
	m.taken[what] += whole
	return h, nil
}

// free gives a buffer back; the zero buffer is none. Memory of a lost context goes back when the process ends.
func (c *context) free(b buffer) {
	if b.ptr == 0 {
		return
	}
	m := &c.memory
	i := slices.IndexFunc(m.chunks, func(h *chunk) bool { return b.ptr >= h.ptr && b.ptr < h.ptr+devptr(h.size) })
	if i < 0 {
		c.queue.fail(fmt.Errorf("freed GPU memory at %#x, which is not allocated", uint64(b.ptr)))
		return
	}
	h := m.chunks[i]
	if h.live--; h.live > 0 {
		return
	}
	m.chunks = slices.Delete(m.chunks, i, i+1)
	m.taken[h.what] -= h.size
	if c.lost != nil {
		return
	}
	c.enter()
	defer c.leave()
	c.queue.fail(c.note("cuMemFree", c.d.free(h.ptr)))
}

// close frees what is left and reports it: every owner should have freed its own.
func (m *books) close(c *context) error {
	var errs []error
	for _, h := range m.chunks {
		errs = append(errs, fmt.Errorf("%d bytes of GPU memory for %s were never freed (%d buffers)", h.size, h.what, h.live))
		errs = append(errs, c.note("cuMemFree", c.d.free(h.ptr)))
	}
	*m = books{granule: m.granule}
	return errors.Join(errs...)
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
