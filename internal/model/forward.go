// Package model is GPT-OSS itself: a checkpoint's configuration turned into a device's spec, the plan of what memory
// goes where, and the forward pass, written once against the device contract. It never touches the network, a file
// format or a particular device.
package model

import (
	"fmt"

	"hearth/internal/checkpoint"
	"hearth/internal/device"
	"hearth/internal/dtype"
)

// Model is a loaded GPT-OSS, ready to run steps. One goroutine owns it.
type Model struct {
	spec    device.Spec
	plan    Plan
	session device.Session
}

// Step runs one batch and fills out[i] for b.Logits[i]. The batch must stay as it is until Step returns.
//
// This is the whole network:
//
//	x = E[token]
//	for each layer:
//	    x = x + Wo attention(rope(Wq t), rope(Wk t), Wv t), t = norm(x)
//	    x = x + sum over chosen e of w[e] W2[e] swiglu(W1[e] t), t = norm(x)
//	logits = U norm(x)
//
// Even layers see a sliding window, odd layers everything; every head has a sink; all projections but the last have
// biases. There is no post-norm, no norm of q or k, no soft cap, and U is not E.
func (m *Model) Step(b *Batch, out []Output) error {
	s := m.session
	if err := s.Begin(b); err != nil {
		return err
	}
	s.Embed()
	for l := range m.spec.Layers {
		s.QKV(l)     // norm, projections, rotary embedding; k and v go to the pages
		s.Attend(l)  // paged attention with the head's sink, within the layer's window
		s.AttnOut(l) // output projection, added to x
		s.Route(l)   // norm, router: the top k experts, then softmax over those alone
		s.GateUp(l)  // each chosen expert's gate and up rows, clamped SwiGLU
		s.Down(l)    // its down projection, weighted sum over experts, added to x
	}
	s.Head() // final norm and logits, only for the rows that ask
	return s.Finish(out)
}

// Weights is where a model comes from: a checkpoint, or one whose weights are requantised while they are read. Layers are
// asked for one at a time, in order.
type Weights interface {
	Path() string
	Config() *checkpoint.Config
	Embedding() (dtype.Plane, error)        // [Vocab, Hidden]
	Layer(n int) (*checkpoint.Layer, error) // canonical: [out, in], gate and up rows interleaved
	FinalNorm() ([]float32, error)          // [Hidden]
	Head() (dtype.Plane, error)             // [Vocab, Hidden]
}

// Load makes a session on the device, with room as planned, and loads every weight. Progress, if not nil, is called
// after each layer. The checkpoint must stay open as long as the model.
func Load(c Weights, d device.Device, p Plan, progress func(done, total int)) (*Model, error) {
	spec, err := NewSpec(c.Config())
	if err != nil {
		return nil, err
	}
	s, err := newSession(c, d, spec, p.Limits)
	if err != nil {
		return nil, err
	}
	m := &Model{spec: spec, plan: p, session: s}
	if err := m.load(c, progress); err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w", c.Path(), err)
	}
	return m, nil
}

// MadeUp are weights of which the large ones have no content: the device makes it up from pools (device.Maker).
type MadeUp interface {
	Weights
	Pools() (into, back *device.Pools)
}

func newSession(c Weights, d device.Device, spec device.Spec, l device.Limits) (device.Session, error) {
	m, made := c.(MadeUp)
	if !made {
		return d.NewSession(spec, l)
	}
	maker, ok := d.(device.Maker)
	if !ok {
		return nil, fmt.Errorf("made-up weights on %s: %w", d.Info().Name, device.ErrNotSupported)
	}
	into, back := m.Pools()
	return maker.NewMadeSession(spec, l, into, back)
}

func (m *Model) load(c Weights, progress func(done, total int)) error {
	embedding, err := c.Embedding()
	if err != nil {
		return err
	}
	if err := m.session.LoadEmbedding(embedding); err != nil {
		return err
	}
	for l := range m.spec.Layers {
		w, err := c.Layer(l)
		if err != nil {
			return err
		}
		if err := m.session.LoadLayer(l, canonical(w)); err != nil {
			return err
		}
		if progress != nil {
			progress(l+1, m.spec.Layers)
		}
	}
	norm, err := c.FinalNorm()
	if err != nil {
		return err
	}
	head, err := c.Head()
	if err != nil {
		return err
	}
	return m.session.LoadHead(norm, head)
}

// canonical hands a checkpoint's layer to the device under the device's names; no byte moves.
func canonical(w *checkpoint.Layer) *device.Layer {
	linear := func(l checkpoint.Linear) device.Linear { return device.Linear{Weight: l.Weight, Bias: l.Bias} }
	experts := func(e checkpoint.Experts) device.Experts { return device.Experts{Weight: e.Weight, Bias: e.Bias} }
	return &device.Layer{
		AttnNorm: w.AttnNorm,
		Q:        linear(w.Q),
		K:        linear(w.K),
		V:        linear(w.V),
		O:        linear(w.O),
		Sinks:    w.Sinks,
		MLPNorm:  w.MLPNorm,
		Router:   linear(w.Router),
		GateUp:   experts(w.GateUp),
		Down:     experts(w.Down),
	}
}

// Shape tells the engine the sizes it plans with.
func (m *Model) Shape() Shape {
	l := m.plan.Limits
	window := 0
	for _, w := range m.spec.Windows {
		window = max(window, w)
	}
	return Shape{
		Vocab: m.spec.Vocab, MaxContext: m.plan.MaxContext, Window: window,
		PageSize: l.PageSize, FullPages: l.FullPages, WindowPages: l.WindowPages,
		MaxTokens: l.MaxTokens, MaxSeqs: l.MaxSeqs, MaxLogits: l.MaxLogits,
	}
}

// Memory tells what the loaded model holds on its device.
func (m *Model) Memory() device.Memory { return m.session.Memory() }

// Reads tells what steps read of it.
func (m *Model) Reads() device.Reads { return m.session.Reads() }

// StoredReads is what steps would read of weights that a device keeps as they are stored, without keys and values.
func StoredReads(w Weights) (r device.Reads, err error) {
	embedding, err := w.Embedding()
	if err != nil {
		return r, err
	}
	r.AddEmbedding(embedding)
	for l := range w.Config().Layers {
		layer, err := w.Layer(l)
		if err != nil {
			return r, err
		}
		r.AddLayer(canonical(layer))
	}
	norm, err := w.FinalNorm()
	if err != nil {
		return r, err
	}
	head, err := w.Head()
	r.AddHead(norm, head)
	return r, err
}

// Notes lists what the device decided while it was loaded, such as what is lossy.
func (m *Model) Notes() []string {
	if n, ok := m.session.(device.Noter); ok {
		return n.Notes()
	}
	return nil
}

// Close frees the session.
func (m *Model) Close() error { return m.session.Close() }
