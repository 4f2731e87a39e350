package cuda

import (
	"fmt"
	"math"
	"testing"

	"hearth/internal/testmodel"
)

// routing is a layer's norm and router, in device form, with host copies.
type routing struct {
	norm, router, bias []float32 // router [Hidden, Experts]
}

func (t *expertTest) routing(l *layerWeights) *routing {
	s := t.s
	r := &routing{norm: t.normal(s.Hidden, 0.3), router: t.normal(s.Hidden*s.Experts, 0.05), bias: t.normal(s.Experts, 0.2)}
	for i := range r.norm {
		r.norm[i]++
	}
	l.mlpNormMost = mostOf(r.norm)
	l.mlpNorm, l.router, l.routerBias = t.floats(r.norm), t.floats(r.router), t.floats(r.bias)
	return r
}

// logits are the router's, in float64, with the normed row.
func (r *routing) logits(s *shape, x []float32) (logits []float64, normed []float64) {
	var square float64
	for _, v := range x {
		square += float64(v) * float64(v)
	}
	scale := 1 / math.Sqrt(square/float64(s.Hidden)+float64(s.Eps))
	logits, normed = make([]float64, s.Experts), make([]float64, s.Hidden)
	for e := range logits {
		logits[e] = float64(r.bias[e])
	}
	for i, v := range x {
		normed[i] = float64(v) * scale * float64(r.norm[i])
		for e := range logits {
			logits[e] += normed[i] * float64(r.router[i*s.Experts+e])
		}
	}
	return logits, normed
}

// accumulated is what the output projection's epilogue leaves: fixed-point sums before the norm's factor.
func (r *routing) accumulated(s *shape, x []float32) []uint64 {
	sums := make([]float64, s.Experts+1)
	for i, v := range x {
		for e := range s.Experts {
			sums[e] += float64(v) * float64(r.norm[i]) * float64(r.router[i*s.Experts+e])
		}
		sums[s.Experts] += float64(v) * float64(v)
	}
	acc := make([]uint64, s.Experts+1)
	for e := range acc {
		factor := 0x1p24
		if e == s.Experts {
			factor = 0x1p16
		}
		acc[e] = uint64(int64(math.Round(sums[e] * factor)))
	}
	return acc
}

// checkChoice compares a choice of experts with the logits. Experts whose logits are closer than what float32 keeps may
// change places.
func checkChoice(t testing.TB, logits []float64, ids []int32, weight []float32) {
	t.Helper()
	const slack = 2e-5
	var sum float64
	taken := map[int32]bool{}
	for k, id := range ids {
		if id < 0 || int(id) >= len(logits) || taken[id] {
			t.Fatalf("choice %v of %d experts", ids, len(logits))
		}
		taken[id] = true
		if k > 0 && logits[id] > logits[ids[k-1]]+slack {
			t.Fatalf("choice %v is not in order of the logits %v", ids, logits)
		}
		sum += math.Exp(logits[id] - logits[ids[0]])
	}
	for e, v := range logits {
		if !taken[int32(e)] && v > logits[ids[len(ids)-1]]+slack {
			t.Fatalf("choice %v leaves out expert %d of the logits %v", ids, e, logits)
		}
	}
	for k, id := range ids {
		want := math.Exp(logits[id]-logits[ids[0]]) / sum
		near(t, fmt.Sprintf("weight of choice %d", k), weight[k], want, 1e-4*want+1e-7)
	}
}

// rowSlack is how far a weight of the row kernels may be off what DecodeRows gives, relative to it: for NF4 and FP4 they
// multiply the code's value, rounded to F16's 11 bits, with the scale, where DecodeRows rounds the product to BF16's 8.
func rowSlack(f expertFormat) float64 {
	if f == expertAbsmax || f == expertNested {
		return 0x1p-8 + 0x1p-11 + 0x1p-18
	}
	return 0
}

// row runs one token through the row path and compares every number.
func (t *expertTest) row(src expertSource) {
	t.Helper()
	s, q := t.s, t.c.queue
	gu, dn := t.weights(src, s.Experts, 2*s.Intermediate, s.Hidden, true), t.weights(src, s.Experts, s.Hidden, s.Intermediate, false)
	l := t.layer(gu, dn)
	r := t.routing(l)
	for range 2 {
		x := t.normal(s.Hidden, 2)
		h, choice, planes := t.room(2*s.TopK*s.Intermediate), t.room(8*s.TopK), t.room(8*s.Hidden)
		t.e.gateUpRow(q, l, t.floats(x), t.put(bytesOf(r.accumulated(s, x))), h, choice)
		t.e.downRow(q, l, h, choice, planes)
		ids, weight := t.getInts(choice, s.TopK), t.getFloats(choice+devptr(4*s.TopK), s.TopK)
		logits, normed := r.logits(s, x)
		checkChoice(t, logits, ids, weight)

		factor := 1.0
		if t.e.rows[expertMXFP4] != nil && src.want == expertMXFP4 {
			factor = rowVector
		}
		in := make([]float32, s.Hidden)
		for i, v := range normed {
			in[i] = float32(v)
		}
		rounded := roundBF16(in)
		hs := t.getBF16s(h, s.TopK*s.Intermediate)
		got := t.getFloats(planes, 2*s.Hidden)
		want, bound := make([]float64, s.Hidden), make([]float64, s.Hidden)
		for k, e := range ids {
			row := hs[k*s.Intermediate:][:s.Intermediate]
			t.checkGateUp(gu, int(e), rounded, row, factor, 0x1p-12+rowSlack(src.want))
			for i := range row {
				row[i] = float32(float64(row[i]) / factor)
			}
			y, b := t.downReference(dn, int(e), row)
			for i := range y {
				want[i] += float64(weight[k]) * y[i]
				bound[i] += float64(weight[k])*b[i]*(1+rowSlack(src.want)*0x1p20) + 0x1p-21*math.Abs(y[i])
			}
		}
		for i := range want {
			if !near(t, fmt.Sprintf("planes[%d]", i), got[i]+got[s.Hidden+i], want[i], bound[i]) {
				t.FailNow()
			}
		}
	}
}

// Sizes of the row path: odd numbers of experts a token, many experts, inputs that are no multiple of three chunks, and a
// card so small that a block has more sums than threads.
func TestExpertRowSizes(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for _, e := range []struct{ src, hidden, intermediate, experts, topK, sms int }{
			{0, 64, 64, 2, 1, 82}, {0, 256, 320, 5, 3, 3}, {4, 320, 128, 40, 5, 7}, {6, 128, 64, 9, 8, 2}, {0, 640, 640, 4, 2, 1}, {3, 64, 448, 256, 7, 132},
			{12, 64, 128, 33, 5, 4}, {4, 256, 256, 3, 3, 500},
		} {
			if testmodel.Race && e.hidden*e.intermediate > 1<<14 {
				continue
			}
			src := expertSources[e.src]
			t.Run(fmt.Sprintf("%s %d %d, %d of %d, %d processors", src.name, e.hidden, e.intermediate, e.topK, e.experts, e.sms), func(t *testing.T) {
				s := expertShape(e.hidden, e.intermediate, e.experts, e.topK)
				s.sms = e.sms
				newExpertTest(t, c, s).row(src)
			})
		}
	})
}

// The row path, for formats with row kernels and without.
func TestExpertRow(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for _, src := range sourcesHere() {
			t.Run(src.name, func(t *testing.T) {
				newExpertTest(t, c, expertShape(192, 128, 4, 2)).row(src)
			})
		}
	})
}
