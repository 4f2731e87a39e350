package cpu

// tileRows is how many weight rows are decoded at a time: enough that a transposed plane uses whole cache lines and
// that many batch rows share the decoding, few enough that the tile stays in the second-level cache.
const tileRows = 16

// tokenBlock is how many batch rows pass over a tile before the next four weight rows are taken up.
const tokenBlock = 8

// panelRows is how many rows of activations vector kernels take at once: a chain of them and of a tile, and their sums,
// stay in the second-level cache.
const panelRows = 48

// mulTile is the portable kernels.mul.
func (w *worker) mulTile(x []float32, rows []int32, n, cols, r int, _ []byte) {
	for i0 := 0; i0 < n; i0 += tokenBlock {
		i1 := min(i0+tokenBlock, n)
		for j := 0; j < r; j += 4 {
			w.mulBlock(x, rows, i0, i1, cols, j, min(4, r-j))
		}
	}
}

func (w *worker) mulBlock(x []float32, rows []int32, i0, i1, cols, j, r int) {
	t := w.tile[j*cols:]
	for i := i0; i < i1; i++ {
		k := i
		if rows != nil {
			k = int(rows[i])
		}
		xi, y := x[k*cols:(k+1)*cols], w.y[i*tileRows+j:]
		if r == 4 {
			y[0], y[1], y[2], y[3] = dot4(xi, t[:cols], t[cols:2*cols], t[2*cols:3*cols], t[3*cols:4*cols])
			continue
		}
		for q := range r {
			y[q] = dot(xi, t[q*cols:(q+1)*cols])
		}
	}
}

// dot is x · w. Even and odd elements are summed apart: the order that dot4 keeps for each of its rows.
func dot(x, w []float32) float32 {
	w = w[:len(x)]
	var a, b float32
	i := 0
	for ; i+1 < len(x); i += 2 {
		a += x[i] * w[i]
		b += x[i+1] * w[i+1]
	}
	if i < len(x) {
		a += x[i] * w[i]
	}
	return a + b
}

// dot4 is dot for four rows at once, which loads x once and keeps eight sums in flight.
func dot4(x, w0, w1, w2, w3 []float32) (float32, float32, float32, float32) {
	n := len(x)
	w0, w1, w2, w3 = w0[:n], w1[:n], w2[:n], w3[:n]
	var a0, a1, a2, a3, b0, b1, b2, b3 float32
	i := 0
	for ; i+1 < n; i += 2 {
		p, q := x[i], x[i+1]
		a0 += p * w0[i]
		b0 += q * w0[i+1]
		a1 += p * w1[i]
		b1 += q * w1[i+1]
		a2 += p * w2[i]
		b2 += q * w2[i+1]
		a3 += p * w3[i]
		b3 += q * w3[i+1]
	}
	if i < n {
		p := x[i]
		a0 += p * w0[i]
		a1 += p * w1[i]
		a2 += p * w2[i]
		a3 += p * w3[i]
	}
	return a0 + b0, a1 + b1, a2 + b2, a3 + b3
}
