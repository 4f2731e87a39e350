package cuda

import (
	"math"
	"testing"

	"hearth/internal/dtype"
)

// Weights enter the products as dtype.Plane.DecodeRows gives them, bit for bit, where that is a BF16 number: each token
// asks for one column of one expert. Where the tensor wants F16 or F32 values, these are rounded to BF16. The row kernels keep
// more bits of NF4 and FP4: rowSlack.
func TestExpertWeightsAreExact(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for _, src := range sourcesHere() {
			t.Run(src.name, func(t *testing.T) {
				newExpertTest(t, c, expertShape(64, 128, 3, 1)).exact(src, dtype.BF16)
			})
		}
		t.Run("rounded to F32", func(t *testing.T) {
			newExpertTest(t, c, expertShape(64, 128, 3, 1)).exact(expertSources[3], dtype.F32)
		})
	})
}

func (t *expertTest) exact(src expertSource, round dtype.Format) {
	t.Helper()
	s, q := t.s, t.c.queue
	gu, dn := t.weights(src, s.Experts, 2*s.Intermediate, s.Hidden, true), t.weights(src, s.Experts, s.Hidden, s.Intermediate, false)
	clear(dn.Bias)
	for _, p := range dn.Weight.Even {
		if p.Quant != nil {
			p.Quant.Round = round
		}
	}
	l := t.layer(gu, dn)
	for expert := range s.Experts {
		want := make([]float32, s.Hidden*s.Intermediate)
		dn.Weight.DecodeRows(want, expert, 0, s.Hidden)
		roundBF16(want)
		for _, T := range []int{8, 32, s.Intermediate} { // narrow, wide, large
			first := t.rng.IntN(s.Intermediate - T + 1)
			got := t.columns(l, expert, first, T)
			for k := range T {
				for r := range s.Hidden {
					if v := got[k*s.Hidden+r]; v != want[r*s.Intermediate+first+k] {
						t.Fatalf("%d tokens: weight [%d, %d] of expert %d is %v, want %v", T, r, first+k, expert, v, want[r*s.Intermediate+first+k])
					}
				}
			}
		}
		if t.e.rows[l.down.format] == nil {
			continue // one token takes the narrow kernels
		}
		factor := float32(1)
		if l.down.format == expertMXFP4 {
			factor = rowVector
		}
		for range 5 {
			k := t.rng.IntN(s.Intermediate)
			h := make([]float32, s.Intermediate)
			h[k] = factor
			choice, planes := t.put(bytesOf([]uint32{uint32(expert), math.Float32bits(1)})), t.room(8*s.Hidden)
			t.e.downRow(q, l, t.bf16s(h), choice, planes)
			got := t.getFloats(planes, 2*s.Hidden)
			for r := range s.Hidden {
				// Blocks of a scale below 2^-120 may vanish in the row path.
				v, w := got[r]+got[s.Hidden+r], want[r*s.Intermediate+k]
				if v != w && math.Abs(float64(v-w)) > max(0x1p-118, math.Abs(float64(w))*rowSlack(l.down.format)) {
					t.Fatalf("one token: weight [%d, %d] of expert %d is %v, want %v", r, k, expert, v, w)
				}
			}
		}
	}
}

// columns gives n columns of an expert's down projection, as its products with the unit vectors.
func (t *expertTest) columns(l *layerWeights, expert, first, n int) []float32 {
	t.Helper()
	s, q := t.s, t.c.queue
	w := t.workspace(n)
	chosen, weight, h := make([]int32, n), make([]float32, n), make([]float32, n*s.Intermediate)
	for i := range n {
		chosen[i], weight[i], h[i*s.Intermediate+first+i] = int32(expert), 1, 1
	}
	q.upload(w.chosen, bytesOf(chosen))
	q.upload(w.weight, bytesOf(weight))
	b := make([]byte, 2*len(h))
	dtype.EncodeBF16(b, h)
	q.upload(w.h, b)
	x := t.floats(make([]float32, n*s.Hidden))
	t.e.group(q, n, w)
	t.e.down(q, l, x, n, w)
	return t.getFloats(x, n*s.Hidden)
}
