package cpu

import (
	"math"

	"hearth/internal/device"
)

// routeJob picks a token's experts: the TopK largest logits, ties by lower index, then the softmax over those alone.
type routeJob struct{ s *session }

func (j *routeJob) do(_ *worker, t int) {
	sp := &j.s.spec
	logits := j.s.route[t*sp.Experts : (t+1)*sp.Experts]
	ids := j.s.chosen[t*sp.TopK : (t+1)*sp.TopK]
	weights := j.s.weight[t*sp.TopK : (t+1)*sp.TopK]
	topK(logits, ids)
	var sum float64
	for i, e := range ids {
		x := math.Exp(float64(logits[e] - logits[ids[0]]))
		weights[i] = float32(x)
		sum += x
	}
	for i := range weights {
		weights[i] = float32(float64(weights[i]) / sum)
	}
}

// topK writes the indices of the len(ids) largest values, descending, equals by ascending index.
func topK(values []float32, ids []int32) {
	n := 0
	for e, v := range values {
		if n == len(ids) && !(v > values[ids[n-1]]) {
			continue
		}
		if n < len(ids) {
			n++
		}
		i := n - 1
		for ; i > 0 && v > values[ids[i-1]]; i-- {
			ids[i] = ids[i-1]
		}
		ids[i] = int32(e)
	}
}

// expertGroups lists, for every expert that some token chose, the rows that go through it.
type expertGroups struct {
	active []int32 // experts with at least one row, ascending
	start  []int32 // [Experts+1]: where each expert's rows begin
	token  []int32 // by expert: the row of the normed input
	slot   []int32 // by expert: the row of h, token*TopK+rank
	fillAt []int32
}

func newExpertGroups(tokens int, sp *device.Spec) expertGroups {
	return expertGroups{
		active: make([]int32, 0, sp.Experts),
		start:  make([]int32, sp.Experts+1),
		token:  make([]int32, tokens*sp.TopK),
		slot:   make([]int32, tokens*sp.TopK),
		fillAt: make([]int32, sp.Experts),
	}
}

// fill sorts the choices [tokens, k] by expert, tokens ascending within each.
func (g *expertGroups) fill(chosen []int32, k int) {
	clear(g.start)
	for _, e := range chosen {
		g.start[e+1]++
	}
	g.active = g.active[:0]
	for e := range g.fillAt {
		if g.start[e+1] > 0 {
			g.active = append(g.active, int32(e))
		}
		g.start[e+1] += g.start[e]
		g.fillAt[e] = g.start[e]
	}
	for i, e := range chosen {
		at := g.fillAt[e]
		g.token[at], g.slot[at] = int32(i/k), int32(i)
		g.fillAt[e]++
	}
}

// rows gives expert e's rows of the normed input and of h.
func (g *expertGroups) rows(e int32) (token, slot []int32) {
	return g.token[g.start[e]:g.start[e+1]], g.slot[g.start[e]:g.start[e+1]]
}

// expertSpans cuts the rows of every active expert into items: one expert after the other, so that a worker reads long runs
// of memory. With several NUMA nodes it is the first span of each expert, then the second: the first half of the items has
// the first half of each expert's rows, whichever experts are active.
type expertSpans struct {
	layer  int
	span   int // tiles of an item
	each   int // items of an expert
	bySpan bool
	active []int32
}

// cut returns how many items the operation has.
func (c *expertSpans) cut(s *session, rows int) int {
	c.active = s.groups.active
	c.span = s.spanOf(len(c.active) * tiles(rows))
	c.each = spans(tiles(rows), c.span)
	c.bySpan = s.pool.nodes > 1
	return len(c.active) * c.each
}

// item gives an item's expert and its rows of all.
func (c *expertSpans) item(i, all int) (expert int32, first, end int) {
	e, span := i/c.each, i%c.each
	if c.bySpan {
		e, span = i%len(c.active), i/len(c.active)
	}
	first = span * c.span * tileRows
	return c.active[e], first, min(all, first+c.span*tileRows)
}

// gateUpJob: h = swiglu(W1 t + b1), a span of rows of one expert for all its tokens.
type gateUpJob struct {
	s *session
	x activations
	expertSpans
}

func (j *gateUpJob) do(w *worker, item int) {
	s := j.s
	sp, l, in := &s.spec, &s.layers[j.layer], &s.inner
	e, first, end := j.item(item, 2*sp.Intermediate)
	tokens, slots := s.groups.rows(e)
	x := j.x.from(s.groups.start[e])
	for ; first < end; first += tileRows {
		r := min(tileRows, end-first)
		w.productStack(&l.GateUp.Weight, int(e), first, r, x, tokens, len(tokens))
		bias := l.GateUp.Bias[int(e)*2*sp.Intermediate+first:][:r]
		for i, slot := range slots {
			h := s.h[int(slot)*in.width:][:in.width]
			if in.at == nil {
				w.k.swiglu(h[first/2:][:r/2], w.y[i*tileRows:], bias, sp.SwigluAlpha, sp.SwigluLimit)
				continue
			}
			w.k.swiglu(w.act[:r/2], w.y[i*tileRows:], bias, sp.SwigluAlpha, sp.SwigluLimit)
			arrange(h, w.act[:], in.at[first/2:][:r/2])
		}
	}
}

// swiglu is GPT-OSS's clamped gate: the gate is clamped above only, the up half on both sides and moved by one
// (spec/model.md 6).
func swiglu(gate, up, alpha, limit float32) float32 {
	gate = min(gate, limit)
	up = max(-limit, min(up, limit))
	return gate * float32(1/(1+math.Exp(-float64(alpha*gate)))) * (up + 1)
}

// downJob: o = W2 h, a span of rows of one expert for all its tokens.
type downJob struct {
	s *session
	x activations
	expertSpans
}

func (j *downJob) do(w *worker, item int) {
	s := j.s
	sp := &s.spec
	e, first, end := j.item(item, sp.Hidden)
	_, slots := s.groups.rows(e)
	x := j.x.from(s.groups.start[e])
	for ; first < end; first += tileRows {
		r := min(tileRows, end-first)
		w.productStack(&s.layers[j.layer].Down.Weight, int(e), first, r, x, slots, len(slots))
		for i, slot := range slots {
			copy(s.o[int(slot)*sp.Hidden+first:][:r], w.y[i*tileRows:])
		}
	}
}

// sumJob: x += weight (o + b) over a token's experts. They are met in ascending order, whatever
// their weights.
type sumJob struct {
	s     *session
	layer int
}

func (j *sumJob) do(_ *worker, t int) {
	s := j.s
	sp := &s.spec
	H := sp.Hidden
	x := s.x[t*H : (t+1)*H]
	chosen := s.chosen[t*sp.TopK : (t+1)*sp.TopK]
	for last := int32(-1); ; {
		rank := -1
		for i, e := range chosen {
			if e > last && (rank < 0 || e < chosen[rank]) {
				rank = i
			}
		}
		if rank < 0 {
			return
		}
		last = chosen[rank]
		slot := t*sp.TopK + rank
		weight, bias := s.weight[slot], s.layers[j.layer].Down.Bias[int(last)*H:][:H]
		for q, y := range s.o[slot*H : (slot+1)*H] {
			x[q] += weight * (y + bias[q])
		}
	}
}
