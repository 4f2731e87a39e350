//go:build !noasm

package cpu

import (
	"unsafe"

	"hearth/internal/dtype"
)

// batchLoops multiply a few rows of activations, up to most, by rows of weights as they are stored.
type batchLoops struct {
	most    int
	kernels [3]batchKernel // four, six and, perhaps, eight rows at a time
}

// batchSizes are the kernels' numbers of rows.
var batchSizes = [3]int{4, 6, 8}

// batchKernel multiplies one chain of so many rows of activations by pairs of rows of weights: _asm/avx512_batch.go.
type batchKernel func(y *[8 * tileRows]float32, sums, x *float32, at *[8]int, data *byte, stride int, scales *byte, scaleStride, pairs, steps, part int, ahead *byte, line int, table *[16]float32)

// What a batchKernel does besides multiplying.
const (
	oddWeights = 1 << iota // takes the odd weights of a half
	addSums                // adds to the sums of earlier chains
	lastChain              // reduces them
)

// batchScratch is a worker's memory for them.
type batchScratch struct {
	y  [8 * tileRows]float32
	at [8]int // where rows of activations begin, in bytes
}

// batch gives the loops for p; nil where the level has none.
func (l *loops) batch(p *dtype.Plane) *batchLoops {
	all, i := l.batches, int(p.Format)
	if p.Format == dtype.NF4 || p.Format == dtype.FP4 {
		all, i = l.codeBatches, int(p.Quant.Round)
	}
	if i >= len(all) || all[i].most == 0 {
		return nil
	}
	return &all[i]
}

// groups is into how many groups n rows are cut: as few as can be.
func (b *batchLoops) groups(n int) int {
	most := batchSizes[len(b.kernels)-1]
	if b.kernels[len(b.kernels)-1] == nil {
		most = batchSizes[len(b.kernels)-2]
	}
	return (n + most - 1) / most
}

// size picks the kernel for the first of n rows' groups, which are of about the same size.
func (b *batchLoops) size(n int) int {
	groups, k := b.groups(n), 0
	for batchSizes[k]*groups < n {
		k++
	}
	return k
}

// multiply fills w.y[i*tileRows+j] for r rows of the stream, an even number. Activations stay in the first-level cache, a
// chain of a group of rows at a time; weights come through once for each, and meanwhile those ahead are asked for.
func (b *batchLoops) multiply(w *worker, s *stream, x []float32, rows []int32, n, width, r int, ahead []byte) {
	t, groups := &w.batch, b.groups(n)
	bytes, scaleBytes, half, scaleHalf := s.layout()
	ask := newAsker(ahead, chains*groups, r/2*s.steps)
	for i := 0; i < n; {
		k := b.size(n - i)
		m := min(batchSizes[k], n-i)
		for q := range batchSizes[k] { // the last row again for those that are missing
			row := i + min(q, m-1)
			if rows != nil {
				row = int(rows[row])
			}
			t.at[q] = 4 * row * width
			_ = x[(row+1)*width-1]
		}
		for c := range chains {
			data := (*byte)(unsafe.Add(unsafe.Pointer(s.data), c/2*half))
			scales := (*byte)(unsafe.Add(unsafe.Pointer(s.scales), c/2*scaleHalf))
			next, line := ask.next()
			b.kernels[k](&t.y, &w.sums[0], &x[c*width/chains], &t.at, data, s.steps*bytes, scales, s.steps*scaleBytes, r/2, s.steps, partOf(c), next, line, s.table)
		}
		for q := range m {
			copy(w.y[(i+q)*tileRows:][:r], t.y[q*tileRows:])
		}
		i += m
	}
}

// partOf is what a kernel does for chain c.
func partOf(c int) int {
	part := c % 2 * oddWeights
	if c > 0 {
		part |= addSums
	}
	if c == chains-1 {
		part |= lastChain
	}
	return part
}

// layout gives the bytes of a step, data and scales, and those of its first half.
func (s *stream) layout() (bytes, scales, half, scaleHalf int) {
	if s.codes != nil {
		return stepCols / 2, 4, stepCols / 4, 0
	}
	return s.rowKernel.bytes, s.rowKernel.scales, s.rowKernel.bytes / 2, s.rowKernel.scales / 2
}

// asker spreads asking for memory over passes of so many steps.
type asker struct {
	left       []byte
	each, line int // bytes of a pass and of a step
}

func newAsker(ahead []byte, passes, steps int) asker {
	each := (len(ahead) + passes - 1) / passes
	return asker{ahead, each, (each + steps - 1) / steps}
}

// next gives what a pass asks for first, and the distance to what it asks for next.
func (a *asker) next() (first *byte, line int) {
	if len(a.left) == 0 {
		return &noMemory[0], 0
	}
	first, a.left = &a.left[0], a.left[min(a.each, len(a.left)):]
	return first, a.line
}
