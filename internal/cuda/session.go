package cuda

import (
	"errors"
	"fmt"
	"slices"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

// session is one model on one GPU.
//
// A step's operations are only noted when the model names them, and enqueued together by Finish: a decode step as one
// captured graph, anything else kernel by kernel. One token takes the row path, whose kernels are fused across the
// borders of the contract's operations (norm into the projections, the router into the output projection); several take
// the batch path, on tensor cores.
type session struct {
	c       *context
	shape   *shape
	options Options

	dense   *denseOps
	experts *expertOps
	attend  *attendOps
	sample  *sampleOps
	input   *stepInput
	graphs  *graphs // nil: off
	work    *expertWorkspace

	embedding *embedding
	head      denseWeight
	finalNorm devptr
	layers    []layerWeights
	loaded    []bool
	kv        []kvLayer
	act       activations
	owned     []buffer
	before    [uses]int64 // books when the session began
	loader    *uploader   // while weights are loaded
	made      [2]*poolSet // weights without content are filled from: into, back; nil: there are none
	notes     []string
	read      device.Reads
	closed    bool

	batch *device.Batch // of the step under way
	step  stepShape
	noted int // operations that the model has named
	done  int // of them, enqueued
	split int // planes of the last output projection
}

// activations are the session's own buffers.
type activations struct {
	x       devptr // float32 [MaxTokens, Hidden]
	t       devptr // BF16 [MaxTokens, Hidden]
	planes  devptr // float32, what a split product needs
	q, a    devptr // BF16 [MaxTokens, Heads*64]
	logits  devptr // float32 [MaxLogits, Vocab]
	gather  devptr // BF16 [MaxLogits, Hidden]
	row     rowActivations
	staging [2]buffer // parts of the arena: room for loading, when nothing else needs it
}

// rowActivations are those of the row path.
type rowActivations struct {
	x      [2]devptr // float32 [Hidden]; layer l reads x[l%2] and writes the other
	planes devptr    // float32 [2, Hidden], added to x by whoever reads it
	qkv, a devptr    // float32 [qkvRows], [Heads*64]
	acc    devptr    // uint64 [Experts+1]: the router's sums, in fixed point
	h      devptr    // [TopK, Intermediate], 4 bytes each at most
	choice devptr    // int32 [TopK], then float32 [TopK]
}

// graphTokens is the largest step that is captured: beyond it the GPU works longer than the host needs to enqueue.
const (
	graphTokens = 128
	graphsKept  = 64
)

// NewSession reserves the KV cache, the activations and everything that the kernels need; only weights come later. It
// refuses sizes that the kernels are not made for.
func (d *Device) NewSession(spec device.Spec, lim device.Limits) (device.Session, error) {
	s := &session{c: d.c, options: d.options, before: d.c.memory.taken}
	if err := s.open(spec, lim); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *session) open(spec device.Spec, lim device.Limits) (err error) {
	c := s.c
	if c.lost != nil {
		return c.lost
	}
	c.enter()
	defer c.leave()
	if s.shape, err = newShape(spec, lim, c.info.sms); err != nil {
		return err
	}
	s.layers, s.loaded = make([]layerWeights, spec.Layers), make([]bool, spec.Layers)
	if err := c.compile(s.openModules()...); err != nil {
		return err
	}
	if s.attend, err = newAttend(c, s.shape, s.options.Int8KV); err != nil {
		return err
	}
	if s.dense, err = newDense(c, s.shape); err != nil {
		return err
	}
	if s.experts, err = newExperts(c, s.shape); err != nil {
		return err
	}
	if s.sample, err = newSample(c, s.shape); err != nil {
		return err
	}
	if s.embedding, err = newEmbedding(c); err != nil {
		return err
	}
	if s.input, err = newStepInput(c, s.shape, s.attend.tileRows()); err != nil {
		return err
	}
	if s.work, err = s.experts.newWorkspace(lim.MaxTokens); err != nil {
		return err
	}
	if err := s.openActivations(); err != nil {
		return err
	}
	if err := s.openKV(); err != nil {
		return err
	}
	if s.options.Int8KV {
		s.note("keys and values: rounded to int8, with a scale for each token and head")
	}
	if s.options.NoGraphs {
		s.note("CUDA graphs are off: decoding is slower")
	} else {
		s.graphs = newGraphs(c, graphsKept)
	}
	return c.queue.sync()
}

// openModules names the kernels that every model needs.
func (s *session) openModules() []string {
	kv, wide := "_bf16", ""
	if s.options.Int8KV {
		kv = "_int8"
	}
	if s.shape.group > 8 {
		wide = "_wide"
	}
	return []string{"pack", "dense_pack", "step", "norm", "rope", "route", "sample", "pick", "attend_decode" + wide + kv, "attend_prefill" + kv}
}

// layerModules names those of its formats.
func (s *session) layerModules(w *device.Layer) ([]string, error) {
	var names []string
	o := denseOptions{int8: s.options.Int8Dense}
	for _, planes := range [][]dtype.Plane{{w.Q.Weight, w.K.Weight, w.V.Weight}, {w.O.Weight}} {
		f, _ := denseChoice(planes, o)
		row, _, _ := f.rowVariant(planes[0].Cols)
		names = append(names, row, "dense_gemm_"+f.kernelSuffix())
	}
	for _, x := range []*device.Experts{&w.GateUp, &w.Down} {
		p, err := planExperts(x)
		if err != nil {
			return nil, err
		}
		names = append(names, "experts_*_"+p.format.suffix())
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

type sized struct {
	to    *devptr
	bytes int64
}

func (s *session) openActivations() error {
	sh, a := s.shape, &s.act
	T, H, q := int64(sh.MaxTokens), int64(sh.Hidden), int64(sh.Heads*headDim)
	var arena devptr
	size := s.arena(0)
	if err := s.reserve(useActivation, []sized{
		{&a.x, 4 * T * H}, {&a.row.x[0], 4 * H}, {&a.row.x[1], 4 * H}, {&a.row.planes, 8 * H}, {&a.row.qkv, 4 * int64(sh.qkvRows)}, {&a.row.a, 4 * q},
		{&a.row.acc, 8 * int64(sh.Experts+1)}, {&a.row.h, 4 * int64(sh.TopK*sh.Intermediate)}, {&a.row.choice, 8 * int64(sh.TopK)}, {&arena, size},
	}); err != nil {
		return err
	}
	s.arena(arena)
	half := size / 2 &^ (alignment - 1)
	a.staging = [2]buffer{{arena, half}, {arena + devptr(half), size - half}}
	// Pieces that fit there, so that loading takes no memory that running does not; a quarter is left for what rounds up.
	s.experts.piece = min(s.experts.piece, int(half/4*3))
	s.dense.piece = min(s.dense.piece, int(half/4*3))
	return nil
}

// arena lays what lives for a part of a layer at addresses from at on, and gives the room that this takes. What is needed
// at the same time lies apart:
//
//	QKV      t, planes; planes, q
//	Attend   q, a
//	AttnOut  a, planes
//	Route    planes, t
//	GateUp   t, h
//	Down     h, y
//	Head     gather, logits
func (s *session) arena(at devptr) (size int64) {
	sh, a, w := s.shape, &s.act, s.work
	T, H, q, R := int64(sh.MaxTokens), int64(sh.Hidden), int64(sh.Heads*headDim), int64(sh.MaxLogits)
	h, y := s.experts.products(sh.MaxTokens)
	planes := 4 * s.dense.planeFloats(sh.MaxTokens)
	low := roundUp(max(h, planes), alignment)
	a.planes, w.h, a.logits = at, at, at
	high := []part{{&a.t, 2 * T * H}, {&a.q, 2 * T * q}, {&a.a, 2 * T * q}}
	placeParts(high, at+devptr(low))
	w.y = at + devptr(low)
	logits := roundUp(4*R*int64(sh.Vocab), alignment)
	a.gather = at + devptr(logits)
	return roundUp(max(low+max(partsBytes(high), y), logits+2*R*H), alignment)
}

// reserve allocates buffers that the session owns, next to each other.
func (s *session) reserve(what use, list []sized) error {
	total := int64(0)
	for _, e := range list {
		total += roundUp(e.bytes, alignment)
	}
	if err := s.c.reserve(total, what); err != nil {
		return err
	}
	for _, e := range list {
		b, err := s.c.alloc(e.bytes, what)
		if err != nil {
			return err
		}
		s.owned = append(s.owned, b)
		*e.to = b.ptr
	}
	return nil
}

// openKV allocates the pages of every layer.
func (s *session) openKV() error {
	s.kv = make([]kvLayer, s.shape.Layers)
	var list []sized
	for l := range s.kv {
		k := &s.kv[l]
		k.window, k.table = s.shape.Windows[l], s.input.at.fullTable
		pages := s.shape.FullPages
		if k.window > 0 {
			k.table, pages = s.input.at.windowTable, s.shape.WindowPages
		}
		rows := int64(pages) * int64(s.shape.KVHeads*s.shape.PageSize)
		if s.options.Int8KV {
			s.read.Key = 2 * int64(s.shape.KVHeads) * (headDim + 4)
			list = append(list, sized{&k.k, rows * headDim}, sized{&k.v, rows * headDim}, sized{&k.kScale, rows * 4}, sized{&k.vScale, rows * 4})
		} else {
			s.read.Key = 2 * int64(s.shape.KVHeads) * headDim * 2
			list = append(list, sized{&k.k, rows * headDim * 2}, sized{&k.v, rows * headDim * 2})
		}
	}
	return s.reserve(useKV, list)
}

// note keeps something worth telling, once.
func (s *session) note(text string) {
	if text != "" && !slices.Contains(s.notes, text) {
		s.notes = append(s.notes, text)
	}
}

// Notes lists what was decided while the model was loaded: what is lossy above all.
func (s *session) Notes() []string { return s.notes }

// Memory tells what the session took.
func (s *session) Memory() device.Memory {
	var n [uses]int64
	for u := range n {
		n[u] = s.c.memory.taken[u] - s.before[u]
	}
	return device.Memory{Mapped: s.embedding.bytes, Weights: n[useWeights], KV: n[useKV], Activation: n[useActivation] + n[useWorkspace] + n[useStaging]}
}

// Reads tells what steps read of the weights as they lie on the GPU, and of the KV cache.
func (s *session) Reads() device.Reads { return s.read }

// Close frees everything. After the GPU was lost it returns at once.
func (s *session) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	c := s.c
	lost := c.lost != nil // and said when it happened
	c.enter()
	defer c.leave()
	err := s.endLoading()
	if s.batch != nil { // a step was begun and never finished
		s.batch = nil
		c.leave()
	}
	err = errors.Join(err, c.queue.sync())
	if s.graphs != nil {
		s.graphs.close(c.queue)
	}
	if s.dense != nil {
		s.dense.close()
	}
	if s.experts != nil {
		s.experts.close()
	}
	if s.work != nil {
		s.work.close(s.c)
	}
	if s.attend != nil {
		s.attend.close()
	}
	if s.sample != nil {
		s.sample.close()
	}
	if s.input != nil {
		s.input.close()
	}
	if s.embedding != nil {
		s.embedding.close()
	}
	for _, b := range s.owned {
		c.free(b)
	}
	c.trim()
	err = errors.Join(err, c.queue.sync())
	if lost {
		return nil
	}
	return err
}

var errNotLoaded = errors.New("is not loaded")

// ready says what is missing before the first step.
func (s *session) ready() error {
	for l, ok := range s.loaded {
		if !ok {
			return fmt.Errorf("layer %d %w", l, errNotLoaded)
		}
	}
	if s.finalNorm == 0 || s.embedding.pinned == nil {
		return fmt.Errorf("embedding or head %w", errNotLoaded)
	}
	return nil
}
