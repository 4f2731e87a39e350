package cuda

import (
	"errors"
	"fmt"
	"unsafe"

	"hearth/internal/device"
)

// expertOps runs the mixture of experts: routing, gate/up with SwiGLU, down and the weighted sum. Weights stay in their
// own 4 bits and are decoded in registers, to exactly the values of dtype.Plane.DecodeRows where these are BF16 numbers
// (MXFP4, BF16, and NF4 or FP4 that are rounded to BF16), else to those rounded to BF16. Activations enter the products in
// BF16 and sums are kept in float32.
//
// One token goes through the row kernels (experts_row.go). There a weight in NF4 or FP4 is the code's value, rounded to 11
// bits, times the float32 scale, which is not rounded to BF16's 8 bits. For several, rows are sorted by expert (route.go) and go through
// kernels for up to 8, up to 32, or 128 rows of one expert at a time.
type expertOps struct {
	c      *context
	shape  *shape
	route  routeKernels
	pack   map[string]*kernel
	groups [expertFormats]*groupKernels // nil: no weight of this format yet
	large  [expertFormats]*largeKernels
	rows   [expertFormats]*expertRowKernels
	one    oneToken
	worst  buffer // uint32: the largest exponent of each MXFP4 projection, for verify
	slots  int    // of worst, in use
	bufs   []buffer
	// noLarge says that some weight has no kernel for many rows: experts are then cut into items of up to 32 rows.
	noLarge bool
	piece   int // bytes of a checkpoint that are staged at once
}

// expertFormat is how expert weights lie in the GPU's memory; kernels/experts.cuh has the details.
type expertFormat int32

const (
	expertMXFP4   expertFormat = iota
	expertAbsmax               // NF4 and FP4, float32 scales
	expertNested               // NF4 and FP4, double-quantised scales
	expertColumns              // NF4 and FP4 whose blocks run along the outputs, float32 scales
	expertBF16
	expertFormats
)

// suffix names the modules of a format: experts_group_mxfp4.
func (f expertFormat) suffix() string {
	return [...]string{"mxfp4", "absmax", "nested", "columns", "bf16"}[f]
}

const (
	tileRows  = 16 // of a tile of weights
	chunkCols = 64 // inputs of a chunk
)

// scaleCodeBytes are those of a chunk's double-quantised scales, which lie behind all tiles.
const scaleCodeBytes = 16

// chunkBytes is the size of 16 rows by 64 inputs.
func (f expertFormat) chunkBytes() int {
	return [...]int{512 + 32, 512 + 64, 512 + scaleCodeBytes, 512, 2048}[f]
}

// chunkStride leads from one chunk to the next.
func (f expertFormat) chunkStride() int {
	if f == expertNested {
		return 512
	}
	return f.chunkBytes()
}

// groupChunks and groupStages are those of kernels/experts_group.cuh.
func (f expertFormat) groupChunks() int {
	if f == expertBF16 {
		return 1
	}
	return 3
}

func (f expertFormat) groupStages() int {
	if f == expertBF16 {
		return 4
	}
	return 3
}

// groupShared is the shared memory of a block for `width` rows of activations, with `tiles` tiles a warp.
func (f expertFormat) groupShared(width, tiles int) int {
	n := f.groupChunks() * (width*128 + groupWarps*tiles*f.chunkBytes())
	if f == expertColumns {
		n += tiles * f.groupChunks() * 256
	}
	return f.groupStages() * int(roundUp(int64(n), 128))
}

// expertWeight is one projection of all experts of a layer.
type expertWeight struct {
	format              expertFormat
	experts, rows, cols int
	data                devptr // tiles
	side                devptr // tables: what codes stand for, where an expert's scales begin
	scales              devptr // of scales, or of inputs
	bias                devptr // float32 [experts, rows]
	shift, split        int
	bytes               int64 // of all of it
	slot                int   // of expertOps.worst
}

// expertsArg mirrors Experts of kernels/experts.cuh.
type expertsArg struct {
	tiles, bias, side, scales, scaleCodes devptr
	rows, cols, shift, split              int32
}

func (w *expertWeight) arg() expertsArg {
	return expertsArg{
		tiles: w.data, bias: w.bias, side: w.side, scales: w.scales, scaleCodes: w.scaleCodes(0, 0),
		rows: int32(w.rows), cols: int32(w.cols), shift: int32(w.shift), split: int32(w.split),
	}
}

const (
	groupWarps  = 4
	narrowRows  = 8  // of an item for the narrow kernels
	wideRows    = 32 // and for the wide
	narrowTiles = groupWarps
	wideTiles   = 2 * groupWarps // of a block
)

// groupKernels are those of one format for items of few rows.
type groupKernels struct{ gateUpNarrow, gateUpWide, downNarrow, downWide *kernel }

// groupParams mirrors that of kernels/experts_group.cuh.
type groupParams struct {
	w                          expertsArg
	x, token, out, item, count devptr
	alpha, limit, factor       float32
	padding                    int32
}

// largeKernels are those of one format for items of many rows.
type largeKernels struct{ gateUp, down *kernel }

// largeParams mirrors that of kernels/experts_prefill.cuh.
type largeParams struct {
	w                          expertsArg
	x, token, out, item, count devptr
	alpha, limit               float32
}

const (
	largeWarps  = 4
	largeTiles  = 2 * largeWarps // of a block
	largeShared = 2*largeRows*128 + largeRows*4
)

func newExperts(c *context, s *shape) (*expertOps, error) {
	e := &expertOps{c: c, shape: s, pack: map[string]*kernel{}, piece: pieceBytes}
	if err := e.prepareRoute(); err != nil {
		return nil, err
	}
	var err error
	if e.worst, err = e.keep(roundUp(4*2*int64(max(s.Layers, 1)), alignment), useWorkspace); err != nil {
		e.close()
		return nil, err
	}
	c.queue.zero(e.worst.ptr, e.worst.size)
	if err = e.prepareOne(); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// keep allocates memory that lives as long as the operations.
func (e *expertOps) keep(size int64, what use) (buffer, error) {
	b, err := e.c.alloc(size, what)
	if err == nil {
		e.bufs = append(e.bufs, b)
	}
	return b, err
}

// close frees the weights.
func (e *expertOps) close() {
	for _, b := range e.bufs {
		e.c.free(b)
	}
	e.bufs = nil
}

// prepare makes the kernels of a format ready.
func (e *expertOps) prepare(f expertFormat) error {
	if e.groups[f] != nil {
		return nil
	}
	g, l := &groupKernels{}, &largeKernels{}
	narrow, wide := f.groupShared(narrowRows, 1), f.groupShared(wideRows, 2)
	kernels := []struct {
		to           **kernel
		module, name string
		shared       int
		params       uintptr
	}{
		{&g.gateUpNarrow, "group", "gateUpNarrow", narrow, unsafe.Sizeof(groupParams{})},
		{&g.gateUpWide, "group", "gateUpWide", wide, unsafe.Sizeof(groupParams{})},
		{&g.downNarrow, "group", "downNarrow", narrow, unsafe.Sizeof(groupParams{})},
		{&g.downWide, "group", "downWide", wide, unsafe.Sizeof(groupParams{})},
		{&l.gateUp, "prefill", "gateUpPrefill", largeShared, unsafe.Sizeof(largeParams{})},
		{&l.down, "prefill", "downPrefill", largeShared, unsafe.Sizeof(largeParams{})},
	}
	if f == expertColumns {
		e.noLarge = true
		kernels = kernels[:4]
	} else {
		e.large[f] = l
	}
	for _, x := range kernels {
		var err error
		*x.to, err = e.c.kernel(kernelSpec{module: "experts_" + x.module + "_" + f.suffix(), name: x.name, shared: x.shared, params: x.params})
		if err != nil {
			return err
		}
	}
	e.groups[f] = g
	return e.prepareRows(f)
}

// gateUp: h = swiglu(W1 t + b1) for each sorted row, from t, BF16 [T, Hidden].
func (e *expertOps) gateUp(q *queue, l *layerWeights, t devptr, T int, w *expertWorkspace) {
	x := &l.gateUp
	if !e.loaded(q, x) {
		return
	}
	g := e.groups[x.format]
	k := expertKernels{narrow: g.gateUpNarrow, wide: g.gateUpWide}
	if n := e.large[x.format]; n != nil {
		k.large = n.gateUp
	}
	e.run(q, x, k, T, w, &largeParams{w: x.arg(), x: t, token: w.token, out: w.h, alpha: e.shape.SwigluAlpha, limit: e.shape.SwigluLimit})
}

// down: y = W2 h + b2 for each sorted row; then x = x + the weighted sum of each token's rows, in the order of its choice.
func (e *expertOps) down(q *queue, l *layerWeights, x devptr, T int, w *expertWorkspace) {
	d := &l.down
	if !e.loaded(q, d) {
		return
	}
	g := e.groups[d.format]
	k := expertKernels{narrow: g.downNarrow, wide: g.downWide}
	if n := e.large[d.format]; n != nil {
		k.large = n.down
	}
	e.run(q, d, k, T, w, &largeParams{w: d.arg(), x: w.h, out: w.y})
	e.combine(q, x, T, w)
}

func (e *expertOps) loaded(q *queue, x *expertWeight) bool {
	if e.groups[x.format] == nil || x.data == 0 {
		q.fail(errors.New("experts are used before they are loaded"))
		return false
	}
	return true
}

// expertKernels are those of one projection, by the number of rows of an item.
type expertKernels struct{ narrow, wide, large *kernel }

// run takes a projection through the lists of work.
func (e *expertOps) run(q *queue, x *expertWeight, k expertKernels, T int, w *expertWorkspace, p *largeParams) {
	most, tiles := e.mode(T).most, x.rows/tileRows
	g := groupParams{w: p.w, x: p.x, token: p.token, out: p.out, alpha: p.alpha, limit: p.limit, factor: 1}
	if most.large > 0 {
		p.item, p.count = w.large, w.counts+8
		launch(q, k.large, dim{ceilDiv(tiles, largeTiles) * most.large, 1, 1}, dim{largeWarps * 32, 1, 1}, largeShared, p)
	}
	if most.wide > 0 {
		g.item, g.count = w.wide, w.counts+4
		launch(q, k.wide, dim{ceilDiv(tiles, wideTiles), most.wide, 1}, dim{groupWarps * 32, 1, 1}, x.format.groupShared(wideRows, 2), &g)
	}
	if most.narrow > 0 {
		g.item, g.count = w.narrow, w.counts
		launch(q, k.narrow, dim{ceilDiv(tiles, narrowTiles), most.narrow, 1}, dim{groupWarps * 32, 1, 1}, x.format.groupShared(narrowRows, 1), &g)
	}
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// checkExpertSize tells why the kernels do not take a matrix.
func checkExpertSize(rows, cols int) error {
	if rows%64 != 0 || cols%chunkCols != 0 {
		return fmt.Errorf("expert weights [%d, %d], want multiples of 64: %w", rows, cols, device.ErrNotSupported)
	}
	return nil
}
