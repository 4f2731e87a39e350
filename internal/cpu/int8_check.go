package cpu

import (
	"fmt"
	"math"

	"hearth/internal/dtype"
)

// integerFormats are those that hasIntegers knows.
func integerFormats() []dtype.Format {
	return []dtype.Format{dtype.MXFP4, dtype.MXFP4GGML, dtype.MXFP4Ollama, dtype.Q8_0}
}

// roundedProduct checks products of rounded activations with the plane's last rows, for batches of one to batch rows:
// within what float32 loses in a sum over blocks, and the same bits for every size of batch.
func (c *checker) roundedProduct(p *dtype.Plane, batch int) error {
	r := min(tileRows, p.Rows)
	first, steps := p.Rows-r, int8Steps(p.Cols)
	weights := make([]float32, r*p.Cols)
	p.DecodeRows(weights, first, r)
	x := c.rounded(batch, p.Cols)
	alone := make([]float32, batch*r)
	for i := range batch {
		xi := x[i*steps : (i+1)*steps]
		c.k.int8(c.w, xi, nil, 1, p, first, r)
		copy(alone[i*r:], c.w.y[:r])
		for j := range r {
			if err := nearBlocks(alone[i*r+j], xi, weights[j*p.Cols:(j+1)*p.Cols]); err != nil {
				return fmt.Errorf("product of int8 with row %d: %w", first+j, err)
			}
		}
	}
	rows := make([]int32, batch) // the batch backwards
	for i := range rows {
		rows[i] = int32(batch - 1 - i)
	}
	c.k.int8(c.w, x, rows, batch, p, first, r)
	for i := range rows {
		for j := range r {
			if a, b := c.w.y[i*tileRows+j], alone[int(rows[i])*r+j]; a != b {
				return fmt.Errorf("product of int8 row %d with row %d in a batch of %d is %v, alone %v", rows[i], first+j, batch, a, b)
			}
		}
	}
	return nil
}

// rounded gives batch rows of n random activations, rounded, steps of NaN on both sides. Every third row has the largest
// codes there are, of both signs.
func (c *checker) rounded(batch, n int) []int8Step {
	steps := int8Steps(n)
	b := make([]int8Step, batch*steps+2)
	for i := range b[0].scale {
		b[0].scale[i], b[len(b)-1].scale[i] = poison, poison
	}
	x := b[1 : len(b)-1 : len(b)-1]
	for i := range batch {
		v := c.floats(n, 0)
		for j := range v {
			if i%3 == 2 {
				v[j] = float32(math.Copysign(3, float64(v[j])))
			}
		}
		roundRow(x[i*steps:(i+1)*steps], v, nil, 0, n)
	}
	return x
}

// int8At gives activation i of a row of steps as code and scale.
func int8At(x []int8Step, i int) (code int8, scale float32) {
	s, in := &x[i/stepCols], i%stepCols
	half, b := &s.low, in/int8Block
	if in%int8Block >= 16 {
		half = &s.high
	}
	return half[16*b+in%16], s.scale[4*b]
}

// nearBlocks compares a sum of products with the exact one. A block's sum is an exact integer; it meets the product of two
// scales, is rounded with it, and is then added to one in eight of the others, or to all of them.
func nearBlocks(got float32, x []int8Step, w []float32) error {
	var sum, magnitude float64
	for i, wi := range w {
		code, scale := int8At(x, i)
		v := float64(code) * float64(scale) * float64(wi)
		sum += v
		magnitude += math.Abs(v)
	}
	tolerance := float64(len(w)/int8Block+5) * unit * magnitude
	if d := math.Abs(float64(got) - sum); !(d <= tolerance) {
		return fmt.Errorf("sum of %d products is %v, want %v within %v", len(w), got, sum, tolerance)
	}
	return nil
}
