package cuda

import (
	"fmt"
	"unsafe"

	"hearth/internal/device"
)

// denseOps multiplies by the dense weights: attention projections and head. One token goes through the row
// kernels (dense_row.go), which keep activations in float32; several go through the tensor cores (dense_gemm.go), with
// activations in BF16. Weights enter every product exactly as they are stored, whatever their format.
type denseOps struct {
	c     *context
	shape *shape

	normRows *kernel
	packQ8   *kernel
	rows     map[rowKey]rowKernels
	tiles    [denseFormats][]*kernel // as gemmTiles orders them; nil: no weight of this format yet
	buffers  []buffer
	piece    int // bytes of Q8_0 that are staged at once
}

const (
	denseFormats = 3
	// maxDenseCols bounds the input of a projection: the row kernels keep it in shared memory, 4 bytes a value.
	maxDenseCols = 16384
)

// kernelSuffix names the modules of a format: dense_row_bf16, dense_gemm_bf16.
func (f denseFormat) kernelSuffix() string { return [...]string{"bf16", "f16", "q8"}[f] }

// codeBytes and scaleBytes are the sizes of n weights.
func (f denseFormat) codeBytes(n int) int64 {
	if f == denseQ8 {
		return int64(n)
	}
	return 2 * int64(n)
}

func (f denseFormat) scaleBytes(n int) int64 {
	if f == denseQ8 {
		return int64(n) / 16
	}
	return 0
}

// normParams mirrors that of kernels/norm.cu.
type normParams struct {
	x, weight, rows, t devptr
	cols               int32
	perCol, eps        float32
	padding            int32
}

func newDense(c *context, s *shape) (*denseOps, error) {
	for _, cols := range []int{s.Hidden, s.Heads * headDim} {
		if err := checkDenseCols(cols); err != nil {
			return nil, err
		}
	}
	d := &denseOps{c: c, shape: s, rows: map[rowKey]rowKernels{}, piece: pieceBytes}
	for _, k := range []struct {
		to           **kernel
		module, name string
		params       uintptr
	}{
		{&d.normRows, "norm", "norm", unsafe.Sizeof(normParams{})},
		{&d.packQ8, "dense_pack", "packQ8", unsafe.Sizeof(packQ8Params{})},
	} {
		var err error
		if *k.to, err = c.kernel(kernelSpec{module: k.module, name: k.name, params: k.params}); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// close frees the weights.
func (d *denseOps) close() {
	for _, b := range d.buffers {
		d.c.free(b)
	}
	d.buffers = nil
}

func checkDenseCols(cols int) error {
	if cols < 64 || cols%64 != 0 || cols > maxDenseCols {
		return fmt.Errorf("dense weights with %d inputs, want a multiple of 64 up to %d: %w", cols, maxDenseCols, device.ErrNotSupported)
	}
	return nil
}

// prepare makes the kernels ready for weights of a format and width.
func (d *denseOps) prepare(f denseFormat, cols int) error {
	if err := checkDenseCols(cols); err != nil {
		return err
	}
	if err := d.prepareRows(f, cols); err != nil {
		return err
	}
	return d.prepareGemm(f)
}

// reserve allocates a weight and makes its kernels ready. Its contents are undefined.
func (d *denseOps) reserve(f denseFormat, rows, cols int, bias bool) (denseWeight, error) {
	w := denseWeight{format: f, rows: rows, cols: cols}
	if err := d.prepare(f, cols); err != nil {
		return w, err
	}
	parts := []struct {
		to   *devptr
		size int64
	}{{&w.data, f.codeBytes(rows * cols)}, {&w.scales, f.scaleBytes(rows * cols)}, {&w.bias, 0}}
	if bias {
		parts[2].size = 4 * int64(rows)
	}
	for _, p := range parts {
		if p.size == 0 {
			continue
		}
		b, err := d.c.alloc(p.size, useWeights)
		if err != nil {
			return w, err
		}
		d.buffers = append(d.buffers, b)
		*p.to = b.ptr
	}
	return w, nil
}

// norm: t = x / sqrt(mean(x²) + eps) * weight for T rows, float32 to BF16.
func (d *denseOps) norm(q *queue, weight, x, t devptr, T int) { d.gatherNorm(q, weight, x, 0, t, T) }

// gatherNorm does it for n rows of x, those that rows (int32) lists; 0: the first n.
func (d *denseOps) gatherNorm(q *queue, weight, x, rows, t devptr, n int) {
	p := normParams{x: x, weight: weight, rows: rows, t: t, cols: int32(d.shape.Hidden), perCol: 1 / float32(d.shape.Hidden), eps: d.shape.Eps}
	// A thread holds up to 16 values.
	launch(q, d.normRows, dim{n, 1, 1}, dim{(d.shape.Hidden/16 + 31) &^ 31, 1, 1}, 0, &p)
}
