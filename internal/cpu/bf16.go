package cpu

import (
	"math"

	"hearth/internal/dtype"
)

// Where a user asks for it, activations are rounded to BF16, as the models' own implementation does, before they meet any
// weights but the router's. A level that multiplies BF16 takes them as pairs, together with weights whose values are BF16
// whatever they are stored as; elsewhere, and for a few rows, the rounded values are multiplied as float32 are. Sums are
// float32.
//
// Or nothing is rounded: a float32 is the sum of three BF16, its digits eight by eight, and a row is multiplied as three.
// The products are exact, and the three sums are added, so the result is as good as one of float32.
//
// Rows are cut into blocks of up to pairRows. A block is its rows' pairs, two neighbours in 32 bits: the first pair of every
// row, then the second of every row. Rows are filled up with zeros to whole steps.
const pairRows = 16

// fewPairs is up to how many rows of activations float32's kernels are as fast: tiles have room for sixteen, and take the
// same time for one.
const fewPairs = 4

// pairsOf is how many pairs a row of n activations has.
func pairsOf(n int) int { return (n + stepCols - 1) / stepCols * stepCols / 2 }

// hasPairs says that the plane's values are BF16.
func hasPairs(p *dtype.Plane) bool {
	switch p.Format {
	case dtype.BF16, dtype.MXFP4, dtype.MXFP4GGML, dtype.MXFP4Ollama:
		return true
	case dtype.NF4, dtype.FP4:
		return p.Quant.Round == dtype.BF16
	}
	return false
}

// roundBF16 rounds in place: to nearest, ties to even; a NaN stays one.
func roundBF16(x []float32) {
	for i, v := range x {
		x[i] = dtype.FromBF16(dtype.ToBF16(v))
	}
}

// pairColumn is where the pairs of a row go: stride apart.
type pairColumn struct {
	to     []uint32
	stride int
}

// column is row i of n that begin at dst, perRow pairs each.
func column(dst []uint32, i, n, perRow int) pairColumn {
	first := i / pairRows * pairRows
	return pairColumn{dst[first*perRow+i-first:], min(pairRows, n-first)}
}

// pairTerms writes a row of n values, value i of which lies at place at[i] of src, or at i where at is nil, as the rows of
// its terms: the first digits of all values, then the next. What the columns have no room for is left out.
func pairTerms(columns []pairColumn, src []float32, at []int32, n int) {
	value := func(i int) float32 {
		switch {
		case i >= n:
			return 0
		case at != nil:
			i = int(at[i])
		}
		return src[i]
	}
	for k := range pairsOf(n) {
		a, b := value(2*k), value(2*k+1)
		for _, c := range columns {
			low, high := math.Float32bits(a)>>16, math.Float32bits(b)&0xFFFF_0000
			c.to[k*c.stride] = low | high
			a -= math.Float32frombits(low << 16)
			b -= math.Float32frombits(high)
		}
	}
}

// addTerms adds the products of the terms of n rows.
func addTerms(y []float32, n, terms int) {
	for i := range n {
		sum := (*[tileRows]float32)(y[i*tileRows:])
		*sum = [tileRows]float32(y[i*terms*tileRows:])
		for t := 1; t < terms; t++ {
			for j, v := range (*[tileRows]float32)(y[(i*terms+t)*tileRows:]) {
				sum[j] += v
			}
		}
	}
}

// storePairs writes weights, whose values are BF16, as these, and zeros behind them.
func storePairs(dst []uint16, weights []float32) {
	for i, v := range weights {
		dst[i] = uint16(math.Float32bits(v) >> 16)
	}
	clear(dst[len(weights):])
}
