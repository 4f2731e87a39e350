package cpu

import "hearth/internal/dtype"

// kernels are the hot loops, once for every level of processor. Within a level a result may not depend on the batch:
// dot and mul sum in one order, and so for any number of rows.
type kernels struct {
	// order is the sequence in which the products of a row are taken: activations are given in it.
	order order

	// direct fills w.y[i*tileRows+j] with x[rows[i]] · row first+j of p, r <= tileRows rows read as they are stored. It
	// returns false where it has no loop for p, or for so many rows of x that decoding once is better: rows are then
	// decoded and multiplied by mul.
	direct func(w *worker, x []float32, rows []int32, n int, p *dtype.Plane, first, r int) bool

	// decode is p.DecodeRows, bit for bit, its rows in the level's order.
	decode func(w *worker, dst []float32, p *dtype.Plane, first, n int)

	// fours says up to how many rows of x decode and mul get only four rows of weights at a time: these are then still in
	// the nearest caches when they are multiplied. For more, x is too long to be read again that often.
	fours int

	// mul multiplies batch rows by the r decoded rows in w.tile: w.y[i*tileRows+j] = x[rows[i]] · tile[j]. x is
	// [*, width] row-major; rows nil stands for 0..n-1. ahead is what will be decoded next.
	mul func(w *worker, x []float32, rows []int32, n, width, r int, ahead []byte)

	// int8 fills w.y[i*tileRows+j] with x[rows[i]] · row first+j of p, whose weights are integers (hasIntegers), for r rows
	// of weights.
	int8 func(w *worker, x []int8Step, rows []int32, n int, p *dtype.Plane, first, r int)

	// pairs fills w.y[i*tileRows+j] with row i of x · row first+j of p, whose values are BF16 (hasPairs), for r rows of weights
	// and n rows of BF16 activations (bf16.go); nil where the level has no such loop.
	pairs func(w *worker, x []uint32, n int, p *dtype.Plane, first, r int)

	// scores fills dst[h*stride+i] with q[h] · key first+i of a run, for rows of d values. The run, k, has room for size keys:
	// [d, size].
	scores func(dst []float32, stride int, q []float32, heads int, k []float32, size, first, keys, d int)

	// softmax turns scores, once multiplied by scale, into weights; the sink takes its share and is dropped.
	softmax func(scores []float32, scale, sink float32)

	// mix adds weights[h*stride+i] times row i of v to row h of a, for rows of d values and at least one key.
	mix func(a, v, weights []float32, stride, heads, keys, d int)

	// swiglu: h[i] = swiglu(y[2i]+bias[2i], y[2i+1]+bias[2i+1]).
	swiglu func(h, y, bias []float32, alpha, limit float32)

	// logSumExp of logits, or an error where one is not finite. scratch is as long as logits.
	logSumExp func(scratch, logits []float32) (float64, error)
}

func portable() kernels {
	return kernels{
		direct: func(*worker, []float32, []int32, int, *dtype.Plane, int, int) bool { return false },
		decode: func(_ *worker, dst []float32, p *dtype.Plane, first, n int) { p.DecodeRows(dst, first, n) },
		mul:    (*worker).mulTile,
		int8:   portableInt8,
		scores: portableScores,
		softmax: func(scores []float32, scale, sink float32) {
			for i := range scores {
				scores[i] *= scale
			}
			softmaxSink(scores, sink)
		},
		mix: portableMix,
		swiglu: func(h, y, bias []float32, alpha, limit float32) {
			for i := range h {
				h[i] = swiglu(y[2*i]+bias[2*i], y[2*i+1]+bias[2*i+1], alpha, limit)
			}
		},
		logSumExp: func(_, logits []float32) (float64, error) { return logSumExp(logits) },
	}
}

// product fills w.y[i*tileRows+j] with x[rows[i]] · row first+j of p for r rows of weights; x is in the level's order, and
// rows nil stands for 0..n-1.
func (w *worker) product(p *dtype.Plane, first, r int, x []float32, rows []int32, n int) {
	if w.k.direct(w, x, rows, n, p, first, r) {
		return
	}
	width, most := w.k.order.width(p.Cols), tileRows
	if n <= w.k.fours && !p.Transposed {
		most = 4
	}
	defer func(y []float32) { w.y = y }(w.y) // also where memory faults
	for end := first + r; first < end; first += r {
		r = min(most, end-first)
		w.k.decode(w, w.tile[:r*width], p, first, r)
		w.k.mul(w, x, rows, n, width, r, following(p, first+r, r))
		w.y = w.y[r:]
	}
}

// following is the data of up to r rows from first on, empty where there are none.
func following(p *dtype.Plane, first, r int) []byte {
	if p.Transposed || first >= p.Rows {
		return nil
	}
	perRow := len(p.Data) / p.Rows
	return p.Data[first*perRow : min(first+r, p.Rows)*perRow]
}

// productStack is product for one expert of a stack; first and r are even. Where gate and up rows are stored apart, their
// products are interleaved.
func (w *worker) productStack(s *dtype.Stack, e, first, r int, x activations, rows []int32, n int) {
	if s.Odd == nil {
		w.multiply(&s.Even[e], first, r, x, rows, n)
		return
	}
	half := r / 2
	w.multiply(&s.Odd[e], first/2, half, x, rows, n)
	copy(w.odd, w.y[:n*tileRows])
	w.multiply(&s.Even[e], first/2, half, x, rows, n)
	for i := range n {
		y, odd := (*[tileRows]float32)(w.y[i*tileRows:]), (*[tileRows]float32)(w.odd[i*tileRows:])
		for j := half - 1; j >= 0; j-- {
			y[2*j], y[2*j+1] = y[j], odd[j]
		}
	}
}

// runKeys is how many keys vector kernels take at once. Pages are whole runs of as many, but in tests.
const runKeys = 16

func portableScores(dst []float32, stride int, q []float32, heads int, k []float32, size, first, keys, d int) {
	for h := range heads {
		y := dst[h*stride:][:keys]
		clear(y)
		for j, x := range q[h*d : (h+1)*d] {
			row := k[j*size+first:][:len(y)]
			for i := range y {
				y[i] += x * row[i]
			}
		}
	}
}

func portableMix(a, v, weights []float32, stride, heads, keys, d int) {
	for h := range heads {
		addWeighted(a[h*d:(h+1)*d], v, weights[h*stride:][:keys])
	}
}
