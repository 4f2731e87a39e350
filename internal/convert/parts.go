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

// advised is a source in files, which can be told what is read next through their mapping and what is not read again,
// and can be read without it.
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

	files sourceFiles

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
		if v := p.view(st); s.mapped(&v) {
			v.touch(s.hint.WillNeed)
		}
	}
}

// behind tells the source that a piece's weights are not needed again. Those of a gate are read once more with the up
// rows between them, and those of a transposed matrix with its other rows.
func (s *parts) behind(p *piece, v *view) {
	others := p.item.rows == gateRows || v.even.Transposed && v.first+v.rows < v.even.Rows
	if s.hint != nil && !others && s.mapped(v) {
		v.touch(s.hint.Done)
	}
}

// mapped says whether a view is read through the source's mapping.
func (s *parts) mapped(v *view) bool {
	path, _, ok := s.hint.Locate(v.even.Data)
	return ok && (v.shared || s.files.file(path) == nil)
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
