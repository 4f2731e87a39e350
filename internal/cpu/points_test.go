package cpu

import (
	"math"
	"testing"
)

// The points are worked out by hand in float64; see spec/model.md 6.
func TestSwigluPoints(t *testing.T) {
	for _, p := range []struct{ gate, up, want float32 }{
		{1, 1, 1.69159153}, {10, 2, 20.9998594}, {-10, -10, 2.43477678e-06}, {0.5, -7.5, -2.10233062},
		{-1, 0, -0.154204234}, {7, 7, 55.999625}, {3, -1, 0}, {-0.75, 4, -0.818049712},
	} {
		near(t, "swiglu", swiglu(p.gate, p.up, 1.702, 7), p.want, 1e-6)
	}
}

func TestSoftmaxSinkPoints(t *testing.T) {
	for _, p := range []struct {
		scores []float32
		sink   float32
		want   []float32
	}{
		{[]float32{1, 2, 3}, 0.5, []float32{0.0853688935, 0.232056712, 0.630795543}},
		{[]float32{-3, -4}, 2, []float32{0.00667641251, 0.0024561149}},
		{[]float32{0}, float32(math.Inf(-1)), []float32{1}},
		{[]float32{1000, 999}, -1000, []float32{0.7310586, 0.2689414}},
	} {
		softmaxSink(p.scores, p.sink)
		for i := range p.scores {
			near(t, "softmax", p.scores[i], p.want[i], 1e-6)
		}
	}
}

func TestTopK(t *testing.T) {
	for _, p := range []struct {
		values []float32
		want   []int32
	}{
		{[]float32{2, -1, 0.5, 1.5, 3, 0}, []int32{4, 0, 3, 2}},
		{[]float32{1, 1, 1, 1, 1}, []int32{0, 1, 2, 3}}, // ties: lowest index first
		{[]float32{-5, -4, -4, -6}, []int32{1, 2, 0, 3}},
	} {
		got := make([]int32, len(p.want))
		topK(p.values, got)
		for i := range got {
			if got[i] != p.want[i] {
				t.Errorf("topK(%v) = %v, want %v", p.values, got, p.want)
				break
			}
		}
	}
}

// A product must not depend on how rows are grouped: dot4 and dot give the same bits.
func TestDot4EqualsDot(t *testing.T) {
	r := newRand(1)
	for n := range 70 {
		x, w := r.floats(n), r.floats(4*n)
		a, b, c, d := dot4(x, w[:n], w[n:2*n], w[2*n:3*n], w[3*n:])
		for i, got := range []float32{a, b, c, d} {
			if want := dot(x, w[i*n:(i+1)*n]); got != want {
				t.Fatalf("length %d row %d: %v, dot gives %v", n, i, got, want)
			}
		}
	}
}

func TestRotateKeepsLength(t *testing.T) {
	x := []float32{1, 2, 3, 4}
	rotate(x, []float32{0, 1}, []float32{1, 0}) // a quarter turn of (1,3), nothing for (2,4)
	want := []float32{-3, 2, 1, 4}
	for i := range x {
		near(t, "rotate", x[i], want[i], 0)
	}
}

func near(t *testing.T, what string, got, want, tol float32) {
	t.Helper()
	if d := float64(got - want); !(math.Abs(d) <= float64(tol)*math.Max(1, math.Abs(float64(want)))) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
