package cpu

import (
	"fmt"
	"math"
)

// expTolerance is four units: two of the exponential itself and one for each product or quotient around it.
const expTolerance = 4 * unit

// elementwise checks softmax, SwiGLU and the sum of exponentials on n values.
func (c *checker) elementwise(n int) error {
	for _, sink := range []float32{0.5, 40, float32(math.Inf(-1))} {
		if err := c.softmax(n, sink); err != nil {
			return err
		}
	}
	if err := c.swiglu(n); err != nil {
		return err
	}
	logits, scratch := c.floats(n, 3), c.floats(n, 1)
	want, err := logSumExp(logits)
	if err != nil {
		return err
	}
	got, err := c.k.logSumExp(scratch, logits)
	if err != nil || math.Abs(got-want) > expTolerance*max(1, math.Abs(want)) {
		return fmt.Errorf("log of the sum of exponentials is %v (%v), want %v", got, err, want)
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		logits[c.r.IntN(n)] = float32(bad)
		if _, err := c.k.logSumExp(scratch, logits); err == nil {
			return fmt.Errorf("a logit of %v went unseen", bad)
		}
	}
	return nil
}

func (c *checker) softmax(n int, sink float32) error {
	scores := c.floats(n, 2)
	scores[0] *= 50 // so that small weights occur
	const scale = 0.3
	m, exact := float64(sink), make([]float64, n)
	for i, v := range scores {
		exact[i] = float64(v * scale)
		m = max(m, exact[i])
	}
	sum := math.Exp(float64(sink) - m)
	for i := range exact {
		exact[i] = math.Exp(exact[i] - m)
		sum += exact[i]
	}
	before := append([]float32(nil), scores...)
	c.k.softmax(scores, scale, sink)
	for i, got := range scores {
		// The argument of the exponential is itself rounded.
		slack := expTolerance + unit*math.Abs(float64(before[i]*scale)-m)
		if want := exact[i] / sum; math.Abs(float64(got)-want) > slack*want+1e-37 {
			return fmt.Errorf("softmax with sink %v makes %v of %v, want %v", sink, got, before[i], want)
		}
	}
	return nil
}

func (c *checker) swiglu(n int) error {
	const alpha, limit = 1.702, 7
	y, bias, h := c.floats(2*n, 1), c.floats(2*n, 2), c.floats(n, 3)
	for i := range y {
		y[i] *= 5
	}
	y[0] = -300 // the exponential leaves float32
	c.k.swiglu(h, y, bias, alpha, limit)
	for i, got := range h {
		gate, up := y[2*i]+bias[2*i], y[2*i+1]+bias[2*i+1]
		want := float64(swiglu(gate, up, alpha, limit))
		slack := 2*expTolerance + 2*unit*math.Abs(alpha*float64(gate))
		if math.Abs(float64(got)-want) > slack*math.Abs(want)+1e-34 {
			return fmt.Errorf("swiglu of %v and %v is %v, want %v", gate, up, got, want)
		}
	}
	return nil
}
