package cpu

import (
	"slices"

	"hearth/internal/dtype"
)

// pairActivations makes room for activations as so many BF16 each.
func (s *session) pairActivations(terms int) {
	s.terms = terms
	if s.pool.workers[0].k.pairs == nil {
		return
	}
	T, sp := s.lim.MaxTokens, &s.spec
	hidden, mixed, inner := pairsOf(sp.Hidden), pairsOf(sp.Heads*sp.HeadDim), pairsOf(sp.Intermediate)
	n := terms * max(s.lim.MaxLogits*hidden, T*mixed, T*sp.TopK*max(hidden, inner))
	s.pairs = make([]uint32, n)
	s.mem.Activation += 4 * int64(n)
	for _, w := range s.pool.workers {
		w.tiles = newTileScratch(2 * max(hidden, mixed, inner))
		w.y = make([]float32, terms*max(T, s.lim.MaxLogits)*tileRows)
	}
}

// pair gives n rows of x to an operation with the given weights: rounded in place where that was asked for, and as pairs
// where they are more than a few and a weight takes them so.
func (s *session) pair(x []float32, in *input, n int, byExpert []int32, weights []*dtype.Plane) activations {
	a := activations{values: x, perRow: s.terms * pairsOf(in.n), terms: s.terms}
	if s.terms == 1 {
		s.jobs.bf16 = bf16Job{x, in.width}
		s.pool.run(&s.jobs.bf16, n)
	}
	if s.pairs == nil || max(n, len(byExpert)) <= fewPairs || !slices.ContainsFunc(weights, hasPairs) {
		return a
	}
	j := &s.jobs.pair
	*j = pairJob{dst: s.pairs, src: x, in: in, rows: n, terms: s.terms, byExpert: byExpert}
	items := spans(n, pairSpan)
	if byExpert != nil {
		j.groups, items = &s.groups, len(s.groups.active)
	}
	s.pool.run(j, items)
	a.pairs = s.pairs
	return a
}

// bf16Job rounds a row in place.
type bf16Job struct {
	x     []float32
	width int
}

func (j *bf16Job) do(_ *worker, row int) { roundBF16(j.x[row*j.width : (row+1)*j.width]) }

// pairJob writes some rows as pairs, or all of an expert.
type pairJob struct {
	dst      []uint32
	src      []float32
	in       *input
	rows     int
	terms    int
	byExpert []int32
	groups   *expertGroups
}

// pairSpan is how many rows an item of a pairJob has where experts do not say.
const pairSpan = 4

func (j *pairJob) do(_ *worker, item int) {
	perRow := pairsOf(j.in.n)
	dst, all, begin, first, end := j.dst, j.rows, 0, item*pairSpan, min(j.rows, (item+1)*pairSpan)
	if j.groups != nil {
		e := j.groups.active[item]
		begin, end = int(j.groups.start[e]), int(j.groups.start[e+1])
		if end-begin <= fewPairs {
			return
		}
		dst, all, first = dst[begin*j.terms*perRow:], end-begin, begin
	}
	var columns [3]pairColumn
	for i := first; i < end; i++ {
		row := i
		if j.byExpert != nil {
			row = int(j.byExpert[i])
		}
		for t := range j.terms {
			columns[t] = column(dst, (i-begin)*j.terms+t, all*j.terms, perRow)
		}
		pairTerms(columns[:j.terms], j.src[row*j.in.width:(row+1)*j.in.width], j.in.at, j.in.n)
	}
}

// pairNote tells how activations are multiplied.
func (s *session) pairNote() string {
	const where = "AMX, where a step has more than a few rows and weights are BF16, MXFP4 or NF4"
	switch {
	case s.terms == 3 && s.pairs == nil:
		return "activations: float32, since this processor has no AMX: --cpu-activations bf16x3 changes nothing here"
	case s.terms == 3:
		return "activations: float32, as three bfloat16 each by " + where
	case s.pairs == nil:
		return "activations: bfloat16 but for the router's, multiplied as float32, since this processor has no AMX; lossy: " + bf16Cost
	}
	return "activations: bfloat16 but for the router's, by " + where + "; lossy: " + bf16Cost
}

// bf16Cost is what eval measured on the embedded demo model.
const bf16Cost = "mean KL 2.9e-8 on the demo model (docs/demo-model.md)"
