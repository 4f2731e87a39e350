package cuda

import (
	"fmt"
	"unsafe"

	"hearth/internal/device"
)

// stepInput brings a batch to the GPU: one block of page-locked memory, which a kernel reads over the bus and spreads to
// where the others look (kernels/step.cu). Nothing of it but the shape is a launch argument, so that a captured step can
// be replayed.
type stepInput struct {
	c        *context
	shape    *shape
	tileRows int
	unpack   *kernel
	host     []int32
	dev      devptr
	pinned   []byte
	memory   buffer
	at       stepBuffers

	full, window blockTable
	slots        []int32 // of the tables: that of each sequence of the batch
	taken        []bool
	owner        []int32 // of each token: its slot
	decodes      []int32
	tiles        []int32
	pairs        [2][]int32 // full, window
}

// unpackParams mirrors Unpack of kernels/step.cu.
type unpackParams struct {
	block                                         devptr
	positions, seqOf, logitRows, decodeRow, tiles devptr
	fullTable, windowTable                        devptr
}

const (
	stepHeader    = 8 // ints
	unpackThreads = 256
)

// inputLayout is where the parts of a step's inputs lie in the GPU's memory.
type inputLayout struct {
	hostInts                                                                int // of the block
	positions, seqOf, logitRows, decodeRow, tiles, full, window, rope, size int64
}

func newInputLayout(s *shape, tileRows int) (l inputLayout) {
	tiles := s.maxTiles(tileRows)
	l.hostInts = stepHeader + 2*s.MaxTokens + s.MaxLogits + s.MaxSeqs + 4*tiles + 2*2*pairSpan*s.MaxSeqs
	for _, p := range []struct {
		at *int64
		n  int
	}{
		{&l.positions, s.MaxTokens}, {&l.seqOf, s.MaxTokens}, {&l.logitRows, s.MaxLogits},
		{&l.decodeRow, s.MaxSeqs}, {&l.tiles, 4 * tiles}, {&l.full, s.MaxSeqs * s.maxBlocks}, {&l.window, s.MaxSeqs * s.maxBlocks},
		{&l.rope, s.MaxTokens * headDim},
	} {
		*p.at = l.size
		l.size += roundUp(4*int64(p.n), alignment)
	}
	return l
}

// maxTiles bounds the prefill tiles of a step: each sequence may end in one that is not full.
func (s *shape) maxTiles(rows int) int { return s.MaxTokens/rows + s.MaxSeqs }

func newStepInput(c *context, s *shape, tileRows int) (*stepInput, error) {
	in := &stepInput{c: c, shape: s, tileRows: tileRows}
	var err error
	if in.unpack, err = c.kernel(kernelSpec{module: "step", name: "unpackStep", params: unsafe.Sizeof(unpackParams{})}); err != nil {
		return nil, err
	}
	l := newInputLayout(s, tileRows)
	if in.memory, err = c.alloc(l.size, useWorkspace); err != nil {
		return nil, err
	}
	c.enter()
	defer c.leave()
	var st status
	if in.pinned, in.dev, st = c.d.hostAlloc(4*l.hostInts, true); st != success {
		c.free(in.memory)
		return nil, fmt.Errorf("%d bytes of page-locked memory for a step: %w", 4*l.hostInts, c.note("cuMemHostAlloc", st))
	}
	in.host = unsafe.Slice((*int32)(unsafe.Pointer(&in.pinned[0])), l.hostInts)
	p := in.memory.ptr
	in.at = stepBuffers{
		positions: p + devptr(l.positions), seqOf: p + devptr(l.seqOf), logitRows: p + devptr(l.logitRows),
		decodeRow: p + devptr(l.decodeRow), tiles: p + devptr(l.tiles), fullTable: p + devptr(l.full), windowTable: p + devptr(l.window),
		rope: p + devptr(l.rope),
	}
	in.full, in.window = newBlockTable(s.MaxSeqs, s.maxBlocks), newBlockTable(s.MaxSeqs, s.maxBlocks)
	in.full.ptr, in.window.ptr = in.at.fullTable, in.at.windowTable
	in.slots, in.taken = make([]int32, s.MaxSeqs), make([]bool, s.MaxSeqs)
	in.owner = make([]int32, s.MaxTokens)
	return in, nil
}

func (in *stepInput) close() {
	c := in.c
	c.free(in.memory)
	if c.lost == nil {
		c.enter()
		defer c.leave()
		c.queue.fail(c.note("cuMemFreeHost", c.d.hostFree(in.pinned)))
	}
}

// begin writes the batch to the block and enqueues what does not fit there. The GPU must have read the one before.
func (in *stepInput) begin(q *queue, b *device.Batch) (stepShape, error) {
	for i := range b.Seqs {
		if n := in.blocks(b, i); n > in.shape.maxBlocks {
			return stepShape{}, fmt.Errorf("batch sequence %d needs %d pages, the session has %d", i, n, in.shape.maxBlocks)
		}
	}
	in.assign(b)
	in.decodes, in.tiles = in.decodes[:0], in.tiles[:0]
	in.pairs = [2][]int32{in.pairs[0][:0], in.pairs[1][:0]}
	for i := range b.Seqs {
		s, slot, blocks := &b.Seqs[i], in.slots[i], in.blocks(b, i)
		for t := range s.Count {
			in.owner[s.First+t] = slot
		}
		if s.Count == 1 {
			in.decodes = append(in.decodes, int32(s.First))
		} else {
			in.tile(slot, s, b.Positions[s.First])
		}
		in.updateTable(q, 0, &in.full, int(slot), s.Full[:blocks])
		in.updateTable(q, 1, &in.window, int(slot), s.Window[:blocks])
	}
	in.write(b)
	return stepShape{tokens: len(b.Tokens), seqs: len(b.Seqs), rows: len(b.Logits), decodes: len(in.decodes), tiles: len(in.tiles) / 4}, nil
}

// blocks is how many pages sequence i of the batch reaches into.
func (in *stepInput) blocks(b *device.Batch, i int) int {
	s := &b.Seqs[i]
	return (int(b.Positions[s.First])+s.Count-1)/in.shape.PageSize + 1
}

// tile cuts a sequence's tokens into query tiles. The last come first: they see the most keys, and what takes longest
// should not start last.
func (in *stepInput) tile(slot int32, s *device.Seq, position int32) {
	for at := (s.Count - 1) / in.tileRows * in.tileRows; at >= 0; at -= in.tileRows {
		in.tiles = append(in.tiles, slot, int32(s.First+at), int32(min(in.tileRows, s.Count-at)), position+int32(at))
	}
}

func (in *stepInput) updateTable(q *queue, kind int, t *blockTable, slot int, pages []int32) {
	in.pairs[kind] = t.update(slot, pages, in.pairs[kind], func(at int, run []int32) {
		q.upload(t.ptr+devptr(4*at), bytesOf(run))
	})
}

// assign gives every sequence a slot of the block tables, the one it had before where that can be seen: the page that it
// writes to is its own. A wrong guess only costs copying.
func (in *stepInput) assign(b *device.Batch) {
	clear(in.taken)
	for i := range b.Seqs {
		in.slots[i] = -1
		if in.holds(b, i, i) {
			in.slots[i], in.taken[i] = int32(i), true
		}
	}
	for i := range b.Seqs {
		for slot := 0; slot < len(in.taken) && in.slots[i] < 0; slot++ {
			if !in.taken[slot] && in.holds(b, i, slot) {
				in.slots[i], in.taken[slot] = int32(slot), true
			}
		}
	}
	free := 0
	for i := range b.Seqs {
		if in.slots[i] >= 0 {
			continue
		}
		for in.taken[free] {
			free++
		}
		in.slots[i], in.taken[free] = int32(free), true
	}
}

// holds says whether a slot has the page that sequence i of the batch continues in.
func (in *stepInput) holds(b *device.Batch, i, slot int) bool {
	s := &b.Seqs[i]
	p := int(b.Positions[s.First])
	block := max(p-1, 0) / in.shape.PageSize
	return p > 0 && in.full.row(slot)[block] == s.Full[block] && in.window.row(slot)[block] == s.Window[block]
}

// write fills the block: counts, then the arrays, as kernels/step.cu reads them.
func (in *stepInput) write(b *device.Batch) {
	h := in.host
	copy(h, []int32{
		int32(len(b.Tokens)), int32(len(b.Logits)), int32(len(in.decodes)), int32(len(in.tiles) / 4),
		int32(len(in.pairs[0]) / 2), int32(len(in.pairs[1]) / 2), 0, 0,
	})
	h = h[stepHeader:]
	put := func(v []int32) { h = h[copy(h, v):] }
	put(b.Positions)
	put(in.owner[:len(b.Tokens)])
	for i := range b.Logits {
		h[i] = int32(b.Logits[i].Row)
	}
	h = h[len(b.Logits):]
	put(in.decodes)
	put(in.tiles)
	put(in.pairs[0])
	put(in.pairs[1])
}

// run enqueues the kernel that spreads the block.
func (in *stepInput) run(q *queue, tokens int) {
	p := unpackParams{
		block: in.dev, positions: in.at.positions, seqOf: in.at.seqOf, logitRows: in.at.logitRows,
		decodeRow: in.at.decodeRow, tiles: in.at.tiles, fullTable: in.at.fullTable, windowTable: in.at.windowTable,
	}
	blocks := min((tokens+unpackThreads-1)/unpackThreads, in.shape.sms)
	launch(q, in.unpack, dim{blocks, 1, 1}, dim{unpackThreads, 1, 1}, 0, &p)
}

// forget is for a step that failed before the GPU took over its tables.
func (in *stepInput) forget() {
	in.full.forget()
	in.window.forget()
}
