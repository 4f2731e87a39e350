package cpu

import "hearth/internal/dtype"

// kernels are the hot loops, once for every level of processor. Within a level a result may not depend on the batch:
// dot and mul sum in one order, and so for any number of rows.
type kernels struct {
	// order is the sequence in which the products of a row are taken: activations are given in it.
	order order

	// dot fills y[j] with x times row first+j of p, len(y) <= tileRows rows read as they are stored. It returns false
	// where it has no loop for p; rows are then decoded and multiplied by mul.
	dot func(w *worker, y, x []float32, p *dtype.Plane, first int) bool

	// decode is p.DecodeRows, bit for bit, its rows in the level's order.
	decode func(w *worker, dst []float32, p *dtype.Plane, first, n int)

	// mul multiplies batch rows by the r decoded rows in w.tile: w.y[i*tileRows+j] = x[rows[i]] · tile[j]. x is
	// [*, width] row-major; rows nil stands for 0..n-1.
	mul func(w *worker, x []float32, rows []int32, n, width, r int)

	// scores fills dst[h*stride+i] with q[h] · k[i] for rows of d values.
	scores func(dst []float32, stride int, q []float32, heads int, k []float32, keys, d int)

	// softmax turns scores, once multiplied by scale, into weights; the sink takes its share and is dropped.
	softmax func(scores []float32, scale, sink float32)

	// mix adds weights[i] times row i of v to a, len(a) values a row.
	mix func(a, v, weights []float32)

	// swiglu: h[i] = swiglu(y[2i]+bias[2i], y[2i+1]+bias[2i+1]).
	swiglu func(h, y, bias []float32, alpha, limit float32)

	// logSumExp of logits, or an error where one is not finite. scratch is as long as logits.
	logSumExp func(scratch, logits []float32) (float64, error)
}

func portable() kernels {
	return kernels{
		dot:    func(*worker, []float32, []float32, *dtype.Plane, int) bool { return false },
		decode: func(_ *worker, dst []float32, p *dtype.Plane, first, n int) { p.DecodeRows(dst, first, n) },
		mul:    (*worker).mulTile,
		scores: portableScores,
		softmax: func(scores []float32, scale, sink float32) {
			for i := range scores {
				scores[i] *= scale
			}
			softmaxSink(scores, sink)
		},
		mix: addWeighted,
		swiglu: func(h, y, bias []float32, alpha, limit float32) {
			for i := range h {
				h[i] = swiglu(y[2*i]+bias[2*i], y[2*i+1]+bias[2*i+1], alpha, limit)
			}
		},
		logSumExp: func(_, logits []float32) (float64, error) { return logSumExp(logits) },
	}
}

// product fills w.y[i*tileRows+j] with x[rows[i]] · row first+j of p for r rows of weights; x is in the level's order. A single
// row of activations takes the weights as they are stored; several share one decoding.
func (w *worker) product(p *dtype.Plane, first, r int, x []float32, rows []int32, n int) {
	width := w.k.order.width(p.Cols)
	if n == 1 && w.k.dot(w, w.y[:r], single(x, rows, width), p, first) {
		return
	}
	w.k.decode(w, w.tile[:r*width], p, first, r)
	w.k.mul(w, x, rows, n, width, r)
}

// single is the one row of a batch of one.
func single(x []float32, rows []int32, width int) []float32 {
	at := 0
	if rows != nil {
		at = int(rows[0]) * width
	}
	return x[at : at+width]
}

// productStack is product for one expert of a stack; first and r are even. Where gate and up rows are stored apart, the
// products of the one follow those of the other and are then interleaved.
func (w *worker) productStack(s *dtype.Stack, e, first, r int, x []float32, rows []int32, n int) {
	even := &s.Even[e]
	if s.Odd == nil {
		w.product(even, first, r, x, rows, n)
		return
	}
	odd, f, half, width := &s.Odd[e], first/2, r/2, w.k.order.width(even.Cols)
	one := n == 1 && w.k.dot(w, w.y[:half], single(x, rows, width), even, f) && w.k.dot(w, w.y[half:r], single(x, rows, width), odd, f)
	if !one {
		w.k.decode(w, w.tile[:half*width], even, f, half)
		w.k.decode(w, w.tile[half*width:r*width], odd, f, half)
		w.k.mul(w, x, rows, n, width, r)
	}
	for i := range n {
		y := (*[tileRows]float32)(w.y[i*tileRows:])
		apart := *y
		for j := range half {
			y[2*j], y[2*j+1] = apart[j], apart[half+j]
		}
	}
}

// portableScores takes four query heads at a time past every key.
func portableScores(dst []float32, stride int, q []float32, heads int, k []float32, keys, d int) {
	for i := range keys {
		ki := k[i*d : (i+1)*d]
		h := 0
		for ; h+4 <= heads; h += 4 {
			y := dst[h*stride+i:]
			y[0], y[stride], y[2*stride], y[3*stride] = dot4(ki, q[h*d:(h+1)*d], q[(h+1)*d:(h+2)*d], q[(h+2)*d:(h+3)*d], q[(h+3)*d:(h+4)*d])
		}
		for ; h < heads; h++ {
			dst[h*stride+i] = dot(ki, q[h*d:(h+1)*d])
		}
	}
}
