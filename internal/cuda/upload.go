package cuda

import (
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
)

// uploader brings weights to the GPU through a ring of page-locked buffers: while those that are full are on their way, the
// next is filled. Host memory stays at these, whatever the size of a file. Errors are kept until flush.
type uploader struct {
	c      *context
	pins   [pinCount]pin
	next   int      // of the ring: the one that is being filled
	stages [2]stage // pieces that kernels repack
	turn   int      // of stages
	pools  *poolSet // for weights that come without content; nil: these are errors
	bytes  int64    // copied so far
}

// stage is a staging buffer on the GPU: the uploader's own, or lent.
type stage struct {
	buffer
	lent bool
}

// pin is one page-locked buffer. Its event is recorded behind the last copy that reads it.
type pin struct {
	host  []byte
	used  int
	event uintptr
	busy  bool // the event was recorded, and not waited for
}

const (
	pinCount = 4 // reading goes on while a GPU that is slower for a moment catches up
	pinSize  = 8 << 20
	stageMax = 64 << 20
	copyPart = 1 << 20 // of a buffer, filled by one goroutine
)

func newUploader(c *context) (*uploader, error) {
	u := &uploader{c: c}
	if c.lost != nil {
		return nil, c.lost
	}
	c.enter()
	defer c.leave()
	for i := range u.pins {
		p := &u.pins[i]
		var s status
		p.host, _, s = c.d.hostAlloc(pinSize, false)
		err := c.note("cuMemHostAlloc", s)
		if err == nil {
			p.event, s = c.d.eventCreate()
			err = c.note("cuEventCreate", s)
		}
		if err != nil {
			return nil, fmt.Errorf("%d MiB of page-locked memory for loading: %w", pinSize>>20, errors.Join(err, u.close()))
		}
	}
	return u, nil
}

// lend lets the uploader use memory for staging that nobody else needs until it is closed.
func (u *uploader) lend(b [2]buffer) { u.stages = [2]stage{{b[0], true}, {b[1], true}} }

// copy brings src to dst. src may be changed at return.
func (u *uploader) copy(dst devptr, src []byte) {
	q := u.c.queue
	u.bytes += int64(len(src))
	for len(src) > 0 && q.ready() {
		p := u.room()
		host := p.host[p.used:min(p.used+len(src), len(p.host))]
		q.fail(fill(host, src))
		q.call("cuMemcpyHtoDAsync", func(d *driver) status { return d.copyIn(dst, host, u.c.stream) })
		p.used = min(int(roundUp(int64(p.used+len(host)), alignment)), len(p.host))
		dst, src = dst+devptr(len(host)), src[len(host):]
		u.c.leave()
	}
}

// room gives a buffer that is not full: the next one, once the GPU has taken what was in it, where the last one is.
func (u *uploader) room() *pin {
	q, p := u.c.queue, &u.pins[u.next]
	if p.used < len(p.host) {
		return p
	}
	q.call("cuEventRecord", func(d *driver) status { return d.eventRecord(p.event, u.c.stream) })
	p.busy = q.err == nil
	u.next = (u.next + 1) % pinCount
	p = &u.pins[u.next]
	if p.busy {
		q.fail(u.c.poll("cuEventQuery", func() status { return u.c.d.eventQuery(p.event) }))
		p.busy = false
	}
	p.used = 0
	return p
}

// fill copies with several goroutines: one reads a mapped file no faster than its page faults come.
func fill(dst, src []byte) error {
	if len(dst) <= copyPart {
		return guard(func() error { copy(dst, src); return nil })
	}
	var g errgroup.Group
	for at := 0; at < len(dst); at += copyPart {
		g.Go(func() error {
			return guard(func() error {
				copy(dst[at:min(at+copyPart, len(dst))], src[at:])
				return nil
			})
		})
	}
	return g.Wait()
}

// guard runs f, which reads weights, and makes a fault in the mapping that they lie in an error instead of the end of the
// process. It covers the calling goroutine alone.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if _, fault := r.(interface{ Addr() uintptr }); fault {
			err = errors.New("weights cannot be read: the checkpoint's file was cut short, or its disk failed")
		} else if r != nil {
			panic(r)
		}
	}()
	return f()
}

// stage brings pieces to a staging buffer on the GPU, each 256-byte aligned, and lets run enqueue kernels that read them
// there: at[i] is the address of src[i]. The pieces stay until the second stage after this one. Together they take at
// most 64 MiB.
func (u *uploader) stage(src [][]byte, run func(q *queue, at []devptr)) {
	q := u.c.queue
	total := int64(0)
	for _, s := range src {
		total += roundUp(int64(len(s)), alignment)
	}
	if total > stageMax {
		q.fail(fmt.Errorf("%d bytes to stage at once, at most %d", total, stageMax))
	}
	if q.err != nil || total == 0 {
		return
	}
	b := &u.stages[u.turn]
	u.turn ^= 1
	if b.size < total && !u.grow(b, total) {
		return
	}
	at := make([]devptr, len(src))
	p := b.ptr
	for i, s := range src {
		at[i] = p
		u.copy(p, s)
		p += devptr(roundUp(int64(len(s)), alignment))
	}
	if q.err == nil {
		run(q, at)
	}
}

// grow replaces a staging buffer by a larger one.
func (u *uploader) grow(b *stage, size int64) bool {
	q := u.c.queue
	q.settle() // kernels may still read the old one
	u.drop(b)
	n, err := u.c.alloc(size, useStaging)
	q.fail(err)
	b.buffer = n
	return err == nil
}

func (u *uploader) drop(b *stage) {
	if !b.lent {
		u.c.free(b.buffer)
	}
	*b = stage{}
}

// flush waits for all copies and kernels, and returns and clears the first error.
func (u *uploader) flush() error {
	err := u.c.queue.sync()
	for i := range u.pins {
		u.pins[i].busy, u.pins[i].used = false, 0
	}
	return err
}

// close waits and gives the buffers back.
func (u *uploader) close() error {
	c := u.c
	err := u.flush()
	for i := range u.stages {
		u.drop(&u.stages[i])
	}
	if c.lost != nil {
		return err
	}
	c.enter()
	defer c.leave()
	for i := range u.pins {
		p := &u.pins[i]
		if p.event != 0 {
			c.queue.fail(c.note("cuEventDestroy", c.d.eventDestroy(p.event)))
		}
		if p.host != nil {
			c.queue.fail(c.note("cuMemFreeHost", c.d.hostFree(p.host)))
		}
		*p = pin{}
	}
	c.queue.fail(err)
	return c.queue.sync()
}
