package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"unsafe"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

// packParams mirrors that of kernels/pack.cu.
type packParams struct {
	even, odd, evenScales, oddScales, tiles, scaleCodes, scales, worst devptr
	rows, chunks, firstChunk, pieceChunks, split, source               int32
	block, evenBefore, oddBefore, padding                              int32
}

// nestedStart mirrors NestedStart of kernels/experts.cuh.
type nestedStart struct {
	index, unit int32
	offset      float32
	padding     int32
}

const (
	sideTables  = 4 * (16 + 256)
	pieceBytes  = 32 << 20 // of a checkpoint, staged at once
	packThreads = 256
	// chunksBehind follow the last tile, with their scales: as many may a stage read past it.
	chunksBehind = 2
	// worstE8M0 is the largest block exponent, 2^1, that the batch kernels multiply in BF16. Weights of 24 and above
	// would need more.
	worstE8M0 = 128
)

// expertPlan says how a projection will lie on the device.
type expertPlan struct {
	format       expertFormat
	stack        *dtype.Stack
	rows, cols   int // of an expert
	parts        []*dtype.Plane
	split        int // 1: two parts an expert
	transposed   bool
	outline      bool // there is nothing to load
	block        int  // NF4, FP4: runs of 64 weights under one scale
	shift        int  // nested: log2 of runs under one scale of scales
	unnest       bool
	nestedScales int // in all
	sizes        [4]int64
}

// planExperts checks a projection and says how it will lie on the device. Errors of what is not served wrap
// device.ErrNotSupported.
func planExperts(w *device.Experts) (*expertPlan, error) {
	p := &expertPlan{stack: &w.Weight}
	s := p.stack
	if len(s.Even) == 0 || s.Odd != nil && len(s.Odd) != len(s.Even) {
		return nil, fmt.Errorf("%d even and %d odd expert matrices", len(s.Even), len(s.Odd))
	}
	p.rows, p.cols = s.Shape()
	for e := range s.Even {
		p.parts = append(p.parts, &s.Even[e])
		if s.Odd != nil {
			p.split = 1
			p.parts = append(p.parts, &s.Odd[e])
		}
	}
	first := p.parts[0]
	for i, x := range p.parts {
		if p.outline = first.Outline(); !p.outline {
			if err := x.Check(); err != nil {
				return nil, fmt.Errorf("expert %d: %w", i>>p.split, err)
			}
		}
		if x.Rows<<p.split != p.rows || x.Cols != p.cols || x.Format != first.Format || x.Transposed != first.Transposed {
			return nil, fmt.Errorf("expert %d is %v [%d, %d], expert 0 is %v [%d, %d]: want all alike", i>>p.split, x.Format, x.Rows, x.Cols, first.Format, first.Rows, first.Cols)
		}
	}
	if err := checkExpertSize(p.rows, p.cols); err != nil {
		return nil, err
	}
	if len(w.Bias) != len(s.Even)*p.rows {
		return nil, fmt.Errorf("%d biases for %d experts of %d rows", len(w.Bias), len(s.Even), p.rows)
	}
	p.transposed = first.Transposed
	if p.transposed && p.split == 1 {
		return nil, fmt.Errorf("gate and up rows that are stored apart and transposed: %w", device.ErrNotSupported)
	}
	if err := p.choose(first); err != nil {
		return nil, err
	}
	p.measure()
	return p, nil
}

// choose finds the device format for a checkpoint's.
func (p *expertPlan) choose(x *dtype.Plane) error {
	switch x.Format {
	case dtype.MXFP4, dtype.MXFP4GGML, dtype.MXFP4Ollama:
		p.format = expertMXFP4
		return nil
	case dtype.BF16:
		p.format = expertBF16
		return nil
	case dtype.NF4, dtype.FP4:
	default:
		return fmt.Errorf("experts in %v have no GPU kernel: convert the model to MXFP4, NF4 or BF16 experts (hearth convert), or quantise while loading (--quantization bitsandbytes): %w", x.Format, device.ErrNotSupported)
	}
	q := x.Quant
	if q == nil || q.Block == 0 {
		return fmt.Errorf("experts in %v have no scales", x.Format)
	}
	if q.Block%64 != 0 {
		return fmt.Errorf("experts in %v with blocks of %d weights have no GPU kernel, want a multiple of 64: %w", x.Format, q.Block, device.ErrNotSupported)
	}
	p.block = q.Block / 64
	for i, y := range p.parts {
		if y.Quant.Block != q.Block {
			return fmt.Errorf("expert %d has blocks of %d weights, expert 0 of %d: want all alike", i>>p.split, y.Quant.Block, q.Block)
		}
	}
	p.format, p.unnest = expertAbsmax, q.Codes != nil
	switch {
	case p.transposed:
		p.format = expertColumns
	case p.keepsNesting(q):
		p.format, p.unnest = expertNested, false
		p.shift = bits.TrailingZeros(uint(p.block * q.NestedBlock))
	}
	for _, y := range p.parts {
		p.unnest = p.unnest || p.format != expertNested && y.Quant.Codes != nil
	}
	return nil
}

// keepsNesting says whether double-quantised scales can stay so: where all tensors share a table of codes and a power of
// two as the span of a scale of scales, as bitsandbytes writes them. Else they become float32, the same values.
func (p *expertPlan) keepsNesting(q *dtype.Quant) bool {
	for _, y := range p.parts {
		r := y.Quant
		if r.Codes == nil || r.NestedBlock != q.NestedBlock || *r.Map != *q.Map {
			return false
		}
	}
	return bits.OnesCount(uint(p.block*q.NestedBlock)) == 1
}

// measure fills in what the parts take on the device: tiles, side, scales, bias.
func (p *expertPlan) measure() {
	n := len(p.stack.Even)
	chunks := int64(n) * int64(p.rows/tileRows) * int64(p.cols/chunkCols)
	p.sizes[0] = (chunks + chunksBehind) * int64(p.format.chunkBytes())
	p.sizes[3] = 4 * int64(n) * int64(p.rows)
	switch p.format {
	case expertNested:
		for _, x := range p.parts {
			p.nestedScales += nestedCount(x)
		}
		p.sizes[1] = sideTables + int64(n)*2*int64(unsafe.Sizeof(nestedStart{}))
		p.sizes[2] = 4 * (int64(p.nestedScales) + 1)
	case expertColumns:
		p.sizes[1] = sideTables
		p.sizes[2] = 4 * (int64(n)*int64(p.rows/64)*int64(p.cols) + 2*chunkCols)
	case expertAbsmax:
		p.sizes[1] = sideTables
	}
}

// nestedCount is the number of scales of scales that a plane's blocks touch.
func nestedCount(x *dtype.Plane) int {
	q := x.Quant
	return ceilDiv(q.First%q.NestedBlock+x.Rows*x.Cols/q.Block, q.NestedBlock)
}

// bytes is what load will take on the device.
func (e *expertOps) bytes(w *device.Experts, down bool) (int64, error) {
	p, err := planExperts(w)
	switch {
	case err != nil && down:
		return 0, fmt.Errorf("down: %w", err)
	case err != nil:
		return 0, fmt.Errorf("gate_up: %w", err)
	}
	var n int64
	for _, s := range p.sizes {
		n += roundUp(s, alignment)
	}
	return n, nil
}

// load brings a projection to the device, packed for the kernels there from the checkpoint's own bytes. Once everything is
// loaded, verify says whether the kernels can hold it.
func (e *expertOps) load(u *uploader, w *device.Experts, _ bool) (expertWeight, error) {
	p, err := planExperts(w)
	if err != nil {
		return expertWeight{}, err
	}
	if p.outline && u.pools == nil {
		return expertWeight{}, errors.New("expert weights have a shape and no content")
	}
	x, err := e.reserve(p.format, len(p.stack.Even), p.rows, p.cols, p.sizes)
	if err != nil {
		return x, err
	}
	x.shift, x.split = p.shift, p.split
	if err := e.preparePack(); err != nil {
		return x, err
	}
	q := e.c.queue
	x.slot = e.slots % int(e.worst.size/4)
	e.slots++
	q.zero(e.worstAt(&x), 4)
	x.zeroBehind(q)
	p.loadSide(u, &x)
	bias := make([]byte, 4*len(w.Bias))
	dtype.EncodeF32(bias, w.Bias)
	u.copy(x.bias, bias)
	if p.outline {
		if err := u.pools.experts(p, &x); err != nil {
			return x, err
		}
	} else {
		for expert := range p.stack.Even {
			if p.transposed {
				e.loadInputs(u, p, &x, expert)
			} else {
				e.loadRows(u, p, &x, expert)
			}
		}
	}
	return x, nil
}

func (e *expertOps) worstAt(w *expertWeight) devptr { return e.worst.ptr + devptr(4*w.slot) }

// verify waits for what was enqueued to load projections. The error is about list[i].
func (e *expertOps) verify(list []*expertWeight) (i int, err error) {
	worst := make([]uint32, e.worst.size/4)
	q := e.c.queue
	q.download(bytesOf(worst), e.worst.ptr)
	if err := q.sync(); err != nil {
		return 0, err
	}
	for i, w := range list {
		if n := worst[w.slot]; n > worstE8M0 {
			return i, fmt.Errorf("an MXFP4 block has the scale byte %d, the GPU kernels hold up to %d (no published model has more than that): %w", n, worstE8M0, device.ErrNotSupported)
		}
	}
	return 0, nil
}

// reserve allocates a projection and makes its kernels ready. Its contents are undefined.
func (e *expertOps) reserve(f expertFormat, experts, rows, cols int, sizes [4]int64) (expertWeight, error) {
	x := expertWeight{format: f, experts: experts, rows: rows, cols: cols}
	if err := e.prepare(f); err != nil {
		return x, err
	}
	for i, to := range []*devptr{&x.data, &x.side, &x.scales, &x.bias} {
		if sizes[i] == 0 {
			continue
		}
		x.bytes += sizes[i]
		b, err := e.keep(sizes[i], useWeights)
		if err != nil {
			return x, err
		}
		*to = b.ptr
	}
	return x, nil
}

func (e *expertOps) preparePack() error {
	for _, name := range []string{"packMXFP4", "packCodes", "packColumns", "packBF16", "packBF16Transposed"} {
		if e.pack[name] != nil {
			continue
		}
		k, err := e.c.kernel(kernelSpec{module: "pack", name: name, params: unsafe.Sizeof(packParams{})})
		if err != nil {
			return err
		}
		e.pack[name] = k
	}
	return nil
}

// loadSide brings the tables: what codes stand for, and where each expert's scales of scales begin.
func (p *expertPlan) loadSide(u *uploader, x *expertWeight) {
	if x.side == 0 {
		return
	}
	first := p.parts[0]
	table := &dtype.NF4Table
	if first.Format == dtype.FP4 {
		table = &dtype.FP4Table
	}
	side := make([]float32, 16+256)
	copy(side, table[:])
	if p.format != expertNested {
		u.copy(x.side, bytesOf(side))
		if p.format == expertColumns {
			u.copy(x.scales+devptr(p.sizes[2]-8*chunkCols), make([]byte, 8*chunkCols))
		}
		return
	}
	copy(side[16:], first.Quant.Map[:])
	u.copy(x.side, bytesOf(side))
	starts := make([]nestedStart, 2*len(p.stack.Even))
	scales := make([]byte, 0, 4*(p.nestedScales+1))
	for i, y := range p.parts {
		q := y.Quant
		at := nestedStart{index: int32(len(scales) / 4), unit: int32(q.First % q.NestedBlock * p.block), offset: q.Offset}
		starts[i<<(1-p.split)] = at
		if p.outline {
			scales = append(scales, u.pools.scalesOfScales(nestedCount(y))...)
			continue
		}
		from := q.First / q.NestedBlock
		scales = append(scales, q.Nested[4*from:4*(from+nestedCount(y))]...)
	}
	u.copy(x.side+sideTables, bytesOf(starts))
	u.copy(x.scales, append(scales, 0, 0, 0, 0))
}

// loadRows packs an expert that is stored [outputs, inputs], some rows at a time.
func (e *expertOps) loadRows(u *uploader, p *expertPlan, x *expertWeight, expert int) {
	name := map[expertFormat]string{expertMXFP4: "packMXFP4", expertAbsmax: "packCodes", expertNested: "packCodes", expertBF16: "packBF16"}[p.format]
	half := p.parts[expert<<p.split]
	step := max(32, e.piece/(len(half.Data)/half.Rows+p.cols/16)/32*32)
	for first := 0; first < p.rows; first += step {
		rows := min(step, p.rows-first)
		a := packParams{
			rows: int32(rows), chunks: int32(p.cols / chunkCols), pieceChunks: int32(p.cols / chunkCols), split: int32(p.split), block: int32(p.block),
			tiles: x.tile(expert, first/tileRows), worst: e.worstAt(x),
		}
		if p.format == expertNested {
			a.scaleCodes = x.scaleCodes(expert, first/tileRows)
		}
		var pieces [][]byte
		for i, half := range p.parts[expert<<p.split:][:1+p.split] {
			values, scales, before := p.rowsOf(half, first>>p.split, rows>>p.split)
			a.source = sourceOf(half.Format)
			if i == 0 {
				a.evenBefore = before
			} else {
				a.oddBefore = before
			}
			pieces = append(pieces, values, scales)
		}
		u.stage(pieces, func(q *queue, at []devptr) {
			a.even, a.evenScales = at[0], at[1]
			if p.split == 1 {
				a.odd, a.oddScales = at[2], at[3]
			}
			e.runPack(q, name, &a)
		})
	}
}

// chunks is how many stand before a tile of an expert.
func (w *expertWeight) chunks(expert, tile int) int64 {
	return (int64(expert)*int64(w.rows/tileRows) + int64(tile)) * int64(w.cols/chunkCols)
}

// tile is the address of one tile of an expert.
func (w *expertWeight) tile(expert, tile int) devptr {
	return w.data + devptr(w.chunks(expert, tile)*int64(w.format.chunkStride()))
}

// scaleCodes is the address of a tile's codes of scales, 0 where the format has none.
func (w *expertWeight) scaleCodes(expert, tile int) devptr {
	if w.format != expertNested {
		return 0
	}
	return w.data + devptr((w.chunks(w.experts, 0)+chunksBehind)*int64(w.format.chunkStride())+w.chunks(expert, tile)*scaleCodeBytes)
}

// zeroBehind sets what a stage may read past the last tile.
func (w *expertWeight) zeroBehind(q *queue) {
	q.zero(w.tile(w.experts, 0), chunksBehind*int64(w.format.chunkStride()))
	if w.format == expertNested {
		q.zero(w.scaleCodes(w.experts, 0), chunksBehind*scaleCodeBytes)
	}
}

func sourceOf(f dtype.Format) int32 {
	switch f {
	case dtype.MXFP4GGML:
		return 1
	case dtype.MXFP4Ollama:
		return 2
	}
	return 0
}

// rowsOf gives the bytes of some rows of a plane and of their scales; before is the number of runs of 64 weights that
// the first scale has before them.
func (p *expertPlan) rowsOf(x *dtype.Plane, first, rows int) (values, scales []byte, before int32) {
	n := len(x.Data) / x.Rows
	values = x.Data[first*n : (first+rows)*n]
	switch p.format {
	case expertMXFP4:
		n = len(x.Scales) / x.Rows
		scales = x.Scales[first*n : (first+rows)*n]
	case expertAbsmax, expertNested:
		run := first * (p.cols / 64)
		scales = p.scalesOf(x, run/p.block, ceilDiv(run+rows*(p.cols/64), p.block))
		before = int32(run % p.block)
	}
	return values, scales, before
}

// scalesOf gives the stored scales of some blocks, counted from the plane's first.
func (p *expertPlan) scalesOf(x *dtype.Plane, first, last int) []byte {
	q := x.Quant
	switch {
	case p.format == expertNested:
		return q.Codes[q.First+first : q.First+last]
	case q.Codes == nil:
		return q.Absmax[4*(q.First+first) : 4*(q.First+last)]
	}
	out := make([]byte, 4*(last-first))
	for i := range last - first {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(q.Scale(first+i)))
	}
	return out
}

// loadInputs packs an expert that is stored [inputs, outputs], some inputs at a time.
func (e *expertOps) loadInputs(u *uploader, p *expertPlan, x *expertWeight, expert int) {
	plane := p.parts[expert]
	perInput := len(plane.Data) / p.cols
	step := max(chunkCols, e.piece/(perInput+p.rows/16)/chunkCols*chunkCols)
	for first := 0; first < p.cols; first += step {
		n := min(step, p.cols-first)
		a := packParams{
			rows: int32(p.rows), chunks: int32(p.cols / chunkCols), firstChunk: int32(first / chunkCols), pieceChunks: int32(n / chunkCols),
			block: int32(p.block), tiles: x.tile(expert, 0), worst: e.worstAt(x),
		}
		name := "packBF16Transposed"
		pieces := [][]byte{plane.Data[first*perInput : (first+n)*perInput], nil}
		if p.format == expertColumns {
			name = "packColumns"
			run := first * (p.rows / 64)
			a.evenBefore = int32(run % p.block)
			a.scales = x.scales + devptr(4*int64(expert)*int64(p.rows/64)*int64(p.cols))
			pieces[1] = p.scalesOf(plane, run/p.block, ceilDiv(run+n*(p.rows/64), p.block))
		}
		u.stage(pieces, func(q *queue, at []devptr) {
			a.even, a.evenScales = at[0], at[1]
			e.runPack(q, name, &a)
		})
	}
}

// runPack launches a thread for each lane of each chunk.
func (e *expertOps) runPack(q *queue, name string, a *packParams) {
	threads := int64(a.rows/tileRows) * int64(a.pieceChunks) * 32
	if threads > math.MaxInt32 {
		q.fail(errors.New("a piece of experts is too large to pack at once"))
		return
	}
	launch(q, e.pack[name], dim{ceilDiv(int(threads), packThreads), 1, 1}, dim{packThreads, 1, 1}, 0, a)
}
