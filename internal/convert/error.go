package convert

import (
	"fmt"
	"math"
)

// Error measures how far written values are from the source's. The zero value is the measure of nothing.
type Error struct {
	Max float64 // largest difference

	n                       float64
	diff, source, out, both float64 // sums of squares and of products
}

// compare adds the differences of two runs of values.
func (e *Error) compare(source, out []float32) {
	for i, s := range source {
		a, b := float64(s), float64(out[i])
		if a-a != 0 { // NaN and infinities have no distance; codecs keep them or refuse
			continue
		}
		d := b - a
		e.Max = max(e.Max, math.Abs(d))
		e.diff += d * d
		e.source += a * a
		e.out += b * b
		e.both += a * b
	}
	e.n += float64(len(source))
}

func (e *Error) add(o *Error) {
	e.Max = max(e.Max, o.Max)
	e.n += o.n
	e.diff += o.diff
	e.source += o.source
	e.out += o.out
	e.both += o.both
}

// Exact says whether no value differed.
func (e *Error) Exact() bool { return e.diff == 0 && e.Max == 0 }

// RMS is the root mean square of the differences.
func (e *Error) RMS() float64 {
	if e.n == 0 {
		return 0
	}
	return math.Sqrt(e.diff / e.n)
}

// Relative is RMS over the root mean square of the source's values.
func (e *Error) Relative() float64 {
	if e.source == 0 {
		return 0
	}
	return math.Sqrt(e.diff / e.source)
}

// Cosine is the cosine of the angle between the values as one vector; 1 for equal directions.
func (e *Error) Cosine() float64 {
	if e.source == 0 || e.out == 0 {
		return 1
	}
	return e.both / math.Sqrt(e.source*e.out)
}

// String is "exact" or the figures.
func (e *Error) String() string {
	if e.Exact() {
		return "exact (measured)"
	}
	return fmt.Sprintf("max %.3g, RMS %.3g (%.2f %% of the values' own), cosine %.6f", e.Max, e.RMS(), 100*e.Relative(), e.Cosine())
}

// errorSums are the sums as the journal keeps them.
type errorSums [6]float64

func (e *Error) sums() errorSums { return errorSums{e.Max, e.n, e.diff, e.source, e.out, e.both} }

func (s errorSums) error() Error {
	return Error{Max: s[0], n: s[1], diff: s[2], source: s[3], out: s[4], both: s[5]}
}
