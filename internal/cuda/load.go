package cuda

import (
	"errors"
	"fmt"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

// LoadEmbedding takes over the table of the tokens' vectors, which stays where it is.
func (s *session) LoadEmbedding(p dtype.Plane) error {
	return s.load("embedding", func(*uploader) error {
		if err := checkPlane("embedding", &p, s.shape.Vocab, s.shape.Hidden); err != nil {
			return err
		}
		s.read.AddEmbedding(p)
		return s.embedding.load(p, s.shape.MaxTokens)
	})
}

// LoadHead brings the final norm and the head, and ends loading.
func (s *session) LoadHead(norm []float32, p dtype.Plane) error {
	err := s.load("head", func(u *uploader) error {
		if err := checkVector("final norm", norm, s.shape.Hidden); err != nil {
			return err
		}
		if err := s.loadHead(u, p); err != nil {
			return err
		}
		if err := s.c.resolveAll(); err != nil { // steps are captured, and captures must not load kernels
			return err
		}
		if err := s.verify(); err != nil {
			return err
		}
		s.read.Head = s.head.bytes() + 4*int64(len(norm))
		return s.loadVectors(u, []vector{{&s.finalNorm, norm}})
	})
	if n := &s.c.modules; n.compiled > 0 {
		text := fmt.Sprintf("the driver compiled %d kernel modules in %.1f s", n.compiled, n.ended.Sub(n.began).Seconds())
		if n.cache.dir != "" {
			text += ", kept in " + n.cache.dir
		}
		s.note(text)
	}
	return errors.Join(err, s.endLoading())
}

// verify looks at what the GPU found while it packed the experts.
func (s *session) verify() error {
	var list []*expertWeight
	for l := range s.layers {
		if s.loaded[l] {
			list = append(list, &s.layers[l].gateUp, &s.layers[l].down)
		}
	}
	i, err := s.experts.verify(list)
	if err != nil {
		return fmt.Errorf("experts of layer %d, %s: %w", i/2, [...]string{"gate_up", "down"}[i%2], err)
	}
	return nil
}

// load runs one part of loading with the session's uploader, and makes its error the part's.
func (s *session) load(what string, part func(*uploader) error) (err error) {
	if s.c.lost != nil {
		return s.c.lost
	}
	s.c.enter()
	defer s.c.leave()
	if s.loader == nil {
		if s.loader, err = newUploader(s.c); err != nil {
			return err
		}
		s.loader.lend(s.act.staging)
	}
	if err := guard(func() error { return part(s.loader) }); err != nil {
		return fmt.Errorf("%s: %w", what, errors.Join(err, s.loader.flush()))
	}
	if s.c.queue.err != nil { // else copies may still be under way
		return fmt.Errorf("%s: %w", what, s.loader.flush())
	}
	return nil
}

func (s *session) endLoading() error {
	var err error
	if s.loader != nil {
		err = s.loader.close()
		s.loader = nil
	}
	for i := range s.made {
		s.made[i].close()
		s.made[i] = nil
	}
	return err
}

func (s *session) loadHead(u *uploader, p dtype.Plane) (err error) {
	if err := checkPlane("head", &p, s.shape.Vocab, s.shape.Hidden); err != nil {
		return err
	}
	if err := s.c.reserve(headBytes(p, s.options), useWeights); err != nil {
		return err
	}
	u.pools = s.made[0]
	var note string
	s.head, note, err = s.dense.load(u, []dtype.Plane{p}, nil, denseOptions{int8: s.options.Int8Dense})
	s.tell("head", note)
	return err
}

// headBytes is what the head and the final norm take.
func headBytes(p dtype.Plane, o Options) int64 {
	return (&denseOps{}).bytes([]dtype.Plane{p}, denseOptions{int8: o.Int8Dense}) + roundUp(4*int64(p.Cols), alignment)
}

func (s *session) tell(what, note string) {
	if note != "" {
		s.note(what + ": " + note)
	}
}

// LoadLayer brings one layer to the GPU.
func (s *session) LoadLayer(l int, w *device.Layer) error {
	if l < 0 || l >= s.shape.Layers {
		return fmt.Errorf("layer %d of %d", l, s.shape.Layers)
	}
	return s.load(fmt.Sprintf("layer %d", l), func(u *uploader) error {
		if err := checkLayer(s.shape, w); err != nil {
			return err
		}
		n, err := layerBytes(s.shape, s.dense, s.experts, w, s.options)
		if err != nil {
			return err
		}
		names, err := s.layerModules(w)
		if err != nil {
			return err
		}
		if err := s.c.compile(names...); err != nil {
			return err
		}
		if err := s.c.reserve(n, useWeights); err != nil {
			return err
		}
		if err := s.loadLayer(u, &s.layers[l], w); err != nil {
			return err
		}
		s.loaded[l] = true
		x := &s.layers[l]
		s.read.Dense += x.qkv.bytes() + x.o.bytes()
		for _, v := range vectorSizes(s.shape) {
			s.read.Dense += 4 * int64(v)
		}
		s.read.Experts += x.gateUp.bytes + x.down.bytes
		return nil
	})
}

func (s *session) loadLayer(u *uploader, to *layerWeights, w *device.Layer) (err error) {
	o := denseOptions{int8: s.options.Int8Dense}
	into, back := s.made[0], s.made[1]
	var note string
	u.pools = into
	to.qkv, note, err = s.dense.load(u, []dtype.Plane{w.Q.Weight, w.K.Weight, w.V.Weight}, [][]float32{w.Q.Bias, w.K.Bias, w.V.Bias}, o)
	if err != nil {
		return fmt.Errorf("q, k, v: %w", err)
	}
	s.tell("attention", note)
	u.pools = back
	if to.o, note, err = s.dense.load(u, []dtype.Plane{w.O.Weight}, [][]float32{w.O.Bias}, o); err != nil {
		return fmt.Errorf("o: %w", err)
	}
	s.tell("attention", note)
	u.pools = into
	if to.gateUp, err = s.experts.load(u, &w.GateUp, false); err != nil {
		return fmt.Errorf("gate_up: %w", err)
	}
	u.pools = back
	if to.down, err = s.experts.load(u, &w.Down, true); err != nil {
		return fmt.Errorf("down: %w", err)
	}
	to.mlpNormMost = mostOf(w.MLPNorm)
	bias := w.Router.Bias
	if bias == nil {
		bias = make([]float32, s.shape.Experts)
	}
	return s.loadVectors(u, []vector{
		{&to.attnNorm, w.AttnNorm}, {&to.mlpNorm, w.MLPNorm}, {&to.sinks, w.Sinks}, {&to.router, transposedFloats(&w.Router.Weight)}, {&to.routerBias, bias},
	})
}

// transposedFloats gives a plane as float32 [Cols, Rows].
func transposedFloats(p *dtype.Plane) []float32 {
	row, out := make([]float32, p.Cols), make([]float32, p.Rows*p.Cols)
	for r := range p.Rows {
		p.DecodeRows(row, r, 1)
		for c, v := range row {
			out[c*p.Rows+r] = v
		}
	}
	return out
}

type vector struct {
	to     *devptr
	values []float32
}

func (s *session) loadVectors(u *uploader, list []vector) error {
	for _, v := range list {
		b, err := s.c.alloc(4*int64(len(v.values)), useWeights)
		if err != nil {
			return err
		}
		s.owned = append(s.owned, b)
		*v.to = b.ptr
		u.copy(b.ptr, bytesOf(v.values))
	}
	return nil
}

// vectorBytes is what loadVectors takes for a layer.
func vectorBytes(s *shape) (n int64) {
	for _, v := range vectorSizes(s) {
		n += roundUp(4*int64(v), alignment)
	}
	return n
}

// vectorSizes are the float32s of a layer: two norms, sinks, router and its bias.
func vectorSizes(s *shape) [5]int {
	return [...]int{s.Hidden, s.Hidden, s.Heads, s.Hidden * s.Experts, s.Experts}
}

// layerBytes is what a layer takes.
func layerBytes(s *shape, d *denseOps, e *expertOps, w *device.Layer, o Options) (int64, error) {
	n := vectorBytes(s)
	dense := denseOptions{int8: o.Int8Dense}
	n += d.bytes([]dtype.Plane{w.Q.Weight, w.K.Weight, w.V.Weight}, dense) + d.bytes([]dtype.Plane{w.O.Weight}, dense)
	for i, x := range []*device.Experts{&w.GateUp, &w.Down} {
		b, err := e.bytes(x, i == 1)
		if err != nil {
			return 0, err
		}
		n += b
	}
	return n, nil
}

// checkLayer compares every shape with the spec's.
func checkLayer(s *shape, w *device.Layer) error {
	qw, kw := s.Heads*headDim, s.KVHeads*headDim
	return errors.Join(
		checkVector("attention norm", w.AttnNorm, s.Hidden), checkVector("MLP norm", w.MLPNorm, s.Hidden), checkVector("sinks", w.Sinks, s.Heads),
		checkLinear("q", &w.Q, qw, s.Hidden), checkLinear("k", &w.K, kw, s.Hidden), checkLinear("v", &w.V, kw, s.Hidden),
		checkLinear("o", &w.O, s.Hidden, qw), checkLinear("router", &w.Router, s.Experts, s.Hidden),
		checkExperts("gate_up", &w.GateUp, s.Experts, 2*s.Intermediate, s.Hidden), checkExperts("down", &w.Down, s.Experts, s.Hidden, s.Intermediate),
	)
}

func checkVector(name string, v []float32, n int) error {
	if len(v) != n {
		return fmt.Errorf("%s has %d values, want %d", name, len(v), n)
	}
	return nil
}

func checkPlane(name string, p *dtype.Plane, rows, cols int) error {
	if p.Rows != rows || p.Cols != cols {
		return fmt.Errorf("%s is [%d, %d], want [%d, %d]", name, p.Rows, p.Cols, rows, cols)
	}
	if p.Outline() && name != "router" { // whoever loads it knows whether it can be made up
		return nil
	}
	if err := p.Check(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func checkLinear(name string, l *device.Linear, rows, cols int) error {
	if err := checkPlane(name, &l.Weight, rows, cols); err != nil || l.Bias == nil {
		return err
	}
	return checkVector(name+" bias", l.Bias, rows)
}

func checkExperts(name string, x *device.Experts, experts, rows, cols int) error {
	if n := x.Weight.Experts(); n != experts {
		return fmt.Errorf("%s has %d experts, want %d", name, n, experts)
	}
	each := rows
	if x.Weight.Odd != nil {
		each /= 2
		if len(x.Weight.Odd) != experts {
			return fmt.Errorf("%s has %d up matrices, want %d", name, len(x.Weight.Odd), experts)
		}
	}
	for _, planes := range [][]dtype.Plane{x.Weight.Even, x.Weight.Odd} {
		for e := range planes {
			if err := checkPlane(fmt.Sprintf("%s of expert %d", name, e), &planes[e], each, cols); err != nil {
				return err
			}
		}
	}
	return checkVector(name+" bias", x.Bias, experts*rows)
}
