package convert

import (
	"fmt"
	"sync"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
)

// Source is the canonical view of a model's weights: a checkpoint, or one that is requantised while it is read.
type Source interface {
	Path() string
	Config() *checkpoint.Config
	Embedding() (dtype.Plane, error)
	FinalNorm() ([]float32, error)
	Head() (dtype.Plane, error)
	Layer(n int) (*checkpoint.Layer, error)
}

// Kind is a kind of weight, as reports group them.
type Kind string

// The kinds.
const (
	KindEmbedding Kind = "embedding"
	KindHead      Kind = "head"
	KindAttention Kind = "attention"
	KindRouter    Kind = "router"
	KindGateUp    Kind = "experts gate_up"
	KindDown      Kind = "experts down"
	KindVectors   Kind = "norms, biases, sinks"
)

// which names a weight of the model.
type which uint8

const (
	embedding which = iota
	head
	projQ
	projK
	projV
	projO
	router
	gateUp
	down
)

// weight is one weight matrix, or one of every expert, of the model.
type weight struct {
	which which
	layer int // 0 outside the layers
}

func (w weight) kind() Kind {
	return [...]Kind{
		embedding: KindEmbedding, head: KindHead, projQ: KindAttention, projK: KindAttention, projV: KindAttention, projO: KindAttention,
		router: KindRouter, gateUp: KindGateUp, down: KindDown,
	}[w.which]
}

func (w weight) isExperts() bool { return w.which == gateUp || w.which == down }

func (w weight) String() string {
	names := [...]string{
		embedding: "embedding", head: "head", projQ: "q", projK: "k", projV: "v", projO: "o", router: "router", gateUp: "gate_up", down: "down",
	}
	if w.which <= head {
		return names[w.which]
	}
	return fmt.Sprintf("layer %d %s", w.layer, names[w.which])
}

// undecoded is a source that gives a layer without its vectors: a plan needs to know no more.
type undecoded interface {
	LayerPlanes(n int) (*checkpoint.Layer, error)
}

// advised is a source in files: they can be told what is read next and what is not read again, and copied from.
type advised interface {
	WillNeed(b []byte)
	Done(b []byte)
	Locate(b []byte) (path string, offset int64, ok bool)
}

// parts reads a source and keeps the layers that are in use.
type parts struct {
	src  Source
	hint advised // nil: none is taken
	plan undecoded

	mu     sync.Mutex
	bare   bool // layers come without vectors
	layers map[int]*checkpoint.Layer
	ends   map[which]*dtype.Stack
}

// keptLayers is how many layers may be in use at once: workers run through the model in order.
const keptLayers = 4

func newParts(src Source) *parts {
	hint, _ := src.(advised)
	plan, _ := src.(undecoded)
	return &parts{src: src, hint: hint, plan: plan, layers: map[int]*checkpoint.Layer{}, ends: map[which]*dtype.Stack{}}
}

// ahead tells the source that a piece's weights are read soon.
func (s *parts) ahead(p *piece) {
	if s.hint == nil || p.item == nil {
		return
	}
	if st, err := s.stack(p.item.weight); err == nil { // an error shows when the piece's turn comes
		v := newView(st, p.expert, p.item.rows)
		v.touch(p.first, p.rows, s.hint.WillNeed)
	}
}

// behind tells the source that a piece's weights are not needed again. Those of a gate are read once more with the up
// rows between them.
func (s *parts) behind(p *piece, v *view) {
	if s.hint != nil && p.item.rows != gateRows {
		v.touch(p.first, p.rows, s.hint.Done)
	}
}

// planned lets layers come without their vectors until it is called again with false.
func (s *parts) planned(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bare = on && s.plan != nil
	clear(s.layers)
}

// layer gives a layer's weights and decoded vectors.
func (s *parts) layer(n int) (*checkpoint.Layer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.layers[n]; l != nil {
		return l, nil
	}
	read := s.src.Layer
	if s.bare {
		read = s.plan.LayerPlanes
	}
	l, err := read(n)
	if err != nil {
		return nil, err
	}
	for len(s.layers) >= keptLayers {
		farthest := -1
		for k := range s.layers {
			if farthest < 0 || distance(k, n) > distance(farthest, n) {
				farthest = k
			}
		}
		delete(s.layers, farthest)
	}
	s.layers[n] = l
	return l, nil
}

func distance(a, b int) int { return max(a-b, b-a) }

// stack gives a weight; a dense matrix is a stack of one.
func (s *parts) stack(w weight) (*dtype.Stack, error) {
	if w.which <= head {
		return s.end(w.which)
	}
	l, err := s.layer(w.layer)
	if err != nil {
		return nil, err
	}
	switch w.which {
	case gateUp:
		return &l.GateUp.Weight, nil
	case down:
		return &l.Down.Weight, nil
	}
	return &dtype.Stack{Even: []dtype.Plane{linear(l, w.which).Weight}}, nil
}

func linear(l *checkpoint.Layer, which which) checkpoint.Linear {
	switch which {
	case projQ:
		return l.Q
	case projK:
		return l.K
	case projV:
		return l.V
	case projO:
		return l.O
	}
	return l.Router
}

func (s *parts) end(which which) (*dtype.Stack, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.ends[which]; st != nil {
		return st, nil
	}
	get := s.src.Embedding
	if which == head {
		get = s.src.Head
	}
	p, err := get()
	if err != nil {
		return nil, err
	}
	s.ends[which] = &dtype.Stack{Even: []dtype.Plane{p}}
	return s.ends[which], nil
}

// view is a matrix as an output wants it: the rows of one expert in canonical order, or every second one.
type view struct {
	even, odd     *dtype.Plane // odd: where gate and up rows are stored apart
	first, stride int          // row r of the view is canonical row first + r*stride
	rows, cols    int
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
	v.stride = 2
	if sel == upRows {
		v.first = 1
	}
	return v
}

// planeView looks at a whole plane.
func planeView(p *dtype.Plane) view { return view{even: p, stride: 1, rows: p.Rows, cols: p.Cols} }

// plane is the plane that the view is, nil where it takes rows from here and there.
func (v *view) plane() *dtype.Plane {
	if v.odd == nil && v.stride == 1 {
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

// rowBytes gives the bytes of a plane that rows [first, first+n) are read from, apart from scales that are a small share.
func rowBytes(p *dtype.Plane, first, n int) []byte {
	switch {
	case p == nil:
		return nil
	case p.Transposed: // lines cross all rows
		if first > 0 {
			return nil
		}
		return p.Data
	}
	line := len(p.Data) / p.Rows
	return p.Data[first*line : min((first+n)*line, len(p.Data))]
}

// touch calls f for the bytes that rows [first, first+n) of the view are read from.
func (v *view) touch(first, n int, f func([]byte)) {
	first, n = v.first+first*v.stride, n*v.stride
	if v.odd != nil {
		first, n = first/2, n/2+1
	}
	n = min(n, v.even.Rows-first)
	f(rowBytes(v.even, first, n))
	f(rowBytes(v.odd, first, n))
}

// decode writes rows [first, first+n) as float32 to dst, [n, cols]. Scratch has room for twice as much where the view
// takes every second row of a plane.
func (v *view) decode(dst, scratch []float32, first, n int) {
	switch {
	case v.plane() != nil:
		v.even.DecodeRows(dst, first, n)
	case v.odd == nil: // neighbouring rows at once: a transposed plane is read in lines
		from := v.first + first*v.stride
		span := (n-1)*v.stride + 1
		v.even.DecodeRows(scratch[:span*v.cols], from, span)
		for i := range n {
			copy(dst[i*v.cols:(i+1)*v.cols], scratch[i*v.stride*v.cols:])
		}
	default:
		for i := range n {
			p, row := v.row(first + i)
			p.DecodeRows(dst[i*v.cols:(i+1)*v.cols], row, 1)
		}
	}
}
