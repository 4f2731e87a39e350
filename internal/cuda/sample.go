package cuda

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"hearth/internal/device"
)

// sampleOps turns logits into tokens and log-probabilities on the device (kernels/sample.cu, kernels/pick.cu). Only
// results travel back: for each row 32 bytes, and 8 for each most likely id asked for.
//
// A row's results depend on its logits and its wishes alone, not on the rest of the batch. The token is the one that
// package cpu draws from the same logits, unless the uniform number falls within about 1e-6 of the border between two
// ids' shares: probabilities here have a relative error below 2^-20, those under 2^-44 of the greatest are 0, and their
// sums are exact.
type sampleOps struct {
	c     *context
	shape *shape

	stats, finish, change, weigh, draw *kernel
	spread, tops, pick                 *kernel

	work    buffer // [result, partial, weight, spread, counts] for MaxLogits rows
	offset  sampleLayout
	cleared bool // counts are zero

	up, saved, top buffer // grown to what a step needs
	pack           samplePack
	results        []sampleResult
	keys           []uint64
	batch          *device.Batch
}

// sampleResult mirrors Result of kernels/sample.cuh.
type sampleResult struct {
	max, sum float32
	bad      uint32
	badLogit float32
	token    int32
	logit    float32
	target   float32
	peak     float32
}

// sampleParams mirrors Sample.
type sampleParams struct {
	logits, row, words, saved, list devptr
	result, partial, weight, spread devptr
	tops, counts                    devptr
	n, vocab, chunks, changed, span int32
	pad                             int32
}

// Sizes of kernels/sample.cuh.
const (
	chunkIDs      = 512
	partialBytes  = 16
	spreadBytes   = spreadBins*12 + 8
	changeBlocks  = 8 // rows whose histories are counted at once
	idBits        = 20
	noBad         = math.MaxUint32
	statsThreads  = 128
	finishThreads = 512
	spreadThreads = 256
	pickThreads   = 512
)

// sampleLayout tells where the parts of the workspace begin.
type sampleLayout struct{ result, partial, weight, spread, counts, size int64 }

func newSampleLayout(vocab, rows int) sampleLayout {
	var l sampleLayout
	chunks := int64((vocab + chunkIDs - 1) / chunkIDs)
	take := func(bytes int64) int64 {
		at := l.size
		l.size += (bytes + 255) &^ 255
		return at
	}
	l.result = take(int64(rows) * int64(unsafe.Sizeof(sampleResult{})))
	l.partial = take(int64(rows) * chunks * partialBytes)
	l.weight = take(int64(rows) * chunks * 8)
	l.spread = take(int64(rows) * spreadBytes)
	l.counts = take(int64(min(rows, changeBlocks)) * int64(vocab) * 4)
	return l
}

// newSample allocates what every step needs. Steps that carry long histories, many masks or many most likely ids take more
// as they need it.
func newSample(c *context, s *shape) (*sampleOps, error) {
	if s.Vocab > 1<<idBits {
		return nil, fmt.Errorf("vocabulary of %d ids: sampling on the GPU takes at most %d: %w", s.Vocab, 1<<idBits, device.ErrNotSupported)
	}
	p := &sampleOps{c: c, shape: s, offset: newSampleLayout(s.Vocab, s.MaxLogits)}
	for _, k := range []struct {
		to           **kernel
		module, name string
	}{
		{&p.stats, "sample", "stats"}, {&p.finish, "sample", "finish"}, {&p.change, "sample", "change"},
		{&p.weigh, "sample", "weigh"}, {&p.draw, "sample", "draw"},
		{&p.spread, "pick", "spread"}, {&p.tops, "pick", "tops"}, {&p.pick, "pick", "pick"},
	} {
		var err error
		*k.to, err = c.kernel(kernelSpec{module: k.module, name: k.name, params: unsafe.Sizeof(sampleParams{})})
		if err != nil {
			return nil, err
		}
	}
	var err error
	p.work, err = c.alloc(p.offset.size, useWorkspace)
	return p, err
}

func (p *sampleOps) close() {
	for _, b := range []*buffer{&p.work, &p.up, &p.saved, &p.top} {
		if b.ptr != 0 {
			p.c.free(*b)
		}
		*b = buffer{}
	}
}

// begin uploads what the batch asks of its logit rows.
func (p *sampleOps) begin(q *queue, b *device.Batch) error {
	p.batch = b
	p.pack.pack(b, p.shape.Vocab)
	for _, g := range []struct {
		b *buffer
		n int64
	}{
		{&p.up, int64(len(p.pack.bytes))},
		{&p.saved, int64(len(p.pack.bytes) - p.pack.front)}, // a float for each word
		{&p.top, int64(p.pack.tops) * 8},
	} {
		if err := p.grow(g.b, g.n); err != nil {
			return fmt.Errorf("sampling %d rows: %w", len(b.Logits), err)
		}
	}
	if !p.cleared {
		q.zero(p.work.ptr+devptr(p.offset.counts), p.offset.size-p.offset.counts)
		p.cleared = true
	}
	q.upload(p.up.ptr, p.pack.bytes)
	return nil
}

// grow makes room for n bytes. Nothing that reads the old room is still queued: the step before has been collected.
func (p *sampleOps) grow(b *buffer, n int64) error {
	const least = 64 << 10
	if n <= b.size {
		return nil
	}
	if b.ptr != 0 {
		p.c.free(*b)
		*b = buffer{}
	}
	larger, err := p.c.alloc(max(least, n+n/2), useWorkspace)
	if err == nil {
		*b = larger
	}
	return err
}

// run queues the work on logits, float32 [R, Vocab], which it changes.
func (p *sampleOps) run(q *queue, logits devptr, R int) {
	p.launch(q, p.stats, listAll, logits, p.units(listAll), statsThreads, 0)
	p.launch(q, p.finish, listAll, logits, p.count(listAll), finishThreads, 0)
	if p.count(listTops) > 0 {
		p.launchSpread(q, listTops, logits, R, 0)
		p.launch(q, p.tops, listTops, logits, p.count(listTops), pickThreads, 0)
	}
	if n := p.count(listTouched); n > 0 {
		p.launch(q, p.change, listTouched, logits, min(n, changeBlocks, p.shape.MaxLogits), finishThreads, 1)
	}
	if n := p.count(listChanged); n > 0 {
		p.launch(q, p.stats, listChanged, logits, p.units(listChanged), statsThreads, 1)
		p.launch(q, p.finish, listChanged, logits, n, finishThreads, 1)
	}
	if n := p.count(listWhole); n > 0 {
		p.launch(q, p.weigh, listWhole, logits, p.units(listWhole), statsThreads, 1)
		p.launch(q, p.draw, listWhole, logits, n, chunkIDs, 1)
	}
	if n := p.count(listPicked); n > 0 {
		p.launchSpread(q, listPicked, logits, R, 1)
		p.launch(q, p.pick, listPicked, logits, n, pickThreads, 1)
	}
}

func (p *sampleOps) count(list int) int { return len(p.pack.list[list]) }
func (p *sampleOps) chunks() int        { return (p.shape.Vocab + chunkIDs - 1) / chunkIDs }

// units is the number of blocks of four warps, a chunk each.
func (p *sampleOps) units(list int) int { return (p.count(list)*p.chunks() + 3) / 4 }

// span is how many chunks a block of spread takes: four at once, and so many times that few blocks add to each row's bins.
func (p *sampleOps) span(list int) int {
	const atOnce, waves, most = 4, 4, 1 << 17 / chunkIDs
	blocks := waves * p.c.info.sms
	return min(most, atOnce*max(1, (p.count(list)*p.chunks()+atOnce*blocks-1)/(atOnce*blocks)))
}

func (p *sampleOps) launchSpread(q *queue, list int, logits devptr, R, changed int) {
	q.zero(p.work.ptr+devptr(p.offset.spread), int64(R)*spreadBytes)
	span := p.span(list)
	p.launch(q, p.spread, list, logits, p.count(list)*((p.chunks()+span-1)/span), spreadThreads, changed)
}

func (p *sampleOps) launch(q *queue, k *kernel, list int, logits devptr, blocks, threads, changed int) {
	at := func(offset int64) devptr { return p.work.ptr + devptr(offset) }
	launch(q, k, dim{blocks, 1, 1}, dim{threads, 1, 1}, 0, &sampleParams{
		logits: logits, row: p.up.ptr, words: p.up.ptr + devptr(p.pack.front), saved: p.saved.ptr,
		list:   p.up.ptr + devptr(p.pack.listAt(list)),
		result: at(p.offset.result), partial: at(p.offset.partial), weight: at(p.offset.weight), spread: at(p.offset.spread),
		tops: p.top.ptr, counts: at(p.offset.counts),
		n: int32(p.count(list)), vocab: int32(p.shape.Vocab), chunks: int32(p.chunks()), changed: int32(changed), span: int32(p.span(list)),
	})
}

// collect waits for the step and fills out[i] for the i-th logit row.
func (p *sampleOps) collect(q *queue, out []device.Output) error {
	n := len(p.batch.Logits)
	p.results = slices.Grow(p.results[:0], n)[:n]
	p.keys = slices.Grow(p.keys[:0], p.pack.tops)[:p.pack.tops]
	q.download(bytesOf(p.results), p.work.ptr+devptr(p.offset.result))
	if p.pack.tops > 0 {
		q.download(bytesOf(p.keys), p.top.ptr)
	}
	if err := q.sync(); err != nil {
		return err
	}
	for i := range n {
		p.fill(&out[i], i)
	}
	return nil
}

func (p *sampleOps) fill(o *device.Output, i int) {
	l, r, row := &p.batch.Logits[i], &p.results[i], &p.pack.rows[i]
	*o = device.Output{Token: -1, Top: o.Top[:0]}
	if r.bad != noBad {
		o.Err = fmt.Errorf("token %d of the batch: logit of id %d is %v: the weights or the computation are broken", l.Row, r.bad, r.badLogit)
		return
	}
	norm := float64(r.max) + math.Log(float64(r.sum))
	if l.Target >= 0 {
		o.TargetLogProb = float32(float64(r.target) - norm)
	}
	keys := p.keys[row.topAt : row.topAt+row.top]
	slices.SortFunc(keys, func(a, b uint64) int { return -cmp.Compare(a, b) })
	for _, k := range keys {
		id, logit := fromKey(k)
		o.Top = append(o.Top, device.TokenLogProb{ID: id, LogProb: float32(float64(logit) - norm)})
	}
	switch {
	case l.Sample == nil:
	case r.token < 0:
		o.Err = fmt.Errorf("token %d of the batch: every token is masked or banned", l.Row)
	default:
		o.Token, o.LogProb = r.token, float32(float64(r.logit)-norm)
	}
}

// fromKey undoes keyOf of kernels/pick.cu.
func fromKey(k uint64) (id int32, logit float32) {
	const lastID = 1<<idBits - 1
	b := uint32(k >> idBits)
	if b>>31 == 1 {
		b ^= 1 << 31
	} else {
		b = ^b
	}
	return int32(lastID - k&lastID), math.Float32frombits(b)
}
