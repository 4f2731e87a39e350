package checkpoint

import (
	"fmt"
	"math"

	"hearth/internal/dtype"
)

// A square down_proj does not tell by its shape whether it is [in, out] or [out, in], and tools have written both. But
// GPT-OSS's experts were trained in MXFP4, so in an unchanged BF16 copy every 32 values along the input axis share a
// scale: they are 0.5, 1, 1.5, 2, 3, 4 or 6 times one power of two. Along the other axis they do so only by accident.

// checkAxes looks at one expert of each layer and reports projections whose values form blocks along the output axis.
// Checkpoints whose values moved since (fine-tunes, NF4) form blocks along neither, which says nothing.
func (c *Checkpoint) checkAxes() []Finding {
	var found []Finding
	for l := range c.config.Layers {
		w, err := c.Layer(l)
		if err != nil { // only after Close
			return append(found, Finding{Tensor: fmt.Sprintf("layer %d", l), File: c.path, Expert: -1, Problem: err.Error()})
		}
		for _, x := range []struct {
			name  string
			plane *dtype.Plane
		}{{"gate_up_proj", &w.GateUp.Weight.Even[0]}, {"down_proj", &w.Down.Weight.Even[0]}} {
			if f := x.plane.Format; f != dtype.BF16 && f != dtype.F16 && f != dtype.F32 {
				continue
			}
			if along, across := blockAxes(x.plane); !along && across {
				found = append(found, Finding{
					Tensor: fmt.Sprintf("%s of layer %d", x.name, l), File: c.path, Expert: 0,
					Problem: "looks transposed: its values form MXFP4 blocks along the output axis, not along the input axis",
				})
			}
		}
	}
	return found
}

// blockAxes tells along which axes all runs of 32 values of a matrix share an MXFP4 scale, judged by its first rows.
func blockAxes(p *dtype.Plane) (in, out bool) {
	rows := p.Rows / 32 * 32
	if rows = min(rows, 64); rows == 0 || p.Cols < 32 {
		return false, false
	}
	w := make([]float32, rows*p.Cols)
	p.DecodeRows(w, 0, rows)
	in, out = true, true
	for r := 0; r < rows && in; r++ {
		for c := 0; c+32 <= p.Cols && in; c += 32 {
			in = sharesScale(w[r*p.Cols+c:], 1)
		}
	}
	for r := 0; r < rows && out; r += 32 {
		for c := 0; c < p.Cols && out; c++ {
			out = sharesScale(w[r*p.Cols+c:], p.Cols)
		}
	}
	return in, out
}

// sharesScale reports whether 32 values, stride apart, are E2M1 numbers under one power of two.
func sharesScale(w []float32, stride int) bool {
	low, high := math.MaxInt, math.MinInt
	for i := range 32 {
		v := w[i*stride]
		if v == 0 {
			continue
		}
		fraction, exponent := math.Frexp(math.Abs(float64(v)))
		switch fraction {
		case 0.5: // 0.5, 1, 2, 4
			low, high = min(low, exponent), max(high, exponent)
		case 0.75: // 1.5, 3, 6: the smallest has its power of two one above that of 0.5
			low, high = min(low, exponent-1), max(high, exponent)
		default:
			return false
		}
	}
	return high-low <= 3
}
