package cuda

import (
	"fmt"
	"unsafe"
)

// The row kernels: one token. They are compiled for a few numbers of 16-byte chunks that a lane holds of a row; wider rows
// go through the rolled kernel of the widest.

// normRowParams and outRowParams mirror those of kernels/dense_row.cuh.
type normRowParams struct {
	data, scales, bias, x, planes, norm, out devptr
	cols, nplanes, share, extra              int32
	perCol, eps                              float32
}

type outRowParams struct {
	data, scales, bias, in, x, planes, norm, router, xOut, acc      devptr
	rows, cols, nplanes, experts, share, extra, expertBits, padding int32
}

type rowKey struct {
	format denseFormat
	cols   int
}

// rowKernels are what one width of a format needs.
type rowKernels struct {
	norm, out *kernel
	vector    int // bytes of shared memory for the vector
}

const (
	rowThreads   = 256
	rowScratch   = 128                  // shared memory of normRow beside the vector
	outScratch   = 2048 + 128           // and of outRow, beside the slab of router weights
	routerSlab   = 32 << 10             // most of the latter
	rowsPerBlock = 32 * rowThreads / 32 // where lanes hold what their warp's rows need: 32 a warp
)

// chunkElems is the number of weights in 16 bytes.
func (f denseFormat) chunkElems() int { return int(16 / f.codeBytes(1)) }

// rowVariants lists the chunks a lane that the kernels of a format exist for; the last also serves wider rows.
func (f denseFormat) rowVariants() []int {
	if f == denseQ8 {
		return []int{1, 2, 3, 4, 6, 8}
	}
	return []int{1, 2, 3, 4, 6, 8, 12, 16}
}

// rowVariant picks the kernel for a width: its module, its name's ending, and the bytes of shared memory that its vector
// takes, padding included. The two widest are those of GPT-OSS, and have a module to themselves: the driver compiles a
// module whole.
func (f denseFormat) rowVariant(cols int) (module, name string, vector int) {
	perLane := (cols/f.chunkElems() + 31) / 32
	bytes := 32 * f.chunkElems() * 4 // of one chunk a lane
	module = "dense_row_" + f.kernelSuffix()
	variants := f.rowVariants()
	for i, v := range variants {
		if perLane <= v {
			if i < len(variants)-2 {
				module += "_more"
			}
			return module, fmt.Sprint(v), v * bytes
		}
	}
	widest := variants[len(variants)-1]
	return module + "_more", "Wide", (perLane + widest - 1) / widest * widest * bytes
}

func (d *denseOps) prepareRows(f denseFormat, cols int) error {
	key := rowKey{f, cols}
	if _, ok := d.rows[key]; ok {
		return nil
	}
	module, name, vector := f.rowVariant(cols)
	k := rowKernels{vector: vector}
	var err error
	if k.norm, err = d.c.kernel(kernelSpec{module: module, name: "normRow" + name, shared: rowScratch + vector, params: unsafe.Sizeof(normRowParams{})}); err != nil {
		return err
	}
	if k.out, err = d.c.kernel(kernelSpec{module: module, name: "outRow" + name, shared: vector + outScratch + routerSlab, params: unsafe.Sizeof(outRowParams{})}); err != nil {
		return err
	}
	d.rows[key] = k
	return nil
}

// spread divides rows over one block a multiprocessor, or more where a block may take no more than most rows.
func (d *denseOps) spread(rows, most int) (blocks, share, extra int) {
	blocks = min(rows, max(d.shape.sms, (rows+most-1)/most))
	return blocks, rows / blocks, rows % blocks
}

// qkvRow: qkv = W norm(x + planes) + b, float32 [qkvRows]. nplanes is 0, or 2: planes is then float32 [2, Hidden].
func (d *denseOps) qkvRow(q *queue, l *layerWeights, x, planes devptr, nplanes int, qkv devptr) {
	d.normRow(q, l.attnNorm, &l.qkv, x, planes, nplanes, qkv)
}

// headRow: logits = W norm(x + planes), float32 [Vocab].
func (d *denseOps) headRow(q *queue, norm devptr, w *denseWeight, x, planes devptr, nplanes int, logits devptr) {
	d.normRow(q, norm, w, x, planes, nplanes, logits)
}

func (d *denseOps) normRow(q *queue, norm devptr, w *denseWeight, x, planes devptr, nplanes int, out devptr) {
	k := d.rows[rowKey{w.format, w.cols}]
	most := w.rows
	if w.bias != 0 {
		most = rowsPerBlock
	}
	blocks, share, extra := d.spread(w.rows, most)
	p := normRowParams{
		data: w.data, scales: w.scales, bias: w.bias, x: x, planes: planes, norm: norm, out: out,
		cols: int32(w.cols), nplanes: int32(nplanes), share: int32(share), extra: int32(extra),
		perCol: 1 / float32(w.cols), eps: d.shape.Eps,
	}
	launch(q, k.norm, dim{blocks, 1, 1}, dim{rowThreads, 1, 1}, rowScratch+k.vector, &p)
}

// outRow: xOut = x + planes + Wo a + bo, float32 [Hidden]. It also adds what gateUpRow chooses experts by to acc
// (int64 [Experts+1], zero before), in fixed point, so that the order of the blocks does not matter: acc[e] takes 2^24
// times the router's logit before the norm's factor and the bias, the sum of xOut * mlpNorm * router weight; the last
// takes 2^16 times the sum of squares of xOut.
func (d *denseOps) outRow(q *queue, l *layerWeights, a, x, planes devptr, nplanes int, xOut, acc devptr) {
	w, experts := &l.o, d.shape.Experts
	k := d.rows[rowKey{w.format, w.cols}]
	blocks, share, extra := d.spread(w.rows, min(rowsPerBlock, routerSlab/(4*experts)))
	expertBits := int32(5)
	for 1<<expertBits < experts {
		expertBits++
	}
	p := outRowParams{
		data: w.data, scales: w.scales, bias: w.bias, in: a, x: x, planes: planes, norm: l.mlpNorm, router: l.router, xOut: xOut, acc: acc,
		rows: int32(w.rows), cols: int32(w.cols), nplanes: int32(nplanes), experts: int32(experts),
		share: int32(share), extra: int32(extra), expertBits: expertBits,
	}
	slab := (share + 1) * experts * 4 // share+1 rows, or share where that is the most
	launch(q, k.out, dim{blocks, 1, 1}, dim{rowThreads, 1, 1}, k.vector+outScratch+min(slab, routerSlab), &p)
}
