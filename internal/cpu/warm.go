package cpu

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"hearth/internal/dtype"
)

const (
	warmChunk   = 4 << 20 // bytes asked for at once
	warmReaders = 2       // on each node: one chunk is on its way while another is touched
)

// WarmBytes is the size of all weights that are read in place.
func (s *session) WarmBytes() int64 { return s.mem.Mapped }

// Warm touches every page of the weights. Of each matrix a node's processors read the part that its workers begin with:
// a page that comes from the disk is put into the memory of the node that asks for it.
func (s *session) Warm(ctx context.Context, progress func(done int64)) error {
	s.ReadAhead(true)
	var done atomic.Int64
	nodes := max(1, min(len(s.nodes), len(s.pool.workers)))
	errs := make([]error, nodes*warmReaders)
	var wg sync.WaitGroup
	for node := range nodes {
		chunks := s.warmChunks(node, nodes)
		var next atomic.Int64
		for reader := range warmReaders {
			wg.Go(func() {
				if nodes > 1 {
					runtime.LockOSThread() // it ends with the reader
					pin(s.nodes[node])
				}
				errs[node*warmReaders+reader] = touchAll(ctx, chunks, &next, func(n int) { progress(done.Add(int64(n))) })
			})
		}
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err == nil {
		s.ReadAhead(false)
	}
	return err
}

// ReadAhead makes operations ask for their weights at once. Page by page, in the order that workers come to them, a disk
// gives a tenth of its speed.
func (s *session) ReadAhead(on bool) { s.readAhead.Store(on) }

func (s *session) askDense(l int) {
	w := &s.layers[l]
	for _, p := range [...]*dtype.Plane{&w.Q.Weight, &w.K.Weight, &w.V.Weight, &w.O.Weight, &w.Router.Weight} {
		ask(p)
	}
}

func (s *session) askExperts(l int) {
	for _, stack := range [...]*dtype.Stack{&s.layers[l].GateUp.Weight, &s.layers[l].Down.Weight} {
		for _, planes := range [...][]dtype.Plane{stack.Even, stack.Odd} {
			if planes == nil {
				continue
			}
			for _, e := range s.groups.active {
				ask(&planes[e])
			}
		}
	}
}

func ask(p *dtype.Plane) {
	for _, b := range planeBytes(p) {
		adviseWillNeed(b)
	}
}

// planeBytes are the slices that hold a plane.
func planeBytes(p *dtype.Plane) [5][]byte {
	b := [5][]byte{p.Data, p.Scales}
	if q := p.Quant; q != nil {
		b[2], b[3], b[4] = q.Absmax, q.Codes, q.Nested
	}
	return b
}

// warmChunks cuts a node's part of the weights, in the order of a step. The embedding comes last: a step takes one row.
func (s *session) warmChunks(node, nodes int) [][]byte {
	var chunks [][]byte
	add := func(b []byte) {
		b = b[len(b)*node/nodes : len(b)*(node+1)/nodes]
		for len(b) > 0 {
			n := min(len(b), warmChunk)
			chunks, b = append(chunks, b[:n]), b[n:]
		}
	}
	plane := func(p *dtype.Plane) {
		for _, b := range planeBytes(p) {
			add(b)
		}
	}
	for l := range s.layers {
		w := &s.layers[l]
		for _, p := range []*dtype.Plane{&w.Q.Weight, &w.K.Weight, &w.V.Weight, &w.O.Weight, &w.Router.Weight} {
			plane(p)
		}
		for _, stack := range []*dtype.Stack{&w.GateUp.Weight, &w.Down.Weight} {
			for _, planes := range [][]dtype.Plane{stack.Even, stack.Odd} {
				for e := range planes {
					plane(&planes[e])
				}
			}
		}
	}
	plane(&s.head)
	plane(&s.embedding)
	return chunks
}

// touchAll claims chunks and reads a byte of each of their pages. A fault is an error.
func touchAll(ctx context.Context, chunks [][]byte, next *atomic.Int64, read func(n int)) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if !isFault(r) {
				panic(r)
			}
			err = errUnreadable
		}
	}()
	var sum byte // used below, so that reading is not left out
	for ctx.Err() == nil {
		i := int(next.Add(1)) - 1
		if i >= len(chunks) {
			break
		}
		b := chunks[i]
		adviseWillNeed(b)
		for at := 0; at < len(b); at += 4096 {
			sum ^= b[at]
		}
		sum ^= b[len(b)-1]
		read(len(b))
	}
	runtime.KeepAlive(sum)
	return ctx.Err()
}
