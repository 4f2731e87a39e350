//go:build !noasm

package cpu

import (
	"math"

	"hearth/internal/dtype"
)

// levels lists what can run here, the oracle first, the best last. Every 64-bit ARM processor has NEON.
func levels() []level { return []level{portableLevel(), neonLevel(), neonDotLevel()} }

// neonLevel takes softmax, SwiGLU and the logits' sum from portable Go: they are a small share of a step.
func neonLevel() level {
	k := portable()
	k.direct, k.decode, k.mul, k.scores, k.mix = neonDirect, neonDecode, neonMul, neonScores, neonMix
	return level{name: "neon", title: "NEON", kernels: k}
}

// neonBlock is the pair of loops for a format whose scales, if any, come one for every 32 weights.
type neonBlock struct {
	bytes  int // of 32 weights
	dot    func(y, x *float32, data *byte, stride int, scales *byte, scaleStride, blocks int, tables *[256][32]byte)
	decode func(dst *float32, data, scales *byte, blocks int, tables *[256][32]byte)
}

var neonBlocks = [...]neonBlock{
	dtype.MXFP4:       {16, neonDotMXFP4, neonDecodeMXFP4},
	dtype.MXFP4GGML:   {17, neonDotMXFP4GGML, neonDecodeMXFP4GGML},
	dtype.MXFP4Ollama: {17, neonDotMXFP4Ollama, neonDecodeMXFP4Ollama},
	dtype.BF16:        {64, neonDotBF16, neonDecodeBF16},
	dtype.F16:         {64, neonDotF16, neonDecodeF16},
	dtype.F32:         {128, neonDotF32, neonDecodeF32},
	dtype.Q8_0:        {34, neonDotQ8_0, neonDecodeQ8_0},
}

// mxfp4Bytes holds, for every scale, the low and then the high bytes of the sixteen values as bfloat16: each is one of
// E2M1's eight magnitudes times a power of two, and exact. Read only.
var mxfp4Bytes = func() (t [256][32]byte) {
	for e := range t {
		for c, v := range dtype.E2M1 {
			b := dtype.ToBF16(v * dtype.FromE8M0(uint8(e)))
			t[e][c], t[e][16+c] = byte(b), byte(b>>8)
		}
	}
	return t
}()

// neonBlocksOf finds the loops for p, whose rows must be whole numbers of 32 weights in a row.
func neonBlocksOf(p *dtype.Plane) *neonBlock {
	if p.Transposed || p.Cols%32 != 0 || p.Cols == 0 || int(p.Format) >= len(neonBlocks) || neonBlocks[p.Format].dot == nil {
		return nil
	}
	return &neonBlocks[p.Format]
}

// neonCodes gives the values of p's codes and how table times scale is rounded. Rows must be whole numbers of blocks.
func neonCodes(p *dtype.Plane) (table *[16]float32, round int) {
	q := p.Quant
	if q == nil || p.Transposed || q.Block%32 != 0 || q.Block == 0 || p.Cols%q.Block != 0 || p.Cols == 0 {
		return nil, 0
	}
	switch q.Round {
	case dtype.F32:
	case dtype.F16:
		round = 1
	case dtype.BF16:
		round = 2
	default:
		return nil, 0
	}
	switch p.Format {
	case dtype.NF4:
		return &dtype.NF4Table, round
	case dtype.FP4:
		return &dtype.FP4Table, round
	}
	return nil, 0
}

// neonScales gives the scales of the blocks of rows [first, first+n), un-nested, a NaN as one to which rounding can add nothing.
func (w *worker) neonScales(p *dtype.Plane, first, n int) []float32 {
	per := p.Cols / p.Quant.Block
	dst := w.scales[:n*per]
	for i := range dst {
		if dst[i] = p.Quant.Scale(first*per + i); dst[i] != dst[i] {
			dst[i] = math.Float32frombits(0x7FC0_0000)
		}
	}
	return dst
}

func neonDecode(w *worker, dst []float32, p *dtype.Plane, first, n int) {
	dst = dst[:n*p.Cols]
	if k := neonBlocksOf(p); k != nil {
		from, count := first*p.Cols/32, n*p.Cols/32
		data := p.Data[from*k.bytes : (from+count)*k.bytes]
		var scales *byte
		if p.Scales != nil {
			scales = &p.Scales[from : from+count][0]
		}
		k.decode(&dst[0], &data[0], scales, count, &mxfp4Bytes)
		return
	}
	if table, round := neonCodes(p); table != nil {
		data := p.Data[first*p.Cols/2 : (first+n)*p.Cols/2]
		neonDecodeCodes(&dst[0], table, &data[0], &w.neonScales(p, first, n)[0], n*p.Cols/p.Quant.Block, p.Quant.Block/32, round)
		return
	}
	p.DecodeRows(dst, first, n)
}

// neonDirect is for a single row of activations: several share one decoding.
func neonDirect(w *worker, x []float32, rows []int32, n int, p *dtype.Plane, first, r int) bool {
	if n != 1 {
		return false
	}
	if rows != nil {
		x = x[int(rows[0])*p.Cols:]
	}
	x, y := x[:p.Cols], w.y[:r]
	if k := neonBlocksOf(p); k != nil {
		size, per := p.Cols/32*k.bytes, p.Cols/32
		data := p.Data[first*size : (first+r)*size]
		scales := p.Scales
		if scales == nil {
			scales, per = data, 0 // any byte: the format has its scales within
		} else {
			scales = scales[first*per : (first+r)*per]
		}
		quads(y, func(out *float32, j, step int) {
			k.dot(out, &x[0], &data[j*size], step*size, &scales[j*per], step*per, p.Cols/32, &mxfp4Bytes)
		})
		return true
	}
	table, round := neonCodes(p)
	if table == nil {
		return false
	}
	size, per := p.Cols/2, p.Cols/p.Quant.Block
	data := p.Data[first*size : (first+r)*size]
	scales := w.neonScales(p, first, r)
	quads(y, func(out *float32, j, step int) {
		neonDotCodes(out, &x[0], table, &data[j*size], step*size, &scales[j*per], 4*step*per, per, p.Quant.Block/32, round)
	})
	return true
}

// quads calls four for every four rows of y. The last rows are taken alone, each four times: step is then 0.
func quads(y []float32, four func(out *float32, j, step int)) {
	j := 0
	for ; j+4 <= len(y); j += 4 {
		four(&y[j], j, 1)
	}
	for ; j < len(y); j++ {
		var same [4]float32
		four(&same[0], j, 0)
		y[j] = same[0]
	}
}

func neonMul(w *worker, x []float32, rows []int32, n, cols, r int, _ []byte) {
	at := func(i int) []float32 {
		if rows != nil {
			i = int(rows[i])
		}
		return x[i*cols : (i+1)*cols]
	}
	// Four rows of weights stay in the first-level cache while every row of activations passes.
	for j := 0; j < r; j += 4 {
		wt := w.tile[j*cols:]
		for i := 0; i < n; i += 4 {
			m := min(4, n-i)
			var xs [4][]float32
			for a := range xs {
				xs[a] = at(i + min(a, m-1))
			}
			out := mulRows(&xs, m, wt, cols)
			for a := range m {
				copy(w.y[(i+a)*tileRows+j:(i+a)*tileRows+j+4], out[4*a:])
			}
		}
	}
}

// mulRows multiplies m rows of activations by four rows of cols weights.
func mulRows(xs *[4][]float32, m int, wt []float32, cols int) (out [16]float32) {
	if whole := cols &^ 3; whole > 0 {
		if m == 1 {
			neonMul1x4(&out, &xs[0][0], &wt[0], 4*cols, whole)
		} else {
			neonMul4x4(&out, &xs[0][0], &xs[1][0], &xs[2][0], &xs[3][0], &wt[0], 4*cols, whole)
		}
	}
	for c := cols &^ 3; c < cols; c++ {
		for a := range m {
			for b := range 4 {
				out[4*a+b] += float32(xs[a][c] * wt[b*cols+c]) // rounded: never fused, whatever m is
			}
		}
	}
	return out
}

func neonScores(dst []float32, stride int, q []float32, heads int, k []float32, size, first, keys, d int) {
	if size != runKeys {
		portableScores(dst, stride, q, heads, k, size, first, keys, d)
		return
	}
	k, q, _ = k[:runKeys*d], q[:heads*d], dst[(heads-1)*stride+keys-1]
	var run [4 * runKeys]float32 // where a run is read in part
	for h := 0; h < heads; {
		to, apart, m := &run[0], runKeys, 1
		if keys == runKeys {
			to, apart = &dst[h*stride], stride
		}
		if heads-h >= 4 {
			m = 4
			neonScore4x16(to, 4*apart, &q[h*d], 4*d, &k[0], d)
		} else {
			neonScore1x16(to, &q[h*d], &k[0], d)
		}
		if keys < runKeys {
			for i := range m {
				copy(dst[(h+i)*stride:][:keys], run[i*runKeys+first:])
			}
		}
		h += m
	}
}

func neonMix(a, v, weights []float32, stride, heads, keys, d int) {
	if d%64 != 0 {
		portableMix(a, v, weights, stride, heads, keys, d)
		return
	}
	a, v, _ = a[:heads*d], v[:keys*d], weights[(heads-1)*stride+keys-1]
	for h := range heads {
		for c := 0; c < d; c += 64 {
			neonMix64(&a[h*d+c], &v[c], 4*d, &weights[h*stride], keys)
		}
	}
}
