package cuda

import (
	"errors"
	"fmt"
	"unsafe"
)

// queue is the stream as operations see it: they return nothing, run in order, and the first error is kept until sync.
// After an error nothing more is enqueued. Host memory goes through page-locked memory of the queue's own, so that the
// caller's slices are free at return, or filled by sync.
type queue struct {
	c         *context
	err       error
	pinned    []byte
	used      int // of pinned
	downloads []download
	capturing bool
	args      [maxParams]byte
}

type download struct{ dst, src []byte }

const (
	maxParams   = 4 << 10 // bytes of a kernel's parameters
	queuePinned = 4 << 20
)

func newQueue(c *context) (*queue, error) {
	host, _, s := c.d.hostAlloc(queuePinned, false)
	if err := c.note("cuMemHostAlloc", s); err != nil {
		return nil, fmt.Errorf("%d MiB of page-locked memory: %w", queuePinned>>20, err)
	}
	return &queue{c: c, pinned: host}, nil
}

func (q *queue) close() error {
	return q.c.note("cuMemFreeHost", q.c.d.hostFree(q.pinned))
}

// fail keeps the first error.
func (q *queue) fail(err error) {
	if q.err == nil && err != nil {
		q.err = err
	}
}

// ready says whether work may be enqueued; if so, leave must follow.
func (q *queue) ready() bool {
	if q.err == nil {
		q.err = q.c.lost
	}
	if q.err != nil {
		return false
	}
	q.c.enter()
	return true
}

// launch runs k with one struct of parameters, by value.
func launch[P any](q *queue, k *kernel, grid, block dim, shared int, p *P) {
	n := int(unsafe.Sizeof(*p))
	if n > maxParams {
		q.fail(fmt.Errorf("kernel %s: %d bytes of parameters, at most %d", k.name, n, maxParams))
		return
	}
	// Copied to the heap: the driver is given an address that must not move with the stack.
	copy(q.args[:n], unsafe.Slice((*byte)(unsafe.Pointer(p)), n))
	q.launch(k, grid, block, shared, q.args[:n])
}

func (q *queue) launch(k *kernel, grid, block dim, shared int, params []byte) {
	switch {
	case len(params) != int(k.params):
		q.fail(fmt.Errorf("kernel %s: %d bytes of parameters, registered with %d", k.name, len(params), k.params))
	case shared > k.shared:
		q.fail(fmt.Errorf("kernel %s: %d bytes of shared memory, registered with %d", k.name, shared, k.shared))
	case grid[0] < 1 || grid[1] < 1 || grid[2] < 1 || grid[1] > 65535 || grid[2] > 65535:
		q.fail(fmt.Errorf("kernel %s: grid %v", k.name, grid))
	}
	if !q.ready() {
		return
	}
	defer q.c.leave()
	if err := q.c.resolve(k); err != nil {
		q.fail(err)
		return
	}
	do := q.c.d.launch
	if k.waits {
		do = q.c.d.launchOverlapping
	}
	if s := do(k.fn, grid, block, shared, q.c.stream, params); s != success {
		q.fail(fmt.Errorf("kernel %s, grid %v, block %v, %d bytes shared: %w", k.name, grid, block, shared, q.c.note("cuLaunchKernel", s)))
	}
}

// upload copies src to the GPU. src may be changed at return.
func (q *queue) upload(dst devptr, src []byte) {
	for len(src) > 0 {
		host := q.room(len(src), "upload")
		if host == nil {
			return
		}
		n := copy(host, src)
		q.call("cuMemcpyHtoDAsync", func(d *driver) status { return d.copyIn(dst, host, q.c.stream) })
		dst, src = dst+devptr(n), src[n:]
	}
}

// download copies from the GPU. dst is valid after sync.
func (q *queue) download(dst []byte, src devptr) {
	for len(dst) > 0 {
		host := q.room(len(dst), "download")
		if host == nil {
			return
		}
		q.call("cuMemcpyDtoHAsync", func(d *driver) status { return d.copyOut(host, src, q.c.stream) })
		q.downloads = append(q.downloads, download{dst[:len(host)], host})
		dst, src = dst[len(host):], src+devptr(len(host))
	}
}

// room gives up to n bytes of page-locked memory, waiting for the stream where all of it is in use; nil after an error.
func (q *queue) room(n int, what string) []byte {
	if q.capturing {
		q.fail(fmt.Errorf("%s while a graph is captured", what))
	}
	if q.err == nil && q.used == len(q.pinned) {
		q.settle()
	}
	if q.err != nil {
		return nil
	}
	n = min(n, len(q.pinned)-q.used)
	host := q.pinned[q.used : q.used+n]
	q.used = min(int(roundUp(int64(q.used+n), 16)), len(q.pinned))
	return host
}

// zero clears n bytes.
func (q *queue) zero(dst devptr, n int64) { q.set(dst, 0, n) }

func (q *queue) set(dst devptr, v byte, n int64) {
	if n > 0 {
		q.call("cuMemsetD8Async", func(d *driver) status { return d.set8(dst, v, n, q.c.stream) })
	}
}

// copy copies n bytes within the GPU.
func (q *queue) copy(dst, src devptr, n int64) {
	if n > 0 {
		q.call("cuMemcpyDtoDAsync", func(d *driver) status { return d.copyDevice(dst, src, n, q.c.stream) })
	}
}

func (q *queue) call(name string, f func(*driver) status) {
	if !q.ready() {
		return
	}
	defer q.c.leave()
	q.fail(q.c.note(name, f(q.c.d)))
}

// sync waits for everything that was enqueued, and returns and clears the first error.
func (q *queue) sync() error {
	if q.capturing {
		q.fail(errors.New("sync while a graph is captured"))
	}
	q.settle()
	err := q.err
	q.err = nil
	return err
}

// settle waits for the stream, also after an error: what was enqueued before it may still write to our memory.
func (q *queue) settle() {
	if q.c.lost == nil {
		q.c.enter()
		q.fail(q.c.poll("cuStreamQuery", func() status { return q.c.d.streamQuery(q.c.stream) }))
		q.c.leave()
	}
	if q.err == nil {
		for _, d := range q.downloads {
			copy(d.dst, d.src)
		}
	}
	q.used, q.downloads = 0, q.downloads[:0]
}

// bytesOf is the memory of v, for copies to and from the GPU. T has no pointers.
func bytesOf[T any](v []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(one)))
}
