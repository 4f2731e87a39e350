package cpu

import (
	"slices"

	"hearth/internal/dtype"
)

// pairActivations makes room for activations in BF16.
func (s *session) pairActivations() {
	s.bf16 = true
	if s.pool.workers[0].k.pairs == nil {
		return
	}
	T, sp := s.lim.MaxTokens, &s.spec
	hidden, mixed, inner := pairsOf(sp.Hidden), pairsOf(sp.Heads*sp.HeadDim), pairsOf(sp.Intermediate)
	n := max(s.lim.MaxLogits*hidden, T*mixed, T*sp.TopK*max(hidden, inner))
	s.pairs = make([]uint32, n)
	s.mem.Activation += 4 * int64(n)
	for _, w := range s.pool.workers {
		w.tiles = newTileScratch(2 * max(hidden, mixed, inner))
	}
}

// pair gives n rows of x in BF16 to an operation with the given weights: in place, and as pairs where they are more than a
// few and a weight takes them so.
func (s *session) pair(x []float32, in *input, n int, byExpert []int32, weights []*dtype.Plane) activations {
	a := activations{values: x, perRow: pairsOf(in.n)}
	s.jobs.bf16 = bf16Job{x, in.width}
	s.pool.run(&s.jobs.bf16, n)
	if s.pairs == nil || max(n, len(byExpert)) <= fewPairs || !slices.ContainsFunc(weights, hasPairs) {
		return a
	}
	j := &s.jobs.pair
	*j = pairJob{dst: s.pairs, src: x, in: in, rows: n, byExpert: byExpert}
	items := (n + pairRows - 1) / pairRows
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

// pairJob writes a block of rows as pairs, or all blocks of an expert.
type pairJob struct {
	dst      []uint32
	src      []float32
	in       *input
	rows     int
	byExpert []int32
	groups   *expertGroups
}

func (j *pairJob) do(_ *worker, item int) {
	first, end := item*pairRows, min(j.rows, (item+1)*pairRows)
	if j.groups != nil {
		e := j.groups.active[item]
		first, end = int(j.groups.start[e]), int(j.groups.start[e+1])
		if end-first <= fewPairs {
			return
		}
	}
	perRow := pairsOf(j.in.n)
	for ; first < end; first += pairRows {
		n := min(pairRows, end-first)
		block := j.dst[first*perRow : (first+n)*perRow]
		for i := range n {
			row := first + i
			if j.byExpert != nil {
				row = int(j.byExpert[row])
			}
			pairRow(block[i:], n, j.src[row*j.in.width:(row+1)*j.in.width], j.in.at, j.in.n)
		}
	}
}

// pairNote tells of the rounding.
func (s *session) pairNote() string {
	how := "multiplied as float32, since this processor has no AMX"
	if s.pairs != nil {
		how = "multiplied by AMX where there are more than a few rows and weights are BF16, MXFP4 or NF4"
	}
	return "activations: bfloat16 but for the router's, " + how + "; lossy: " + bf16Cost
}

// bf16Cost is what eval measured on the embedded demo model.
const bf16Cost = "mean KL 2.9e-8 on the demo model (docs/demo-model.md)"
