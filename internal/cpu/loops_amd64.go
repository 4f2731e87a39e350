//go:build !noasm

package cpu

import (
	"unsafe"

	"hearth/internal/dtype"
)

// loops are what a level of vector kernels reads and multiplies weights with.
type loops struct {
	order  order
	few    int          // rows of activations that weights are read for as they are stored, once more for every two rows
	rows   []rowKernel  // by format
	codes  []codeKernel // bitsandbytes' codes by what they are rounded to
	tabled *rowKernel   // codes rounded to BF16, with a table for each step of 64, where there are no such codes above

	batches     []batchLoops // by format
	codeBatches []batchLoops // by what codes are rounded to
}

// rowKernel is the loops for a format.
type rowKernel struct {
	bytes  int // of a step
	scales int // bytes of a step's scales in a stream of their own
	dot    func(y, x *float32, panel int, data, scales *byte, rows, steps int)
	dotTwo func(y *float32, stride int, x, x2 *float32, panel int, data, scales *byte, rows, steps int)
	decode func(dst *float32, panel int, data, scales *byte, rows, steps int)
}

// codeKernel is the loops for codes: steps of 64, a float32 scale each.
type codeKernel struct {
	dot    func(y, x *float32, panel int, data, scales *byte, rows, steps int, table *[16]float32)
	dotTwo func(y *float32, stride int, x, x2 *float32, panel int, data, scales *byte, rows, steps int, table *[16]float32)
	decode func(dst *float32, panel int, data, scales *byte, rows, steps int, table *[16]float32)
}

// stream is where rows lie, and the loops that read them.
type stream struct {
	*rowKernel
	codes        *codeKernel // where there is no rowKernel
	data, scales *byte
	table        *[16]float32
	steps        int // of a row
}

// stream finds n rows of p, which must be whole numbers of steps. ok is false where the level has no loops for p.
func (l *loops) stream(w *worker, p *dtype.Plane, first, n int) (s stream, ok bool) {
	if p.Transposed || p.Cols%stepCols != 0 || p.Cols == 0 {
		return s, false
	}
	s.steps = p.Cols / stepCols
	bytesAt := func(b []byte, size int) *byte { return &b[first*s.steps*size : (first+n)*s.steps*size][0] }
	switch {
	case int(p.Format) < len(l.rows) && l.rows[p.Format].dot != nil:
		s.rowKernel = &l.rows[p.Format]
		s.data = bytesAt(p.Data, s.rowKernel.bytes)
		if size := s.rowKernel.scales; size > 0 {
			s.scales = bytesAt(p.Scales, size)
		}
		return s, true
	case !hasCodes(p):
		return s, false
	case int(p.Quant.Round) < len(l.codes) && l.codes[p.Quant.Round].dot != nil:
		s.codes, s.scales, s.table = &l.codes[p.Quant.Round], bytesOf(w.stepScales(p, first, n)), codeTable(p)
	default:
		s.rowKernel, s.scales = l.tabled, w.stepTables(p, first, n)
	}
	s.data = bytesAt(p.Data, stepCols/2)
	return s, true
}

// hasCodes says that p is NF4 or FP4 and its rows are whole numbers of blocks, and these of steps.
func hasCodes(p *dtype.Plane) bool {
	q := p.Quant
	return (p.Format == dtype.NF4 || p.Format == dtype.FP4) && q.Block > 0 && q.Block%stepCols == 0 && p.Cols%q.Block == 0
}

func (l *loops) direct(w *worker, x []float32, rows []int32, n int, p *dtype.Plane, first, r int) bool {
	b := l.batch(p)
	if n > l.few && (b == nil || n > b.most) {
		return false
	}
	s, ok := l.stream(w, p, first, r)
	switch {
	case !ok:
		return false
	case b == nil || n < l.few:
		l.dots(w, &s, x, rows, n, p, r)
		return true
	}
	even := r &^ 1 // pairs of rows
	if even > 0 {
		b.multiply(w, &s, x, rows, n, l.order.width(p.Cols), even, following(p, first+r, r))
	}
	if even < r {
		s, _ = l.stream(w, p, first+even, 1)
		defer func(y []float32) { w.y = y }(w.y) // also where memory faults
		w.y = w.y[even:]
		l.dots(w, &s, x, rows, n, p, 1)
	}
	return true
}

// dots multiplies r rows of the stream by one row of activations or two at a time.
func (l *loops) dots(w *worker, s *stream, x []float32, rows []int32, n int, p *dtype.Plane, r int) {
	width := l.order.width(p.Cols)
	panel := 4 * width / chains
	at := func(i int) *float32 {
		if rows != nil {
			i = int(rows[i])
		}
		return &x[i*width : (i+1)*width][0]
	}
	for i := 0; i < n; i += 2 {
		y := &w.y[i*tileRows : (i+1)*tileRows][0]
		switch {
		case i+1 < n && s.codes != nil:
			s.codes.dotTwo(y, 4*tileRows, at(i), at(i+1), panel, s.data, s.scales, r, s.steps, s.table)
		case i+1 < n:
			s.dotTwo(y, 4*tileRows, at(i), at(i+1), panel, s.data, s.scales, r, s.steps)
		case s.codes != nil:
			s.codes.dot(y, at(i), panel, s.data, s.scales, r, s.steps, s.table)
		default:
			s.dot(y, at(i), panel, s.data, s.scales, r, s.steps)
		}
	}
}

func (l *loops) decode(w *worker, dst []float32, p *dtype.Plane, first, n int) {
	width := l.order.width(p.Cols)
	dst = dst[:n*width]
	panel := 4 * width / chains
	s, ok := l.stream(w, p, first, n)
	switch {
	case !ok:
		raw := w.raw[:n*width]
		p.DecodeRows(raw, first, n)
		spread(raw, n, p.Cols, width)
		l.rows[dtype.F32].decode(&dst[0], panel, (*byte)(unsafe.Pointer(&raw[0])), nil, n, width/stepCols)
	case s.codes != nil:
		s.codes.decode(&dst[0], panel, s.data, s.scales, n, s.steps, s.table)
	default:
		s.decode(&dst[0], panel, s.data, s.scales, n, s.steps)
	}
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

func (l *loops) mul(w *worker, x []float32, rows []int32, n, width, r int, ahead []byte) {
	at := w.at[:n]
	for i := range at {
		row := i
		if rows != nil {
			row = int(rows[i])
		}
		at[i] = 4 * row * width
		_ = x[(row+1)*width-1]
	}
	chain, lanes := width/chains, l.order.lanes()
	m := tileMul{stride: 4 * width, lanes: lanes, lines: chain / 16, ahead: ahead}
	for i0 := 0; i0 < n; i0 += panelRows {
		block := at[i0:min(i0+panelRows, n)]
		for c := range chains {
			for j := 0; j < r; j += 4 {
				m.rows(&w.sums[j*panelRows*lanes], &x[c*chain], block, &w.tile[j*width+c*chain], c > 0)
			}
		}
		for j := 0; j < r; j += 4 {
			m.reduce(&w.y[i0*tileRows+j], &w.sums[j*panelRows*lanes], len(block))
		}
	}
}

// tileMul is what the products of a chain with four rows of a tile have in common.
type tileMul struct {
	stride, lanes int
	lines         int    // of 64 bytes in a chain
	ahead         []byte // not asked for yet
}

func (m *tileMul) rows(sums, x *float32, at []int, wt *float32, add bool) {
	if m.lanes == 16 {
		m.rows16(sums, x, at, wt, add)
		return
	}
	m.rows8(sums, x, at, wt, add)
}

func (m *tileMul) reduce(y, sums *float32, rows int) {
	if m.lanes == 16 {
		zmmReduceRows(y, 4*tileRows, sums, rows)
		return
	}
	reduceRows(y, 4*tileRows, sums, rows)
}

// ask is what a kernel that goes so many times through a chain may ask for of the memory ahead: as many lines as it reads
// of weights, or the same one again and again where none is left.
func (m *tileMul) ask(times int) (first *byte, line int) {
	n := min(len(m.ahead), 64*times*m.lines)
	if n == 0 {
		return &noMemory[0], 0
	}
	first, m.ahead = &m.ahead[0], m.ahead[n:]
	return first, 64
}

// noMemory is asked for where nothing is. Read only.
var noMemory [64]byte

func (l *loops) scores(dst []float32, stride int, q []float32, heads int, k []float32, size, first, keys, d int) {
	if size != runKeys {
		portableScores(dst, stride, q, heads, k, size, first, keys, d)
		return
	}
	most := 4
	if l.order == woven16 {
		most = 8
	}
	k, q, _ = k[:runKeys*d], q[:heads*d], dst[(heads-1)*stride+keys-1]
	var run [8 * runKeys]float32 // where a run is read in part
	for h := 0; h < heads; {
		m := 1
		if heads-h >= most {
			m = most
		}
		if keys == runKeys {
			l.scoreRun(&dst[h*stride], stride, &q[h*d], m, &k[0], d)
		} else {
			l.scoreRun(&run[0], runKeys, &q[h*d], m, &k[0], d)
			for i := range m {
				copy(dst[(h+i)*stride:][:keys], run[i*runKeys+first:])
			}
		}
		h += m
	}
}

// scoreRun multiplies one row of q, or most, by the keys of a run.
func (l *loops) scoreRun(y *float32, stride int, q *float32, m int, k *float32, d int) {
	switch {
	case l.order == woven16 && m == 1:
		zmmScore1x16(y, 4*stride, q, 4*d, k, d)
	case l.order == woven16:
		zmmScore8x16(y, 4*stride, q, 4*d, k, d)
	case m == 1:
		score1x16(y, 4*stride, q, 4*d, k, d)
	default:
		score4x16(y, 4*stride, q, 4*d, k, d)
	}
}
