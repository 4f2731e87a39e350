package cpu

import (
	"fmt"
	"math"

	"hearth/internal/dtype"
)

// pairFormats are those whose planes may have pairs.
func pairFormats() []dtype.Format {
	return []dtype.Format{dtype.BF16, dtype.MXFP4, dtype.MXFP4GGML, dtype.MXFP4Ollama, dtype.NF4, dtype.FP4}
}

// pairProduct checks products of BF16 activations with the plane's last rows, for batches of one to batch rows: within what
// float32 loses in a sum, and the same bits for every size of batch.
func (c *checker) pairProduct(p *dtype.Plane, batch int) error {
	r := min(tileRows, p.Rows)
	first := p.Rows - r
	weights := make([]float32, r*p.Cols)
	p.DecodeRows(weights, first, r)
	x := make([]float32, batch*p.Cols)
	alone := make([]float32, batch*r)
	for i := range batch {
		xi := x[i*p.Cols : (i+1)*p.Cols]
		copy(xi, c.floats(p.Cols, 0))
		roundBF16(xi)
		c.k.pairs(c.w, c.paired(xi, 1, p.Cols), 1, p, first, r)
		copy(alone[i*r:], c.w.y[:r])
		for j := range r {
			if err := nearSum(alone[i*r+j], xi, weights[j*p.Cols:(j+1)*p.Cols]); err != nil {
				return fmt.Errorf("product of BF16 with row %d: %w", first+j, err)
			}
		}
	}
	for i := range c.w.y {
		c.w.y[i] = poison
	}
	c.k.pairs(c.w, c.paired(x, batch, p.Cols), batch, p, first, r)
	for i := range batch {
		for j := range r {
			if a, b := c.w.y[i*tileRows+j], alone[i*r+j]; a != b {
				return fmt.Errorf("product of BF16 row %d with row %d in a batch of %d is %v, alone %v", i, first+j, batch, a, b)
			}
		}
	}
	if y := c.w.y[batch*tileRows:]; len(y) > 0 && !math.IsNaN(float64(y[0])) {
		return fmt.Errorf("products of %d rows are followed by %v", batch, y[0])
	}
	return nil
}

// paired gives n rows of cols activations, which are BF16, as pairs, NaN on both sides.
func (c *checker) paired(x []float32, n, cols int) []uint32 {
	const nans = 0x7FC07FC0
	perRow := pairsOf(cols)
	b := make([]uint32, n*perRow+32)
	for i := range b {
		b[i] = nans
	}
	at := 1 + c.r.IntN(15)
	dst := b[at : at+n*perRow : at+n*perRow]
	for i := range n {
		pairTerms([]pairColumn{column(dst, i, n, perRow)}, x[i*cols:(i+1)*cols], nil, cols)
	}
	return dst
}
