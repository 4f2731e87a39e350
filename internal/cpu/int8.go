package cpu

import (
	"math"

	"hearth/internal/dtype"
)

// Where a user asks for it, activations are rounded to int8 before they meet weights that are small integers times a
// scale: twice a code of MXFP4 is an integer up to 12, a weight of Q8_0 one up to 128. Each block of 32 activations has
// one float32 scale, as has each block of 32 weights: so the products of a block are added up exactly, as integers, and
// only sums of blocks are rounded. Weights in other formats, the router, attention and the residual keep float32.

const (
	int8Block     = 32  // activations under one scale; 64 would cost as much, and 3.4 times the divergence on the demo model
	int8StepBytes = 128 // of an int8Step
	int8Bias      = 16  // what kernels may add to an MXFP4 weight's integer, so that it has no sign
)

// int8Step is 64 consecutive activations of a row: two blocks, side by side in the two lanes of an AVX2 register. What lies
// past the end of a row is zero.
type int8Step struct {
	low, high [int8Block]int8 // low: the first 16 of either block; high: the last 16 of either
	// bias takes back int8Bias for every weight: four codes of low and four of high, negated. Its lanes are those that
	// products are added in.
	bias  [8]int32
	scale [8]float32 // of the first block, four times, and of the second
}

// int8Steps is the length of a row of n activations.
func int8Steps(n int) int { return (n + stepCols - 1) / stepCols }

// round fills the step with x: codes are x times 127 over the block's largest magnitude, to the nearest integer, ties to
// even. A block that holds an infinity or a NaN gets the scale NaN, so that it stays broken; one below 2^-100 is zero.
func (s *int8Step) round(x *[stepCols]float32) {
	for b := range 2 {
		v := (*[int8Block]float32)(x[b*int8Block:])
		var bits uint32 // magnitudes sort as their bits do, infinity and NaN last
		for _, a := range v {
			bits = max(bits, math.Float32bits(a)&0x7FFF_FFFF)
		}
		most := math.Float32frombits(bits)
		scale, inverse := most/127, 127/most
		switch {
		case bits >= 0x7F80_0000:
			scale, inverse = float32(math.NaN()), 0
		case most < 1.0/(1<<100):
			scale, inverse = 0, 0
		}
		s.codes(b, v, inverse)
		for i := range 4 {
			s.scale[4*b+i] = scale
		}
	}
}

// codes rounds block b. Added to a number of no more than 22 bits, roundBy leaves no bit for a fraction: the sum is rounded
// as every sum is, to nearest, ties to even, and its lowest byte is the integer's.
func (s *int8Step) codes(b int, v *[int8Block]float32, inverse float32) {
	const roundBy = 3 << 22
	low, high := (*[16]int8)(s.low[16*b:]), (*[16]int8)(s.high[16*b:])
	for i := range low {
		low[i] = int8(math.Float32bits(float32(v[i]*inverse) + roundBy)) // rounded before the sum: never fused
		high[i] = int8(math.Float32bits(float32(v[16+i]*inverse) + roundBy))
	}
	for i := range 4 {
		var sum int32
		for j := 4 * i; j < 4*i+4; j++ {
			sum += int32(low[j]) + int32(high[j])
		}
		s.bias[4*b+i] = -int8Bias * sum
	}
}

// roundRow rounds steps [first, first+len(dst)) of a row of n values, value i of which lies at place at[i] of src.
func roundRow(dst []int8Step, src []float32, at []int32, first, n int) {
	for i := range dst {
		var v [stepCols]float32
		from := (first + i) * stepCols
		count := min(stepCols, n-from)
		if at == nil {
			copy(v[:count], src[from:])
		} else {
			for j, place := range at[from : from+count] {
				v[j] = src[place]
			}
		}
		dst[i].round(&v)
	}
}

// hasIntegers says that p's weights are integers of at most eight bits times a scale for each block of 32.
func hasIntegers(p *dtype.Plane) bool {
	switch p.Format {
	case dtype.MXFP4, dtype.MXFP4GGML, dtype.MXFP4Ollama, dtype.Q8_0:
		return true
	}
	return false
}

// twiceE2M1 is dtype.E2M1 doubled; halfE8M0 is every scale of MXFP4, halved. Read only.
var (
	twiceE2M1 = func() (t [16]int8) {
		for c, v := range dtype.E2M1 {
			t[c] = int8(2 * v)
		}
		return t
	}()
	halfE8M0 = func() (t [256]float32) {
		for e := range t {
			t[e] = dtype.FromE8M0(uint8(e)) / 2
		}
		return t
	}()
)

// integerRow gives row j of p as integers and a scale for each block.
func integerRow(codes []int8, scales []float32, p *dtype.Plane, j int) {
	blocks := p.Cols / int8Block
	for b := range blocks {
		c, block := (*[int8Block]int8)(codes[b*int8Block:]), j*blocks+b
		switch p.Format {
		case dtype.MXFP4:
			scales[b] = halfE8M0[p.Scales[block]]
			neighbours(c, (*[16]byte)(p.Data[16*block:]))
		case dtype.MXFP4Ollama:
			scales[b] = halfE8M0[p.Data[17*block]]
			neighbours(c, (*[16]byte)(p.Data[17*block+1:]))
		case dtype.MXFP4GGML:
			scales[b] = halfE8M0[p.Data[17*block]]
			for i, x := range (*[16]byte)(p.Data[17*block+1:]) {
				c[i], c[16+i] = twiceE2M1[x&15], twiceE2M1[x>>4]
			}
		case dtype.Q8_0:
			data := (*[34]byte)(p.Data[34*block:])
			scales[b] = dtype.FromF16(uint16(data[0]) | uint16(data[1])<<8)
			for i, x := range data[2:] {
				c[i] = int8(x)
			}
		}
	}
}

// neighbours: both codes of a byte follow each other.
func neighbours(c *[int8Block]int8, data *[16]byte) {
	for i, x := range data {
		c[2*i], c[2*i+1] = twiceE2M1[x&15], twiceE2M1[x>>4]
	}
}

// portableInt8 is the portable kernels.int8.
func portableInt8(w *worker, x []int8Step, rows []int32, n int, p *dtype.Plane, first, r int) {
	steps, blocks := int8Steps(p.Cols), p.Cols/int8Block
	codes, scales := w.codes[:steps*stepCols], w.codeScales[:blocks]
	clear(codes[p.Cols:])
	for j := range r {
		integerRow(codes, scales, p, first+j)
		for i := range n {
			k := i
			if rows != nil {
				k = int(rows[i])
			}
			w.y[i*tileRows+j] = int8Dot(x[k*steps:(k+1)*steps], codes, scales)
		}
	}
}

// int8Dot adds the blocks' products one after the other, each rounded.
func int8Dot(x []int8Step, codes []int8, scales []float32) (y float32) {
	for b, scale := range scales {
		s, half := &x[b/2], b%2*16
		var sum int32
		c, low, high := (*[int8Block]int8)(codes[b*int8Block:]), (*[16]int8)(s.low[half:]), (*[16]int8)(s.high[half:])
		for i := range low {
			sum += int32(low[i])*int32(c[i]) + int32(high[i])*int32(c[16+i])
		}
		y += float32(float32(sum) * float32(scale*s.scale[4*(b%2)]))
	}
	return y
}
