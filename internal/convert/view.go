package convert

import "hearth/internal/dtype"

// view is a matrix as an output wants it, or some rows of it: those of one expert in canonical order, or every second
// one.
type view struct {
	even, odd     *dtype.Plane // odd: where gate and up rows are stored apart
	first, stride int          // row r of the view is canonical row first + r*stride of its planes
	rows, cols    int
	shared        bool // other views need some of the bytes that this one is read from
}

// rowsOf says which of a projection's canonical rows an item writes.
type rowsOf uint8

const (
	allRows  rowsOf = iota
	gateRows        // even
	upRows          // odd
)

// newView looks at the rows of expert e.
func newView(s *dtype.Stack, e int, sel rowsOf) view {
	rows, cols := s.Shape()
	v := view{even: &s.Even[e], stride: 1, rows: rows, cols: cols}
	if s.Odd != nil {
		v.odd = &s.Odd[e]
	}
	if sel == allRows {
		return v
	}
	v.rows /= 2
	if v.odd != nil { // stored apart: one plane is the view
		if sel == upRows {
			v.even = v.odd
		}
		v.odd = nil
		return v
	}
	v.stride, v.shared = 2, true
	if sel == upRows {
		v.first = 1
	}
	return v
}

// planeView looks at a whole plane.
func planeView(p *dtype.Plane) view { return view{even: p, stride: 1, rows: p.Rows, cols: p.Cols} }

// narrow gives rows [first, first+n) as a view of their own. Its planes hold them alone, or with the rows between every
// second one; where lines or blocks cross the cut they are the old ones, shared.
func (v view) narrow(first, n int) view {
	from, to := first*v.stride, (first+n)*v.stride
	v.rows = n
	low, high, start := from, to, v.first
	if v.odd != nil {
		low, high, start = from/2, (to+1)/2, from%2
	}
	even, ok := cut(v.even, low, high)
	odd := v.odd
	if ok && odd != nil {
		odd, ok = cut(odd, low, high)
	}
	if !ok {
		v.first, v.shared = v.first+from, true
		return v
	}
	v.even, v.odd, v.first = even, odd, start
	return v
}

// cut gives rows [from, to) of a plane as a plane of their own, with the scales that belong to them. It reports false
// where a line or a block has values of other rows.
func cut(p *dtype.Plane, from, to int) (*dtype.Plane, bool) {
	c := *p
	all := from == 0 && to == p.Rows
	if p.Transposed && !all {
		return nil, false
	}
	share := func(b []byte) []byte {
		line := len(b) / p.Rows
		return b[from*line : to*line]
	}
	if !all {
		c.Rows, c.Data, c.Scales = to-from, share(p.Data), share(p.Scales)
	}
	if p.Quant == nil {
		return &c, true
	}
	q := *p.Quant
	if !all && (p.Cols%2 != 0 || from*p.Cols%q.Block != 0) {
		return nil, false
	}
	first, blocks := q.First+from*p.Cols/q.Block, ((to-from)*p.Cols+q.Block-1)/q.Block
	switch {
	case q.Codes == nil:
		q.Absmax, q.First = q.Absmax[4*first:4*(first+blocks)], 0
	case first%q.NestedBlock == 0:
		n := first / q.NestedBlock
		q.Codes, q.First = q.Codes[first:first+blocks], 0
		q.Nested = q.Nested[4*n : 4*(n+(blocks+q.NestedBlock-1)/q.NestedBlock)]
	default: // begins within a block of scales
		q.First = first
	}
	c.Quant = &q
	return &c, true
}

// view looks at the rows of a piece in its weight.
func (p *piece) view(s *dtype.Stack) view {
	return newView(s, p.expert, p.item.rows).narrow(p.first, p.rows)
}

// touch calls f for the bytes that the view is read from, apart from scales.
func (v *view) touch(f func([]byte)) {
	first, n := v.first, (v.rows-1)*v.stride+1
	if v.odd != nil {
		first, n = first/2, n/2+1
	}
	for _, p := range []*dtype.Plane{v.even, v.odd} {
		switch {
		case p == nil:
		case p.Transposed: // lines cross all rows
			f(p.Data)
		default:
			line := len(p.Data) / p.Rows
			f(p.Data[first*line : min(first+n, p.Rows)*line])
		}
	}
}

// plane is the plane that the view is, nil where it takes rows from here and there.
func (v *view) plane() *dtype.Plane {
	if v.odd == nil && v.stride == 1 && v.rows == v.even.Rows {
		return v.even
	}
	return nil
}

// row finds row r of the view.
func (v *view) row(r int) (p *dtype.Plane, row int) {
	r = v.first + r*v.stride
	if v.odd == nil {
		return v.even, r
	}
	if r%2 == 1 {
		return v.odd, r / 2
	}
	return v.even, r / 2
}

// decode writes rows [first, first+n) as float32 to dst, [n, cols]. Scratch has room for twice as much where the view
// takes every second row of a plane.
func (v *view) decode(dst, scratch []float32, first, n int) {
	from := v.first + first*v.stride
	switch {
	case v.odd != nil:
		for i := range n {
			p, row := v.row(first + i)
			p.DecodeRows(dst[i*v.cols:(i+1)*v.cols], row, 1)
		}
	case v.stride == 1:
		v.even.DecodeRows(dst, from, n)
	default: // neighbouring rows at once: a transposed plane is read in lines
		span := (n-1)*v.stride + 1
		v.even.DecodeRows(scratch[:span*v.cols], from, span)
		for i := range n {
			copy(dst[i*v.cols:(i+1)*v.cols], scratch[i*v.stride*v.cols:])
		}
	}
}
