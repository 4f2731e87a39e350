package cpu

import (
	"fmt"
	"slices"
	"strings"

	"hearth/internal/dtype"
)

// activations are rows of an operation's input.
type activations struct {
	values  []float32  // in the level's order
	rounded []int8Step // nil: none of the operation's weights wants them
	pairs   []uint32   // likewise; rows of experts stand in the order of expertGroups
	perRow  int        // pairs of a row, of all its terms
	terms   int        // of a row of pairs
}

// from leaves out rows of pairs.
func (x activations) from(row int32) activations {
	if x.pairs != nil {
		x.pairs = x.pairs[int(row)*x.perRow:]
	}
	return x
}

// multiply fills w.y[i*tileRows+j] with x[rows[i]] · row first+j of p, as product does.
func (w *worker) multiply(p *dtype.Plane, first, r int, x activations, rows []int32, n int) {
	if x.rounded != nil && hasIntegers(p) {
		w.k.int8(w, x.rounded, rows, n, p, first, r)
		return
	}
	if x.pairs != nil && n > fewPairs && hasPairs(p) {
		w.k.pairs(w, x.pairs, x.terms*n, p, first, r)
		if x.terms > 1 {
			addTerms(w.y, n, x.terms)
		}
		return
	}
	w.product(p, first, r, x.values, rows, n)
}

// roundJob rounds the rows of an operation's input, once for the operation. An item is some steps of a row.
type roundJob struct {
	dst   []int8Step
	src   []float32
	in    *input
	steps int // of a row
	span  int // steps of an item
}

// roundSpan: a row of gpt-oss-20b's is six items.
const roundSpan = 8

func (j *roundJob) do(_ *worker, item int) {
	per := spans(j.steps, j.span)
	row, first := item/per, item%per*j.span
	dst := j.dst[row*j.steps:][first:min(first+j.span, j.steps)]
	roundRow(dst, j.src[row*j.in.width:(row+1)*j.in.width], j.in.at, first, j.in.n)
}

// round gives n rows of x to an operation with the given weights, rounded too where the session does that and a weight
// takes them so. byExpert lists the rows in the order of expertGroups, which experts take them in; nil: all experts' rows
// are 0..n-1, or there are none.
func (s *session) round(x []float32, in *input, n int, byExpert []int32, weights ...*dtype.Plane) activations {
	a := activations{values: x}
	if s.terms > 0 {
		return s.pair(x, in, n, byExpert, weights)
	}
	if s.rounded == nil || !slices.ContainsFunc(weights, hasIntegers) {
		return a
	}
	j := &s.jobs.round
	*j = roundJob{dst: s.rounded, src: x, in: in, steps: int8Steps(in.n), span: roundSpan}
	s.pool.run(j, n*spans(j.steps, j.span))
	a.rounded = s.rounded[:n*j.steps]
	return a
}

// roundActivations makes room for rounded activations.
func (s *session) roundActivations() {
	T, sp := s.lim.MaxTokens, &s.spec
	widest := max(T, s.lim.MaxLogits) * int8Steps(sp.Hidden)
	widest = max(widest, T*int8Steps(sp.Heads*sp.HeadDim), T*sp.TopK*int8Steps(sp.Intermediate))
	s.rounded = make([]int8Step, widest)
	s.mem.Activation += int64(widest) * int8StepBytes
	cols := stepCols * int8Steps(max(sp.Hidden, sp.Heads*sp.HeadDim, sp.Intermediate))
	for _, w := range s.pool.workers {
		w.codes, w.codeScales = make([]int8, cols), make([]float32, cols/int8Block)
	}
}

// Notes says which products take rounded activations, where that was asked for.
func (s *session) Notes() []string {
	if s.terms > 0 {
		return []string{s.pairNote()}
	}
	if s.rounded == nil {
		return nil
	}
	var parts []string
	add := func(name string, planes ...*dtype.Plane) {
		for _, p := range planes {
			part := fmt.Sprintf("%s (%v)", name, p.Format)
			if hasIntegers(p) && !slices.Contains(parts, part) {
				parts = append(parts, part)
			}
		}
	}
	for l := range s.layers {
		w := &s.layers[l]
		add("experts", &w.GateUp.Weight.Even[0], &w.Down.Weight.Even[0])
		add("attention", &w.Q.Weight, &w.K.Weight, &w.V.Weight, &w.O.Weight)
	}
	add("head", &s.head)
	if parts == nil {
		return []string{"activations: float32, since no weight is MXFP4 or Q8_0: --cpu-activations int8 changes nothing here"}
	}
	return []string{"activations: int8 for " + strings.Join(parts, ", ") + ", float32 elsewhere; lossy: " + int8Cost}
}

// int8Cost is what eval measured on the embedded demo model.
const int8Cost = "mean KL 1.3e-7 on the demo model (docs/demo-model.md)"
