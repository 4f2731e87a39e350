package cuda

import (
	"fmt"
	"math"
	"unsafe"
)

// The row kernels: one token, two launches (kernels/experts_row.cuh).

// rowPlan mirrors RowPlan of kernels/experts_row.cuh: how a launch is divided.
type rowPlan struct {
	share, extra, segments, groups    int32
	groupsReciprocal, tilesReciprocal uint32
	stepSegments, stepGroups          int32
}

// gateUpRowParams and downRowParams mirror those of kernels/experts_row.cuh.
type gateUpRowParams struct {
	w                                 expertsArg
	x, norm, routerBias, acc          devptr
	h, choice                         devptr
	plan                              rowPlan
	experts, topK                     int32
	perCol, eps, alpha, limit, factor float32
	vectorFactor, sumFactor           float32
	padding                           int32
}

type downRowParams struct {
	w                 expertsArg
	h, choice, planes devptr
	plan              rowPlan
	experts, topK     int32
	halfReciprocal    uint32
	vectorFactor      float32
	sumFactor         float32
	padding           int32
}

// expertRowKernels are those of one format.
type expertRowKernels struct{ gateUp, down *kernel }

// rowLaunch is how a row kernel is launched. It depends on the session alone.
type rowLaunch struct {
	blocks, shared int
	plan           rowPlan
}

const (
	expertRowThreads = 512
	expertRowWarps   = expertRowThreads / 32
	rowGroup         = 3                                       // chunks
	rowRing          = expertRowWarps * (rowGroup*512 + 2*128) // codes and scales
	rowMap           = 256 * 4
	rowPairs         = 256 * 128 // what bytes of NF4 or FP4 codes stand for
	rowStart         = 2 * 16    // of an expert's scales of scales
	rowShared        = 96 << 10  // most, of a block
	rowTiles         = 1<<14 - 1 // most, of an expert: the kernels divide by a 32-bit reciprocal
	// rowVector is what MXFP4's row kernels want activations multiplied with.
	rowVector = 0x1p100
)

// planRow shares units of `segments` segments each among the card's multiprocessors: one block each, or more where a
// block's sums would not fit in shared memory. ok is false where the vectors do not.
func (s *shape) planRow(f expertFormat, units, segments, vectors, rows, cols int) (r rowLaunch, ok bool) {
	groups, tiles := ceilDiv(cols/chunkCols, rowGroup), rows/tileRows
	p := &r.plan
	p.groups, p.stepSegments, p.stepGroups = int32(groups), int32(expertRowWarps/groups), int32(expertRowWarps%groups)
	p.groupsReciprocal, p.tilesReciprocal = reciprocal16(groups), pageReciprocal(tiles)
	tables := rowMap + s.Experts*rowStart
	if f != expertMXFP4 {
		tables += rowPairs
	}
	for blocks := min(s.sms, units); ; blocks = min(blocks+s.sms, units) {
		most := ceilDiv(units, blocks) * segments
		r.blocks, p.share, p.extra, p.segments = blocks, int32(units/blocks), int32(units%blocks), int32(most)
		r.shared = rowRing + tables + most*(16+groups*64) + vectors*groups*rowGroup*128
		if r.shared <= rowShared {
			return r, tiles <= rowTiles
		}
		if blocks == units {
			return r, false
		}
	}
}

// reciprocal16 is ceil(2^16 / n): i * reciprocal16(n) >> 16 is i / n for i below 2^16 / n.
func reciprocal16(n int) uint32 { return uint32((1<<16 + n - 1) / n) }

func (s *shape) gateUpLaunch(f expertFormat) (rowLaunch, bool) {
	return s.planRow(f, s.TopK*2*s.Intermediate/tileRows, 1, 1, 2*s.Intermediate, s.Hidden)
}

func (s *shape) downLaunch(f expertFormat) (rowLaunch, bool) {
	return s.planRow(f, 2*s.Hidden/tileRows, (s.TopK+1)/2, s.TopK, s.Hidden, s.Intermediate)
}

// prepareRows makes the row kernels of a format ready, where it has any and the session's sizes suit them.
func (e *expertOps) prepareRows(f expertFormat) error {
	g, gateUp := e.shape.gateUpLaunch(f)
	d, down := e.shape.downLaunch(f)
	if f != expertMXFP4 && f != expertAbsmax && f != expertNested || !gateUp || !down {
		return nil
	}
	few := 256
	if e.shape.Experts <= 32 {
		few = 32
	}
	k := &expertRowKernels{}
	for _, x := range []struct {
		to     **kernel
		name   string
		shared int
		params uintptr
	}{
		{&k.gateUp, fmt.Sprint("gateUpRow", few), g.shared, unsafe.Sizeof(gateUpRowParams{})},
		{&k.down, "downRow", d.shared, unsafe.Sizeof(downRowParams{})},
	} {
		var err error
		*x.to, err = e.c.kernel(kernelSpec{module: "experts_row_" + f.suffix(), name: x.name, shared: x.shared, params: x.params})
		if err != nil {
			return err
		}
	}
	e.rows[f] = k
	return nil
}

// rowFactors are the powers of two that the row kernels of a format multiply the vector and the sums with. most bounds the
// vector's values: F16, in which NF4 and FP4 are multiplied, overflows past 65504.
func rowFactors(f expertFormat, most float64) (vector, sum float32) {
	if f == expertMXFP4 {
		return rowVector, 0x1p26
	}
	_, e := math.Frexp(most) // NaN and infinity, of which nothing good comes anyway, give 0
	e = max(e, -24)
	return float32(math.Ldexp(1, 14-e)), float32(math.Ldexp(1, e-14))
}

// mostSwiglu bounds what SwiGLU gives: |min(g, limit) sigmoid(alpha g)| (|up| + 1).
func (s *shape) mostSwiglu() float64 {
	limit, alpha := float64(s.SwigluLimit), float64(s.SwigluAlpha)
	return max(limit, 0.28/alpha) * (limit + 1)
}

// mostOf is the greatest magnitude.
func mostOf(v []float32) (most float32) {
	for _, x := range v {
		most = max(most, x, -x)
	}
	return most
}

// gateUpRow chooses the experts of one token from acc, the output projection's fixed-point sums, and computes
// h = swiglu(W1 norm(x) + b1) for each, BF16 [TopK, Intermediate], in the form that downRow of the same layer reads. choice
// gets their ids, int32 [TopK], and then their weights, float32 [TopK].
func (e *expertOps) gateUpRow(q *queue, l *layerWeights, x, acc, h, choice devptr) {
	k := e.rows[l.gateUp.format]
	if k == nil || e.rows[l.down.format] == nil {
		e.gateUpOne(q, l, x, acc, h, choice)
		return
	}
	s := e.shape
	r, _ := s.gateUpLaunch(l.gateUp.format)
	p := gateUpRowParams{
		w: l.gateUp.arg(), x: x, norm: l.mlpNorm, routerBias: l.routerBias, acc: acc, h: h, choice: choice,
		plan: r.plan, experts: int32(s.Experts), topK: int32(s.TopK), perCol: 1 / float32(s.Hidden), eps: s.Eps,
		alpha: s.SwigluAlpha, limit: s.SwigluLimit, factor: 1,
	}
	if l.down.format == expertMXFP4 {
		p.factor = rowVector
	}
	p.vectorFactor, p.sumFactor = rowFactors(l.gateUp.format, math.Sqrt(float64(s.Hidden))*float64(l.mlpNormMost))
	launch(q, k.gateUp, dim{r.blocks, 1, 1}, dim{expertRowThreads, 1, 1}, r.shared, &p)
}

// downRow: planes[0] + planes[1] is the weighted sum of W2 h + b2 over the chosen experts; planes is float32 [2, Hidden].
func (e *expertOps) downRow(q *queue, l *layerWeights, h, choice, planes devptr) {
	k := e.rows[l.down.format]
	if k == nil || e.rows[l.gateUp.format] == nil {
		e.downOne(q, l, h, choice, planes)
		return
	}
	s := e.shape
	r, _ := s.downLaunch(l.down.format)
	p := downRowParams{
		w: l.down.arg(), h: h, choice: choice, planes: planes, plan: r.plan,
		experts: int32(s.Experts), topK: int32(s.TopK), halfReciprocal: reciprocal16((s.TopK + 1) / 2),
	}
	p.vectorFactor, p.sumFactor = rowFactors(l.down.format, s.mostSwiglu())
	launch(q, k.down, dim{r.blocks, 1, 1}, dim{expertRowThreads, 1, 1}, r.shared, &p)
}
