package cpu

import (
	"errors"
	"fmt"
	"sync/atomic"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

// session holds one model: its weights in place, the paged KV cache and the activations of a step.
type session struct {
	spec  device.Spec
	lim   device.Limits
	pool  *pool
	nodes [][]int // processors of each NUMA node

	readAhead atomic.Bool // operations ask for their weights before they use them
	mem       device.Memory
	read      device.Reads

	embedding dtype.Plane
	layers    []device.Layer
	loaded    []bool
	finalNorm []float32
	head      dtype.Plane

	// in the level's order: rows of hidden size, of the attention's output, of the experts' activations
	hidden, mixed, inner input

	// Of each layer: values are [KVHeads, pages, PageSize, HeadDim]; keys [KVHeads, pages, PageSize/keyRun, HeadDim, keyRun], so
	// that a register holds the same value of several.
	keys, values [][]float32
	keyRun       int

	batch  *device.Batch
	tokens int

	x         []float32 // residual, [tokens, Hidden]
	t         []float32 // normed, [tokens, Hidden], in the level's order
	q         []float32 // [tokens, Heads*HeadDim]
	k, v      []float32 // [tokens, KVHeads*HeadDim]
	a         []float32 // attention output, [tokens, Heads*HeadDim], in the level's order
	cos       []float32 // [tokens, HeadDim/2], with the YaRN factor
	sin       []float32
	seqOf     []int32       // token -> index in batch.Seqs
	blocks    []attendBlock // of the batch
	route     []float32     // router logits, [tokens, Experts]
	chosen    []int32       // [tokens, TopK], by descending logit
	weight    []float32     // [tokens, TopK]
	h         []float32     // expert activations, [tokens*TopK, Intermediate], in the level's order
	o         []float32     // expert outputs without bias, [tokens*TopK, Hidden]
	groups    expertGroups
	scoreRoom int       // positions that a worker has scores for, of each head of a group
	logits    []float32 // [logit rows, Vocab]
	out       []device.Output

	rounded []int8Step // an operation's input in int8; nil unless activations are rounded so

	terms int      // BF16 that an activation is multiplied as: 0 none, 1 if it is rounded
	pairs []uint32 // an operation's input in BF16; nil where the level does not multiply it

	jobs jobs
}

// input says where the values of a row of activations go.
type input struct {
	n     int     // values of a row
	width int     // of a row
	at    []int32 // the place of each value; nil: its own
}

func newInput(o order, n int) input { return input{n, o.width(n), o.places(n)} }

// jobs are the operations, kept in the session so that a step allocates nothing.
type jobs struct {
	embed  embedJob
	rope   ropeJob
	norm   normJob
	linear linearJob
	attend attendJob
	route  routeJob
	gateUp gateUpJob
	down   downJob
	sum    sumJob
	sample sampleJob
	round  roundJob
	pair   pairJob
	bf16   bf16Job
}

// newSession starts the workers; nodes are those of newPool.
func newSession(spec device.Spec, lim device.Limits, threads int, nodes [][]int, k *kernels) *session {
	s := &session{spec: spec, lim: lim, nodes: nodes, layers: make([]device.Layer, spec.Layers), loaded: make([]bool, spec.Layers)}
	T, qw, kw := lim.MaxTokens, spec.Heads*spec.HeadDim, spec.KVHeads*spec.HeadDim
	s.hidden, s.mixed, s.inner = newInput(k.order, spec.Hidden), newInput(k.order, qw), newInput(k.order, spec.Intermediate)
	H, Q, I := s.hidden.width, s.mixed.width, s.inner.width

	buffers := []struct {
		p *[]float32
		n int
	}{
		{&s.x, T * spec.Hidden}, {&s.t, T * H}, {&s.q, T * qw}, {&s.k, T * kw}, {&s.v, T * kw}, {&s.a, T * Q},
		{&s.cos, T * spec.HeadDim / 2}, {&s.sin, T * spec.HeadDim / 2}, {&s.route, T * spec.Experts},
		{&s.weight, T * spec.TopK}, {&s.h, T * spec.TopK * I}, {&s.o, T * spec.TopK * spec.Hidden}, {&s.logits, lim.MaxLogits * spec.Vocab},
	}
	for _, b := range buffers {
		*b.p = make([]float32, b.n)
		s.mem.Activation += int64(b.n) * 4
	}
	s.seqOf = make([]int32, T)
	s.chosen = make([]int32, T*spec.TopK)
	s.out = make([]device.Output, lim.MaxLogits)
	s.groups = newExpertGroups(T, &spec)

	s.read.Key = 2 * 4 * int64(kw)
	s.keyRun = runKeys
	if lim.PageSize%runKeys != 0 {
		s.keyRun = lim.PageSize
	}
	s.keys, s.values = make([][]float32, spec.Layers), make([][]float32, spec.Layers)
	for l, w := range spec.Windows {
		pages := lim.FullPages
		if w > 0 {
			pages = lim.WindowPages
		}
		n := pages * lim.PageSize * kw
		s.keys[l], s.values[l] = make([]float32, n), make([]float32, n)
		adviseHuge(s.keys[l])
		adviseHuge(s.values[l])
		s.mem.KV += int64(n) * 8
	}

	widest := max(H, I, Q)
	s.scoreRoom = scoreRoom(max(lim.FullPages, lim.WindowPages) * lim.PageSize)
	s.blocks = make([]attendBlock, 0, T)
	workers := make([]*worker, threads)
	for i := range workers {
		workers[i] = &worker{
			k:      k,
			tile:   make([]float32, tileRows*widest),
			raw:    make([]float32, tileRows*widest),
			y:      make([]float32, max(T, lim.MaxLogits)*tileRows),
			odd:    make([]float32, max(T, lim.MaxLogits)*tileRows),
			at:     make([]int, T),
			heads:  make([]float32, attendTokens*spec.Heads/spec.KVHeads*spec.HeadDim),
			sums:   make([]float32, panelRows*tileRows*k.order.lanes()),
			scales: make([]float32, tileRows*widest/64),
			tables: make([][32]byte, tileRows*widest/64),
			scores: make([]float32, spec.Heads/spec.KVHeads*s.scoreRoom),
			draw:   newDrawScratch(spec.Vocab),
		}
	}
	s.pool = newPool(workers, nodes)
	s.jobs = jobs{
		embed: embedJob{s}, rope: ropeJob{s: s}, norm: normJob{s: s}, linear: linearJob{s: s}, attend: attendJob{s: s},
		route: routeJob{s}, gateUp: gateUpJob{s: s}, down: downJob{s: s}, sum: sumJob{s: s}, sample: sampleJob{s},
	}
	return s
}

func (s *session) Close() error {
	s.pool.close()
	return nil
}

func (s *session) Memory() device.Memory { return s.mem }
func (s *session) Reads() device.Reads   { return s.read }

func (s *session) LoadEmbedding(p dtype.Plane) error {
	s.embedding = p
	s.read.AddEmbedding(p)
	return s.keep("embedding", &p, s.spec.Vocab, s.spec.Hidden)
}

func (s *session) LoadHead(norm []float32, p dtype.Plane) error {
	s.finalNorm, s.head = norm, p
	s.read.AddHead(norm, p)
	return errors.Join(vector("final norm", norm, s.spec.Hidden), s.keep("head", &p, s.spec.Vocab, s.spec.Hidden))
}

func (s *session) LoadLayer(l int, w *device.Layer) error {
	if l < 0 || l >= s.spec.Layers {
		return fmt.Errorf("layer %d of %d", l, s.spec.Layers)
	}
	sp := &s.spec
	qw, kw := sp.Heads*sp.HeadDim, sp.KVHeads*sp.HeadDim
	err := errors.Join(
		vector("attention norm", w.AttnNorm, sp.Hidden), vector("MLP norm", w.MLPNorm, sp.Hidden), vector("sinks", w.Sinks, sp.Heads),
		s.keepLinear("q", &w.Q, qw, sp.Hidden), s.keepLinear("k", &w.K, kw, sp.Hidden), s.keepLinear("v", &w.V, kw, sp.Hidden),
		s.keepLinear("o", &w.O, sp.Hidden, qw), s.keepLinear("router", &w.Router, sp.Experts, sp.Hidden),
		s.keepExperts("gate_up", &w.GateUp, 2*sp.Intermediate, sp.Hidden), s.keepExperts("down", &w.Down, sp.Hidden, sp.Intermediate),
	)
	if err != nil {
		return fmt.Errorf("layer %d: %w", l, err)
	}
	s.layers[l], s.loaded[l] = *w, true
	s.read.AddLayer(w)
	return nil
}

func (s *session) keepLinear(name string, l *device.Linear, rows, cols int) error {
	err := s.keep(name, &l.Weight, rows, cols)
	if l.Bias != nil {
		err = errors.Join(err, vector(name+" bias", l.Bias, rows))
	}
	return err
}

func (s *session) keepExperts(name string, x *device.Experts, rows, cols int) error {
	if n := x.Weight.Experts(); n != s.spec.Experts {
		return fmt.Errorf("%s has %d experts, want %d", name, n, s.spec.Experts)
	}
	if x.Weight.Odd != nil {
		rows /= 2
	}
	for _, planes := range [][]dtype.Plane{x.Weight.Even, x.Weight.Odd} {
		for e := range planes {
			if err := s.keep(fmt.Sprintf("%s of expert %d", name, e), &planes[e], rows, cols); err != nil {
				return err
			}
		}
	}
	full, _ := x.Weight.Shape()
	return vector(name+" bias", x.Bias, s.spec.Experts*full)
}

func (s *session) keep(name string, p *dtype.Plane, rows, cols int) error {
	if p.Rows != rows || p.Cols != cols {
		return fmt.Errorf("%s is [%d, %d], want [%d, %d]", name, p.Rows, p.Cols, rows, cols)
	}
	if err := p.Check(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.mem.Mapped += p.Bytes()
	return nil
}

func vector(name string, v []float32, n int) error {
	if len(v) != n {
		return fmt.Errorf("%s has %d values, want %d", name, len(v), n)
	}
	return nil
}
