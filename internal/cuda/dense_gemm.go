package cuda

import (
	"math"
	"unsafe"
)

// The tiled kernels: several tokens, on tensor cores.

// gemmParams mirrors GemmParams of kernels/dense_gemm.cuh.
type gemmParams struct {
	a, data, scales, out      devptr
	tokens, rows, cols, steps int32
}

// gemmTile is a variant of the kernel: tokens and weight rows of a block, columns of a stage, stages.
type gemmTile struct {
	name          string
	m, n          int
	stageK, depth int
	threads       int
}

// gemmTiles are the variants of each format, small to large, as kernels/dense_gemm_*.cu define them.
var gemmTiles = [denseFormats][]gemmTile{
	denseBF16: {
		{"gemm16", 16, 32, 64, 6, 64}, {"gemm32", 32, 32, 64, 6, 64}, {"gemm64", 64, 64, 64, 3, 128},
		{"gemm128", 128, 48, 32, 4, 128}, {"gemmLarge", 128, 128, 32, 3, 128},
	},
	denseF16: {
		{"gemm16", 16, 32, 64, 6, 64}, {"gemm32", 32, 32, 64, 6, 64}, {"gemm64", 64, 64, 64, 3, 128},
		{"gemm128", 128, 48, 32, 4, 128}, {"gemmLarge", 128, 128, 32, 3, 128},
	},
	denseQ8: {
		{"gemm16", 16, 32, 64, 6, 64}, {"gemm32", 32, 32, 64, 6, 64}, {"gemm64", 64, 64, 64, 3, 128},
		{"gemm128", 128, 64, 64, 3, 256}, {"gemmLarge", 128, 128, 64, 3, 256},
	},
}

// stageBytes is what a stage takes of shared memory: tokens, weights, two scales for 64 columns.
func (t *gemmTile) stageBytes(f denseFormat) int {
	b := t.m*t.stageK*2 + int(f.codeBytes(t.n*t.stageK))
	if f == denseQ8 {
		b += t.n * 4
	}
	return b
}

func (t *gemmTile) shared(f denseFormat) int { return t.depth * t.stageBytes(f) }

func (d *denseOps) prepareGemm(f denseFormat) error {
	if d.tiles[f] != nil {
		return nil
	}
	var ks []*kernel
	for _, t := range gemmTiles[f] {
		k, err := d.c.kernel(kernelSpec{module: "dense_gemm_" + f.kernelSuffix(), name: t.name, shared: t.shared(f), params: unsafe.Sizeof(gemmParams{})})
		if err != nil {
			return err
		}
		ks = append(ks, k)
	}
	d.tiles[f] = ks
	return nil
}

// gemmPlan says how a product is cut: the variant, and the splits of steps stages of 64 columns each.
type gemmPlan struct{ tile, split, steps int }

const maxSplit = 4

// splitLimit bounds the splits of a product of T tokens, so that the planes stay small: planeFloats relies on it.
func splitLimit(T int) int { return min(maxSplit, max(1, 1024/T)) }

// planeFloats is the room, in float32s, that products of up to T tokens need in planes.
func (d *denseOps) planeFloats(T int) int64 {
	return int64(max(T, min(maxSplit*T, 1024))) * int64(max(d.shape.qkvRows, d.shape.Hidden))
}

// gemmCard is what a plan depends on. The rates are those of one multiprocessor, in a clock.
type gemmCard struct {
	sms, shared int
	macs        float64 // BF16 multiply-adds with float32 sums
	read, fetch float64 // bytes from the L2 cache and from memory
}

func newGemmCard(i *deviceInfo) gemmCard {
	if i.major == 8 && i.minor != 0 { // GeForce RTX 30 and 40 and their kin
		return gemmCard{i.sms, i.sharedMax, 512, 20, 6}
	}
	return gemmCard{i.sms, i.sharedMax, 1024, 40, 12}
}

// gemmLatency is how many clocks a byte takes from memory, about; a block needs it once to start and once to end.
const gemmLatency = 800

// plan picks the variant and the splits that should take the least time, among the smallest variants that hold T tokens, so
// that weights are read once; where rows are ample, also the next, which reads the activations less often.
func (g *gemmCard) plan(f denseFormat, T, rows, cols, limit int) gemmPlan {
	best, least := gemmPlan{}, math.Inf(1)
	for i, t := range gemmTiles[f] {
		ample := T > 16 && t.m <= 64 && rows >= 4*t.n*g.sms
		if t.m < min(T, 128) || t.m >= 2*max(T, 16) && !ample && t.m > 16 {
			continue
		}
		for s := 1; s <= min(limit, cols/64); s++ {
			steps := (cols/64 + s - 1) / s
			if (cols/64+steps-1)/steps != s {
				continue // the last split would be empty
			}
			if c := g.clocks(&t, f, T, rows, cols, s, steps); c < least {
				best, least = gemmPlan{i, s, steps}, c
			}
		}
	}
	return best
}

// clocks is a rough model: a multiprocessor works off its blocks at the slower of multiplying, which wants 8 warps, and
// reading, bounded by what its stages keep in flight; meanwhile the weights come from memory; planes are written and read
// again.
func (g *gemmCard) clocks(t *gemmTile, f denseFormat, T, rows, cols, split, steps int) float64 {
	blocks := ((T + t.m - 1) / t.m) * ((rows + t.n - 1) / t.n) * split
	each := (blocks + g.sms - 1) / g.sms                                        // blocks of the busiest multiprocessor
	fit := max(1, min(each, (g.shared+1024)/(t.shared(f)+1024), 512/t.threads)) // of them at a time
	// A step is 64 columns.
	bytes := float64(min(T, t.m)*128) + float64(f.codeBytes(t.n*64)+f.scaleBytes(t.n*64))
	flight := float64(fit*(t.depth-1)) * bytes * float64(t.stageK) / 64
	warps := min(1, 0.4+0.075*float64(fit*t.threads/32))
	step := max(bytes/min(g.read, flight/gemmLatency), float64(t.m*t.n*64)/(g.macs*warps))
	busy := float64(each*steps)*step + float64((each+fit-1)/fit)*2*gemmLatency
	memory := float64(f.codeBytes(rows*cols)) / float64(g.sms) / g.fetch
	planes := float64(split*T*rows*8) / float64(g.sms) / g.read
	return math.Hypot(busy, memory) + planes // neither hides the other whole
}

// gemm: planes = a W^T without the bias, a BF16 [T, cols], planes float32 [split, T, rows]: the sum of the planes is the
// product. The number of splits depends on T and the weight's shape alone.
func (d *denseOps) gemm(q *queue, a devptr, T int, w *denseWeight, planes devptr) (split int) {
	g := newGemmCard(&d.c.info)
	plan := g.plan(w.format, T, w.rows, w.cols, splitLimit(T))
	d.runGemm(q, plan, a, T, w, planes)
	return plan.split
}

func (d *denseOps) runGemm(q *queue, plan gemmPlan, a devptr, T int, w *denseWeight, out devptr) {
	t := gemmTiles[w.format][plan.tile]
	p := gemmParams{
		a: a, data: w.data, scales: w.scales, out: out,
		tokens: int32(T), rows: int32(w.rows), cols: int32(w.cols), steps: int32(plan.steps),
	}
	grid := dim{(T + t.m - 1) / t.m, (w.rows + t.n - 1) / t.n, plan.split}
	launch(q, d.tiles[w.format][plan.tile], grid, dim{t.threads, 1, 1}, t.shared(w.format), &p)
}

// headRows: logits = W norm(x[row]) for the R rows of x that st.logitRows lists, float32 [R, Vocab]. t is room for BF16
// [R, Hidden].
func (d *denseOps) headRows(q *queue, norm devptr, w *denseWeight, x devptr, st *stepBuffers, R int, t, logits devptr) {
	d.gatherNorm(q, norm, x, st.logitRows, t, R)
	g := newGemmCard(&d.c.info)
	d.runGemm(q, g.plan(w.format, R, w.rows, w.cols, 1), t, R, w, logits)
}
