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
// Rows of activations are cut into blocks of up to pairRows. A block is its rows' pairs, two neighbours in 32 bits: the
// first pair of every row, then the second of every row. Rows are filled up with zeros to whole steps.
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

// pairRow writes a row of n values, which are BF16, value i of which lies at place at[i] of src, or at i where at is nil:
// pair k goes to dst[k*stride].
func pairRow(dst []uint32, stride int, src []float32, at []int32, n int) {
	bits := func(i int) uint32 {
		switch {
		case i >= n:
			return 0
		case at != nil:
			i = int(at[i])
		}
		return math.Float32bits(src[i]) >> 16
	}
	for k := range pairsOf(n) {
		dst[k*stride] = bits(2*k) | bits(2*k+1)<<16
	}
}

// storePairs writes weights, whose values are BF16, as these, and zeros behind them.
func storePairs(dst []uint16, weights []float32) {
	for i, v := range weights {
		dst[i] = uint16(math.Float32bits(v) >> 16)
	}
	clear(dst[len(weights):])
}
