//go:build !noasm

package cpu

import (
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
		order: woven8, direct: avx2Direct, decode: avx2Decode, mul: avx2Mul, scores: avx2Scores, softmax: avx2Softmax, mix: avx2Mix,
		swiglu: avx2Swiglu, logSumExp: avx2LogSumExp,
	}}
}

// rowKernel is the loops for a format.
type rowKernel struct {
	bytes  int // of a step
	scales int // bytes of a step's scales in a stream of their own
	dot    func(y, x *float32, panel int, data, scales *byte, rows, steps int)
	dotTwo func(y *float32, stride int, x, x2 *float32, panel int, data, scales *byte, rows, steps int)
	decode func(dst *float32, panel int, data, scales *byte, rows, steps int)
}

var avx2Rows = [...]rowKernel{
	dtype.MXFP4:       {32, 2, dotMXFP4, dotTwoMXFP4, decodeMXFP4},
	dtype.MXFP4GGML:   {34, 0, dotMXFP4GGML, dotTwoMXFP4GGML, decodeMXFP4GGML},
	dtype.MXFP4Ollama: {34, 0, dotMXFP4Ollama, dotTwoMXFP4Ollama, decodeMXFP4Ollama},
	dtype.BF16:        {128, 0, dotBF16, dotTwoBF16, decodeBF16},
	dtype.F16:         {128, 0, dotF16, dotTwoF16, decodeF16},
	dtype.F32:         {256, 0, dotF32, dotTwoF32, decodeF32},
	dtype.Q8_0:        {68, 0, dotQ8_0, dotTwoQ8_0, decodeQ8_0},
}

// codeRows are the loops for bitsandbytes' codes that are rounded to BF16: steps of 64 codes, a table each.
var codeRows = rowKernel{32, 32, dotCodesBF16, dotTwoCodesBF16, decodeCodesBF16}

// wideKernel is the loops for codes under another rounding: steps of 64 codes, a float32 scale each.
type wideKernel struct {
	dot    func(y, x *float32, panel int, data, scales *byte, rows, steps int, table *[16]float32)
	dotTwo func(y *float32, stride int, x, x2 *float32, panel int, data, scales *byte, rows, steps int, table *[16]float32)
	decode func(dst *float32, panel int, data, scales *byte, rows, steps int, table *[16]float32)
}

var wideRows = [...]wideKernel{
	dtype.F32: {dotCodesF32, dotTwoCodesF32, decodeCodesF32},
	dtype.F16: {dotCodesF16, dotTwoCodesF16, decodeCodesF16},
}

// The values of codes: even entries first, then the odd ones, as tablesBF16 wants them.
var nf4EvenFirst, fp4EvenFirst = evenFirst(&dtype.NF4Table), evenFirst(&dtype.FP4Table)

func evenFirst(t *[16]float32) *[16]float32 {
	var e [16]float32
	for i, v := range t {
		e[i%2*8+i/2] = v
	}
	return &e
}

// mxfp4Tables holds, for every scale, the low bytes of the sixteen values as bfloat16, twice, and then the high ones,
// twice: each value is one of E2M1's eight magnitudes times a power of two, and exact. Read only.
var mxfp4Tables = func() (t [256][64]byte) {
	for e := range t {
		for c, v := range dtype.E2M1 {
			b := dtype.ToBF16(v * dtype.FromE8M0(uint8(e)))
			t[e][c], t[e][16+c] = byte(b), byte(b)
			t[e][32+c], t[e][48+c] = byte(b>>8), byte(b>>8)
		}
	}
	return t
}()

// rowsOf finds the loops for p, whose rows must be whole numbers of steps.
func rowsOf(p *dtype.Plane) *rowKernel {
	if p.Transposed || int(p.Format) >= len(avx2Rows) {
		return nil
	}
	k := &avx2Rows[p.Format]
	if k.dot == nil || p.Cols%stepCols != 0 || p.Cols == 0 {
		return nil
	}
	return k
}

// hasCodes says that p is NF4 or FP4 and its rows are whole numbers of blocks, and these of steps.
func hasCodes(p *dtype.Plane) bool {
	q := p.Quant
	return (p.Format == dtype.NF4 || p.Format == dtype.FP4) && !p.Transposed && p.Cols > 0 &&
		q.Block > 0 && q.Block%stepCols == 0 && p.Cols%q.Block == 0
}

// directRows is up to how many rows of activations weights are read as they are stored, once more for every two rows.
// For more it takes less to decode them once and to multiply by three rows at a time.
const directRows = 6

func avx2Direct(w *worker, x []float32, rows []int32, n int, p *dtype.Plane, first, r int) bool {
	if n > directRows && (n > 8 || p.Format != dtype.BF16) { // BF16 is decoded in no time
		return false
	}
	var data, scales *byte
	var table *[16]float32
	k, wide := rowsOf(p), (*wideKernel)(nil)
	switch {
	case k != nil:
		data, scales = k.streams(p, first, r)
	case !hasCodes(p):
		return false
	case p.Quant.Round == dtype.BF16:
		k, scales = &codeRows, w.stepTables(p, first, r)
	default:
		wide, scales, table = &wideRows[p.Quant.Round], bytesOf(w.stepScales(p, first, r)), codeTable(p)
	}
	if data == nil {
		data = &p.Data[first*p.Cols/2 : (first+r)*p.Cols/2][0]
	}
	width := woven8.width(p.Cols)
	panel, steps := 4*width/chains, p.Cols/stepCols
	at := func(i int) *float32 {
		if rows != nil {
			i = int(rows[i])
		}
		return &x[i*width : (i+1)*width][0]
	}
	for i := 0; i < n; i += 2 {
		y := &w.y[i*tileRows : (i+1)*tileRows][0]
		switch {
		case i+1 < n && wide != nil:
			wide.dotTwo(y, 4*tileRows, at(i), at(i+1), panel, data, scales, r, steps, table)
		case i+1 < n:
			k.dotTwo(y, 4*tileRows, at(i), at(i+1), panel, data, scales, r, steps)
		case wide != nil:
			wide.dot(y, at(i), panel, data, scales, r, steps, table)
		default:
			k.dot(y, at(i), panel, data, scales, r, steps)
		}
	}
	return true
}

func avx2Decode(w *worker, dst []float32, p *dtype.Plane, first, n int) {
	width := woven8.width(p.Cols)
	dst = dst[:n*width]
	panel, steps := 4*width/chains, p.Cols/stepCols
	if k := rowsOf(p); k != nil {
		data, scales := k.streams(p, first, n)
		k.decode(&dst[0], panel, data, scales, n, steps)
		return
	}
	if hasCodes(p) {
		data := &p.Data[first*p.Cols/2 : (first+n)*p.Cols/2][0]
		if p.Quant.Round == dtype.BF16 {
			codeRows.decode(&dst[0], panel, data, w.stepTables(p, first, n), n, steps)
			return
		}
		scales, table := w.stepScales(p, first, n), codeTable(p)
		wideRows[p.Quant.Round].decode(&dst[0], panel, data, bytesOf(scales), n, steps, table)
		return
	}
	raw := w.raw[:n*width]
	p.DecodeRows(raw, first, n)
	spread(raw, n, p.Cols, width)
	decodeF32(&dst[0], panel, (*byte)(unsafe.Pointer(&raw[0])), nil, n, width/stepCols)
}

// spread moves n rows apart that follow one another, and fills what is between with zeros.
func spread(v []float32, n, cols, width int) {
	if cols == width {
		return
	}
	for i := n - 1; i >= 0; i-- {
		copy(v[i*width:], v[i*cols:(i+1)*cols])
		clear(v[i*width+cols : (i+1)*width])
	}
}

func codeTable(p *dtype.Plane) *[16]float32 {
	if p.Format == dtype.NF4 {
		return &dtype.NF4Table
	}
	return &dtype.FP4Table
}

// streams finds the bytes of n rows.
func (k *rowKernel) streams(p *dtype.Plane, first, n int) (data, scales *byte) {
	size := p.Cols / stepCols * k.bytes
	data = &p.Data[first*size : (first+n)*size][0]
	if k.scales > 0 {
		size := p.Cols / stepCols * k.scales
		scales = &p.Scales[first*size : (first+n)*size][0]
	}
	return data, scales
}

func avx2Mul(w *worker, x []float32, rows []int32, n, width, r int, ahead []byte) {
	at := w.at[:n]
	for i := range at {
		row := i
		if rows != nil {
			row = int(rows[i])
		}
		at[i] = 4 * row * width
		_ = x[(row+1)*width-1]
	}
	chain := width / chains
	m := tileMul{stride: 4 * width, groups: chain / 8, ahead: ahead}
	for i0 := 0; i0 < n; i0 += panelRows {
		block := at[i0:min(i0+panelRows, n)]
		for c := range chains {
			for j := 0; j < r; j += 4 {
				m.rows(&w.sums[j*panelRows*8], &x[c*chain], block, &w.tile[j*width+c*chain], c > 0)
			}
		}
		for j := 0; j < r; j += 4 {
			reduceRows(&w.y[i0*tileRows+j], 4*tileRows, &w.sums[j*panelRows*8], len(block))
		}
	}
}

// tileMul is what the products of a chain with four rows of a tile have in common.
type tileMul struct {
	stride, groups int
	ahead          []byte // not asked for yet
}

// rows takes rows of activations three at a time, and the last two or four in pairs.
func (m *tileMul) rows(sums, x *float32, at []int, wt *float32, add bool) {
	n := len(at)
	if n == 1 {
		ahead, line := m.lines(1)
		mul1x4(sums, x, &at[0], 1, wt, m.stride, m.groups, add, ahead, line)
		return
	}
	pairs := [3]int{0, 2, 1}[n%3]
	triples := (n - 2*pairs) / 3
	if triples > 0 {
		ahead, line := m.lines(triples)
		mul3x4(sums, x, &at[0], triples, wt, m.stride, m.groups, add, ahead, line)
	}
	if pairs > 0 {
		ahead, line := m.lines(pairs)
		mul2x4(at4(sums, 3*triples*4*8), x, &at[3*triples], pairs, wt, m.stride, m.groups, add, ahead, line)
	}
}

// lines is what a kernel that goes so many times through a chain may ask for of the memory ahead: lines of 64 bytes, or
// the same one again and again where none is left.
func (m *tileMul) lines(times int) (first *byte, line int) {
	n := min(len(m.ahead), 64*times*m.groups/2)
	if n == 0 {
		return &noMemory[0], 0
	}
	first, m.ahead = &m.ahead[0], m.ahead[n:]
	return first, 64
}

// noMemory is asked for where nothing is. Read only.
var noMemory [64]byte

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
		score1x4(&y[0], 4*stride, &q[0], 4*d, &k[0], 4*kStride, d)
	case 2:
		score2x4(&y[0], 4*stride, &q[0], 4*d, &k[0], 4*kStride, d)
	default:
		score3x4(&y[0], 4*stride, &q[0], 4*d, &k[0], 4*kStride, d)
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
