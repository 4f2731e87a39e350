package cpu

import (
	"math"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

type embedJob struct{ s *session }

func (j *embedJob) do(_ *worker, t int) {
	s, H := j.s, j.s.spec.Hidden
	s.embedding.DecodeRows(s.x[t*H:(t+1)*H], int(s.batch.Tokens[t]), 1)
}

type normJob struct {
	s *session
	g []float32
}

func (j *normJob) do(_ *worker, t int) {
	s, H, in := j.s, j.s.spec.Hidden, &j.s.hidden
	rmsNorm(s.t[t*in.width:(t+1)*in.width], s.x[t*H:(t+1)*H], j.g, s.spec.Eps, in.at)
}

// rmsNorm: dst = x / sqrt(mean(x²) + eps) * g, value i at place at[i]. The mean is summed in float64: it is one number a
// row, and the product with g comes before any rounding (spec/model.md 3).
func rmsNorm(dst, x, g []float32, eps float32, at []int32) {
	var sum float64
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	r := float32(1 / math.Sqrt(sum/float64(len(x))+float64(eps)))
	if at == nil {
		for i, v := range x {
			dst[i] = v * r * g[i]
		}
		return
	}
	for i, to := range at {
		dst[to] = x[i] * r * g[i]
	}
}

// linearJob multiplies one input by up to three weights, so that q, k and v are one operation. An item is a span of
// tiles of one weight's rows.
type linearJob struct {
	s        *session
	x        activations
	n        int
	segments [3]segment
	count    int
	span     int // tiles of an item
}

type segment struct {
	weight *dtype.Plane
	bias   []float32
	y      []float32 // [n, weight.Rows]
	sum    bool      // y += instead of y =
	items  int
}

func (j *linearJob) begin(x activations, n int) { j.x, j.n, j.count = x, n, 0 }

func (j *linearJob) put(s segment) {
	j.segments[j.count] = s
	j.count++
}

func (j *linearJob) add(l *device.Linear, y []float32) {
	j.put(segment{weight: &l.Weight, bias: l.Bias, y: y})
}

func (j *linearJob) addPlane(p *dtype.Plane, y []float32) { j.put(segment{weight: p, y: y}) }

func (j *linearJob) accumulate(l *device.Linear, y []float32) {
	j.put(segment{weight: &l.Weight, bias: l.Bias, y: y, sum: true})
}

func (j *linearJob) run() {
	n := 0
	for i := range j.count {
		n += tiles(j.segments[i].weight.Rows)
	}
	j.span = j.s.spanOf(n)
	n = 0
	for i := range j.count {
		s := &j.segments[i]
		s.items = spans(tiles(s.weight.Rows), j.span)
		n += s.items
	}
	j.s.pool.run(j, n)
}

func (j *linearJob) do(w *worker, item int) {
	seg := &j.segments[0]
	for i := 1; item >= seg.items; i++ {
		item -= seg.items
		seg = &j.segments[i]
	}
	rows := seg.weight.Rows
	end := min(rows, (item+1)*j.span*tileRows)
	for first := item * j.span * tileRows; first < end; first += tileRows {
		j.tile(w, seg, first, min(tileRows, end-first))
	}
}

func (j *linearJob) tile(w *worker, seg *segment, first, r int) {
	rows := seg.weight.Rows
	w.multiply(seg.weight, first, r, j.x, nil, j.n)
	for i := range j.n {
		dst, y := seg.y[i*rows+first:i*rows+first+r], w.y[i*tileRows:i*tileRows+r]
		if seg.bias != nil {
			for q, b := range seg.bias[first : first+r] {
				y[q] += b
			}
		}
		if seg.sum {
			for q := range dst {
				dst[q] += y[q]
			}
			continue
		}
		copy(dst, y)
	}
}
