//go:build !noasm

package cpu

import (
	"encoding/binary"
	"math"
	"strings"
	"unsafe"

	"golang.org/x/sys/cpu"

	"hearth/internal/dtype"
)

//go:generate go -C _asm run . -out ../avx2_amd64.s -stubs ../avx2_stubs_amd64.go -pkg cpu

// levels lists what can run here, the oracle first, the best last.
func levels() []level { return []level{portableLevel(), avx2Level()} }

func avx2Level() level {
	// The flags include the system's consent to save the wide registers.
	var missing []string
	for _, f := range []struct {
		name string
		has  bool
	}{{"AVX2", cpu.X86.HasAVX2}, {"FMA", cpu.X86.HasFMA}, {"F16C", cpu.X86.HasF16C}} {
		if !f.has {
			missing = append(missing, f.name)
		}
	}
	return level{name: "avx2", title: "AVX2", missing: strings.Join(missing, " and "), kernels: kernels{
		dot: avx2Dot, decode: avx2Decode, mul: avx2Mul, scores: avx2Scores, softmax: avx2Softmax, mix: avx2Mix,
		swiglu: avx2Swiglu, logSumExp: avx2LogSumExp,
	}}
}

// blockKernel is the pair of loops for a format whose scales, if any, come one for every 32 weights.
type blockKernel struct {
	bytes  int // of 32 weights
	rows   int // that dot takes at once
	dot    func(y, x *float32, data *byte, stride int, scales *byte, scaleStride, blocks, ahead int)
	decode func(dst *float32, data, scales *byte, blocks int)
}

var avx2Blocks = [...]blockKernel{
	dtype.MXFP4:       {16, 8, dotMXFP4, decodeMXFP4},
	dtype.MXFP4GGML:   {17, 8, dotMXFP4GGML, decodeMXFP4GGML},
	dtype.MXFP4Ollama: {17, 8, dotMXFP4Ollama, decodeMXFP4Ollama},
	dtype.BF16:        {64, 4, dotBF16, decodeBF16},
	dtype.F16:         {64, 4, dotF16, decodeF16},
	dtype.F32:         {128, 4, dotF32, decodeF32},
	dtype.Q8_0:        {34, 4, dotQ8_0, decodeQ8_0},
}

// codeKernel is the pair of loops for bitsandbytes' codes under one rounding.
type codeKernel struct {
	dot    func(y, x *float32, table *[16]float32, data *byte, stride int, scales *float32, scaleStride, blocks, eights, ahead int)
	decode func(dst *float32, table *[16]float32, data *byte, scales *float32, blocks, eights int)
	nf4    *[16]float32
	fp4    *[16]float32
}

var avx2Codes = [...]codeKernel{
	dtype.F32:  {dotCodesF32, decodeCodesF32, &dtype.NF4Table, &dtype.FP4Table},
	dtype.F16:  {dotCodesF16, decodeCodesF16, &dtype.NF4Table, &dtype.FP4Table},
	dtype.BF16: {dotCodesBF16, decodeCodesBF16, evenFirst(&dtype.NF4Table), evenFirst(&dtype.FP4Table)},
}

// evenFirst gives the even entries, then the odd ones.
func evenFirst(t *[16]float32) *[16]float32 {
	var e [16]float32
	for i, v := range t {
		e[i%2*8+i/2] = v
	}
	return &e
}

// mxfp4Tables holds, for every scale, the low and then the high bytes of the sixteen values as bfloat16: each is one of
// E2M1's eight magnitudes times a power of two, and exact. Read only.
var mxfp4Tables = func() (t [256][32]byte) {
	for e := range t {
		for c, v := range dtype.E2M1 {
			b := dtype.ToBF16(v * dtype.FromE8M0(uint8(e)))
			t[e][c], t[e][16+c] = byte(b), byte(b>>8)
		}
	}
	return t
}()

// blocks finds the loops for p, whose rows must be whole numbers of 32 weights in a row.
func blocks(p *dtype.Plane) *blockKernel {
	if p.Transposed || p.Cols%32 != 0 || p.Cols == 0 || int(p.Format) >= len(avx2Blocks) || avx2Blocks[p.Format].dot == nil {
		return nil
	}
	return &avx2Blocks[p.Format]
}

// codes finds the loops for p and the values of its codes. Rows must be whole numbers of blocks.
func codes(p *dtype.Plane) (*codeKernel, *[16]float32) {
	q := p.Quant
	if q == nil || p.Transposed || q.Block%32 != 0 || q.Block == 0 || p.Cols%q.Block != 0 || p.Cols == 0 ||
		int(q.Round) >= len(avx2Codes) || avx2Codes[q.Round].dot == nil {
		return nil, nil
	}
	k := &avx2Codes[q.Round]
	switch p.Format {
	case dtype.NF4:
		return k, k.nf4
	case dtype.FP4:
		return k, k.fp4
	}
	return nil, nil
}

func avx2Decode(w *worker, dst []float32, p *dtype.Plane, first, n int) {
	dst = dst[:n*p.Cols]
	if k := blocks(p); k != nil {
		from, count := first*p.Cols/32, n*p.Cols/32
		data := p.Data[from*k.bytes : (from+count)*k.bytes]
		var scales *byte
		if p.Scales != nil {
			scales = &p.Scales[from : from+count][0]
		}
		k.decode(&dst[0], &data[0], scales, count)
		return
	}
	if k, table := codes(p); k != nil {
		count := n * p.Cols / p.Quant.Block
		data := p.Data[first*p.Cols/2 : (first+n)*p.Cols/2]
		k.decode(&dst[0], table, &data[0], &w.blockScales(p, first, n)[0], count, p.Quant.Block/8)
		return
	}
	p.DecodeRows(dst, first, n)
}

// blockScales gives the float32 scales of the blocks of rows [first, first+n), un-nested.
func (w *worker) blockScales(p *dtype.Plane, first, n int) []float32 {
	q, perRow := p.Quant, p.Cols/p.Quant.Block
	from, count := first*perRow, n*perRow
	dst := w.scales[:count]
	if q.Codes == nil {
		src := q.Absmax[4*(q.First+from) : 4*(q.First+from+count)]
		copyScales(&dst[0], &src[0], count)
		return dst
	}
	for i := 0; i < count; {
		b := q.First + from + i
		run := min(count-i, q.NestedBlock-b%q.NestedBlock) // under one nested scale
		if eights := run / 8; eights > 0 {
			codes := q.Codes[b : b+8*eights]
			nested := math.Float32frombits(binary.LittleEndian.Uint32(q.Nested[b/q.NestedBlock*4:]))
			unnest(&dst[i], &codes[0], q.Map, nested, q.Offset, eights)
			i, run = i+8*eights, run-8*eights
		}
		for ; run > 0; i, run = i+1, run-1 {
			if dst[i] = q.Scale(from + i); dst[i] != dst[i] {
				dst[i] = plainNaN
			}
		}
	}
	return dst
}

// plainNaN is a NaN to which rounding can add nothing.
var plainNaN = math.Float32frombits(0x7FC0_0000)

func avx2Dot(w *worker, y, x []float32, p *dtype.Plane, first int) bool {
	x = x[:p.Cols]
	if k := blocks(p); k != nil {
		size, per := p.Cols/32*k.bytes, p.Cols/32
		data := p.Data[first*size : (first+len(y))*size]
		scales := p.Scales
		if scales != nil {
			scales = scales[first*per : (first+len(y))*per]
		}
		for j := 0; j < len(y); j += k.rows {
			s := &data[0] // any byte, where the format has its scales within
			if scales != nil {
				s = &scales[j*per]
			}
			if len(y)-j >= k.rows {
				k.dot(&y[j], &x[0], &data[j*size], size, s, per, per, aheadOf(j+k.rows, len(y), k.rows*size))
				continue
			}
			for i := j; i < len(y); i++ { // the last rows, each several times
				if scales != nil {
					s = &scales[i*per]
				}
				k.dot(&w.same[0], &x[0], &data[i*size], 0, s, 0, per, 0)
				y[i] = w.same[0]
			}
		}
		return true
	}
	k, table := codes(p)
	if k == nil {
		return false
	}
	size, per, eights := p.Cols/2, p.Cols/p.Quant.Block, p.Quant.Block/8
	data := p.Data[first*size : (first+len(y))*size]
	scales := w.blockScales(p, first, len(y))
	for j := 0; j < len(y); j += 4 {
		if len(y)-j >= 4 {
			k.dot(&y[j], &x[0], table, &data[j*size], size, &scales[j*per], 4*per, per, eights, aheadOf(j+4, len(y), 4*size))
			continue
		}
		for i := j; i < len(y); i++ {
			k.dot(&w.same[0], &x[0], table, &data[i*size], 0, &scales[i*per], 0, per, eights, 0)
			y[i] = w.same[0]
		}
	}
	return true
}

// aheadOf is how far to ask for memory before its time: the rows from next on, if they are this worker's.
func aheadOf(next, rows, bytes int) int {
	if next < rows {
		return bytes
	}
	return 0
}

func avx2Mul(w *worker, x []float32, rows []int32, n, cols, r int) {
	at := func(i int) *float32 {
		if rows != nil {
			i = int(rows[i])
		}
		return &x[i*cols : (i+1)*cols][0]
	}
	if n <= 3 {
		for j := 0; j < r; j += 4 {
			mulQuad(&w.y[j], at, 0, n, &w.tile[j*cols], 0, cols, cols, nil, true)
		}
		return
	}
	for i0 := 0; i0 < n; i0 += panelRows {
		i1 := min(i0+panelRows, n)
		for c := 0; c < cols; c += panelCols {
			width, end := min(panelCols, cols-c), c+panelCols >= cols
			if c == 0 && !end {
				clear(w.sums[:panelRows*tileRows*8])
			}
			for j := 0; j < r; j += 4 {
				for i := i0; i < i1; i += 3 {
					m := min(3, i1-i)
					sums := &w.sums[(j*panelRows+4*(i-i0))*8]
					if c == 0 && end {
						sums = nil
					}
					mulQuad(&w.y[i*tileRows+j], at, i, m, &w.tile[j*cols+c], c, width, cols, sums, end)
				}
			}
		}
	}
}

// mulQuad multiplies rows i..i+m-1, from column c on, by four rows of weights.
func mulQuad(y *float32, at func(int) *float32, i, m int, wt *float32, c, width, cols int, sums *float32, end bool) {
	off := uintptr(4 * c)
	x0 := (*float32)(unsafe.Add(unsafe.Pointer(at(i)), off))
	switch m {
	case 1:
		mul1x4(y, 4*tileRows, x0, wt, 4*cols, width, sums, end)
	case 2:
		x1 := (*float32)(unsafe.Add(unsafe.Pointer(at(i+1)), off))
		mul2x4(y, 4*tileRows, x0, x1, wt, 4*cols, width, sums, end)
	default:
		x1 := (*float32)(unsafe.Add(unsafe.Pointer(at(i+1)), off))
		x2 := (*float32)(unsafe.Add(unsafe.Pointer(at(i+2)), off))
		mul3x4(y, 4*tileRows, x0, x1, x2, wt, 4*cols, width, sums, end)
	}
}

func avx2Scores(dst []float32, stride int, q []float32, heads int, k []float32, keys, d int) {
	k = k[:keys*d]
	for h := 0; h < heads; h += 3 {
		m := min(3, heads-h)
		for i := 0; i+4 <= keys; i += 4 {
			scoreQuad(dst[h*stride+i:], stride, q[h*d:], m, k[i*d:], d, d)
		}
		for i := keys &^ 3; i < keys; i++ { // the last keys, each four times
			var four [12]float32
			scoreQuad(four[:], 4, q[h*d:], m, k[i*d:], 0, d)
			for j := range m {
				dst[(h+j)*stride+i] = four[4*j]
			}
		}
	}
}

func scoreQuad(y []float32, stride int, q []float32, m int, k []float32, kStride, d int) {
	_, q = y[(m-1)*stride+3], q[:m*d]
	switch m {
	case 1:
		mul1x4(&y[0], 4*stride, &q[0], &k[0], 4*kStride, d, nil, true)
	case 2:
		mul2x4(&y[0], 4*stride, &q[0], &q[d], &k[0], 4*kStride, d, nil, true)
	default:
		mul3x4(&y[0], 4*stride, &q[0], &q[d], &q[2*d], &k[0], 4*kStride, d, nil, true)
	}
}

func avx2Mix(a, v, weights []float32) {
	d := len(a)
	if d%64 != 0 || len(weights) == 0 {
		addWeighted(a, v, weights)
		return
	}
	v = v[:len(weights)*d]
	for c := 0; c < d; c += 64 {
		mix64(&a[c], &v[c], 4*d, &weights[0], len(weights))
	}
}
