package cuda

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sync/errgroup"

	"hearth/internal/dtype"
)

// embedding is the table of the tokens' vectors. A step reads one row of it for each token, so it stays in the host's
// memory, where the checkpoint has it: more than a gigabyte of the GPU's memory is left to keys and values. A step's rows
// are copied to page-locked memory, from where its first kernel takes them over the bus.
type embedding struct {
	c       *context
	table   dtype.Plane
	bytes   int64 // of the table
	rows    rowFormat
	kernels [rowFormats]*kernel
	pinned  []byte // [MaxTokens, Hidden]
	dev     devptr // of the same, as kernels see it
}

// rowFormat is how rows travel: BF16 and F16 as they are stored, everything else decoded. No value is rounded.
type rowFormat int

const (
	rowBF16 rowFormat = iota
	rowF16
	rowF32
	rowFormats
)

func (f rowFormat) bytes() int { return [...]int{2, 2, 4}[f] }

func rowFormatOf(p *dtype.Plane) rowFormat {
	switch {
	case p.Format == dtype.BF16 && !p.Transposed:
		return rowBF16
	case p.Format == dtype.F16 && !p.Transposed:
		return rowF16
	}
	return rowF32
}

// embedParams mirrors that of kernels/norm.cu.
type embedParams struct {
	rows, x       devptr
	cols, padding int32
}

func newEmbedding(c *context) (*embedding, error) {
	e := &embedding{c: c}
	for f, name := range [rowFormats]string{"embedBF16", "embedF16", "embedF32"} {
		var err error
		if e.kernels[f], err = c.kernel(kernelSpec{module: "norm", name: name, params: unsafe.Sizeof(embedParams{})}); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// load takes the table over, which must stay as it is, and makes room for the rows of steps of up to tokens tokens. It
// reads through the table once: a file is then in the page cache, and known to be whole.
func (e *embedding) load(p dtype.Plane, tokens int) error {
	if err := p.Check(); err != nil {
		return err
	}
	if err := touch(p.Data); err != nil {
		return err
	}
	e.close()
	e.rows = rowFormatOf(&p)
	e.c.enter()
	defer e.c.leave()
	n := tokens * p.Cols * e.rows.bytes()
	var s status
	if e.pinned, e.dev, s = e.c.d.hostAlloc(n, true); s != success {
		return fmt.Errorf("%d bytes of page-locked memory for a step's rows: %w", n, e.c.note("cuMemHostAlloc", s))
	}
	e.table, e.bytes = p, p.Bytes()
	return nil
}

func (e *embedding) close() {
	if e.pinned == nil {
		return
	}
	if e.c.lost == nil {
		e.c.enter()
		defer e.c.leave()
		e.c.queue.fail(e.c.note("cuMemFreeHost", e.c.d.hostFree(e.pinned)))
	}
	e.pinned, e.table, e.bytes = nil, dtype.Plane{}, 0
}

const (
	pageBytes  = 4 << 10
	touchBytes = 16 << 20 // of a goroutine
	gatherRows = 32       // of a goroutine: copying so many takes longer than starting it
)

// touch reads a byte of every page of b.
func touch(b []byte) error {
	var g errgroup.Group
	for first := 0; first < len(b); first += touchBytes {
		part := b[first:min(first+touchBytes, len(b))]
		g.Go(func() error {
			return guard(func() error {
				sum := byte(0)
				for i := 0; i < len(part); i += pageBytes {
					sum |= part[i]
				}
				runtime.KeepAlive(sum)
				return nil
			})
		})
	}
	return g.Wait()
}

// gather copies the tokens' rows to where the kernel reads them. The GPU must be done with those of the step before.
func (e *embedding) gather(tokens []int32) error {
	if len(tokens) <= gatherRows {
		return guard(func() error { e.copyRows(tokens, 0); return nil })
	}
	var g errgroup.Group
	for first := 0; first < len(tokens); first += gatherRows {
		part := tokens[first:min(first+gatherRows, len(tokens))]
		g.Go(func() error { return guard(func() error { e.copyRows(part, first); return nil }) })
	}
	return g.Wait()
}

// copyRows fills the rows from first on.
func (e *embedding) copyRows(tokens []int32, first int) {
	p := &e.table
	n := p.Cols * e.rows.bytes()
	for i, id := range tokens {
		to := e.pinned[(first+i)*n:][:n]
		if e.rows == rowF32 {
			p.DecodeRows(unsafe.Slice((*float32)(unsafe.Pointer(&to[0])), p.Cols), int(id), 1)
		} else {
			copy(to, p.Data[int(id)*n:])
		}
	}
}

// run: x = E[token], float32 [T, Hidden], from the rows that gather has brought.
func (e *embedding) run(q *queue, T int, x devptr) {
	if e.pinned == nil {
		q.fail(errors.New("the embedding is used before it is loaded"))
		return
	}
	p := embedParams{rows: e.dev, x: x, cols: int32(e.table.Cols)}
	launch(q, e.kernels[e.rows], dim{T, 1, 1}, dim{min(1024, (e.table.Cols/4+31)&^31), 1, 1}, 0, &p)
}
