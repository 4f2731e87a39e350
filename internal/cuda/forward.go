package cuda

import (
	"fmt"

	"hearth/internal/device"
)

// The operations of a step in the order in which they come: embed, six for each layer, head.
const (
	opQKV = iota
	opAttend
	opAttnOut
	opRoute
	opGateUp
	opDown
	layerOps
)

var opNames = [...]string{"QKV", "Attend", "AttnOut", "Route", "GateUp", "Down"}

// Begin takes the batch and writes it where the GPU will read it.
func (s *session) Begin(b *device.Batch) error {
	if s.c.lost != nil {
		return s.c.lost
	}
	if s.batch != nil {
		return fmt.Errorf("a step was begun before the last one was finished")
	}
	if err := b.Check(&s.shape.Spec, &s.shape.Limits); err != nil {
		return err
	}
	if err := s.ready(); err != nil {
		return err
	}
	s.c.enter() // until Finish
	q := s.c.queue
	var err error
	s.step, err = s.input.begin(q, b)
	if err == nil {
		err = s.embedding.gather(b.Tokens)
	}
	if err == nil && s.step.rows > 0 {
		err = s.sample.begin(q, b)
	}
	if err != nil {
		s.abandon()
		s.c.leave()
		return err
	}
	s.batch, s.noted, s.done = b, 0, 0
	return nil
}

// abandon is for a step that failed: whatever was enqueued is waited for, and the GPU's tables count as unknown.
func (s *session) abandon() {
	s.input.forget()
	_ = s.c.queue.sync() // its error, if any, is a later one
}

func (s *session) Embed()        { s.name(0) }
func (s *session) QKV(l int)     { s.name(1 + l*layerOps + opQKV) }
func (s *session) Attend(l int)  { s.name(1 + l*layerOps + opAttend) }
func (s *session) AttnOut(l int) { s.name(1 + l*layerOps + opAttnOut) }
func (s *session) Route(l int)   { s.name(1 + l*layerOps + opRoute) }
func (s *session) GateUp(l int)  { s.name(1 + l*layerOps + opGateUp) }
func (s *session) Down(l int)    { s.name(1 + l*layerOps + opDown) }
func (s *session) Head()         { s.name(s.ops() - 1) }

// ops is how many operations a step has.
func (s *session) ops() int { return s.shape.Layers*layerOps + 2 }

// name notes operation i. The fused kernels rely on the order.
func (s *session) name(i int) {
	if s.batch == nil || i != s.noted {
		s.c.queue.fail(fmt.Errorf("operation %s is out of order, %s comes next", s.opName(i), s.opName(s.noted)))
		return
	}
	s.noted++
}

func (s *session) opName(i int) string {
	switch {
	case s.batch == nil:
		return "before Begin"
	case i == 0:
		return "Embed"
	case i == s.ops()-1:
		return "Head"
	case i < 0 || i >= s.ops():
		return "of no layer"
	}
	return fmt.Sprintf("%s(%d)", opNames[(i-1)%layerOps], (i-1)/layerOps)
}

// flush enqueues what was named since the last time.
func (s *session) flush() {
	q := s.c.queue
	if s.done == 0 && s.noted > 0 {
		s.input.run(q, s.step.tokens)
		s.attend.ropeTable(q, &s.input.at, s.step.tokens)
	}
	for ; s.done < s.noted; s.done++ {
		s.enqueue(s.done)
	}
}

// captured says whether the step is replayed as a graph: whole decode steps are.
func (s *session) captured() bool {
	return s.graphs != nil && s.done == 0 && s.noted == s.ops() && s.step.tiles == 0 && s.step.tokens <= graphTokens
}

// enqueue runs operation i.
func (s *session) enqueue(i int) {
	one := s.step.tokens == 1
	switch {
	case i == 0:
		x := s.act.x
		if one {
			x = s.act.row.x[0]
		}
		s.embedding.run(s.c.queue, s.step.tokens, x)
	case i == s.ops()-1:
		s.enqueueHead()
	case one:
		s.rowOp((i-1)%layerOps, (i-1)/layerOps)
	default:
		s.batchOp((i-1)%layerOps, (i-1)/layerOps)
	}
}

// rowPlanes is how many planes complete the row path's x before layer l: those of the layer before.
func rowPlanes(l int) int {
	if l == 0 {
		return 0
	}
	return 2
}

// rowOp runs an operation for one token. The norms are inside the projections; the router is inside AttnOut, which adds
// up its logits, and GateUp, which chooses.
func (s *session) rowOp(op, l int) {
	q, w, a := s.c.queue, &s.layers[l], &s.act.row
	in, out := a.x[l%2], a.x[(l+1)%2]
	switch op {
	case opQKV:
		s.dense.qkvRow(q, w, in, a.planes, rowPlanes(l), a.qkv)
	case opAttend:
		s.attend.decode(q, &s.input.at, 1, decodeArgs{qkv: a.qkv, sinks: w.sinks, kv: &s.kv[l], out: a.a, acc: a.acc})
	case opAttnOut:
		s.dense.outRow(q, w, a.a, in, a.planes, rowPlanes(l), out, a.acc)
	case opGateUp:
		s.experts.gateUpRow(q, w, out, a.acc, a.h, a.choice)
	case opDown:
		s.experts.downRow(q, w, a.h, a.choice, a.planes)
	}
}

// batchOp runs an operation for several tokens.
func (s *session) batchOp(op, l int) {
	q, w, a, T, at := s.c.queue, &s.layers[l], &s.act, s.step.tokens, &s.input.at
	switch op {
	case opQKV:
		s.dense.norm(q, w.attnNorm, a.x, a.t, T)
		split := s.dense.gemm(q, a.t, T, &w.qkv, a.planes)
		s.attend.ropeKV(q, at, T, a.planes, split, w.qkv.bias, &s.kv[l], a.q)
	case opAttend:
		if n := s.step.decodes; n > 0 {
			s.attend.decode(q, at, n, decodeArgs{q: a.q, sinks: w.sinks, kv: &s.kv[l], out: a.a, outBF16: true})
		}
		if n := s.step.tiles; n > 0 {
			s.attend.prefill(q, at, n, a.q, w.sinks, &s.kv[l], a.a)
		}
	case opAttnOut:
		// The sum, with bias and residual, is the first thing that Route does.
		s.split = s.dense.gemm(q, a.a, T, &w.o, a.planes)
	case opRoute:
		s.experts.normRoute(q, w, a.x, a.planes, s.split, a.t, T, s.work)
		s.experts.group(q, T, s.work)
	case opGateUp:
		s.experts.gateUp(q, w, a.t, T, s.work)
	case opDown:
		s.experts.down(q, w, a.x, T, s.work)
	}
}

func (s *session) enqueueHead() {
	q, a, R := s.c.queue, &s.act, s.step.rows
	switch {
	case R == 0:
	case s.step.tokens == 1:
		l := s.shape.Layers
		s.dense.headRow(q, s.finalNorm, &s.head, a.row.x[l%2], a.row.planes, rowPlanes(l), a.logits)
	default:
		s.dense.headRows(q, s.finalNorm, &s.head, a.x, &s.input.at, R, a.gather, a.logits)
	}
}

// Finish runs the step, waits for it and fills an Output for each logit row. An error that wraps device.ErrLost ends the
// session.
func (s *session) Finish(out []device.Output) error {
	b := s.batch
	if b == nil {
		return fmt.Errorf("Finish without Begin")
	}
	s.batch = nil
	defer s.c.leave()
	q := s.c.queue
	if len(out) < len(b.Logits) && s.noted == s.ops() {
		q.fail(fmt.Errorf("room for %d outputs, the batch has %d logit rows", len(out), len(b.Logits)))
	}
	if s.captured() {
		s.graphs.run(q, s.step, s.flush)
	} else {
		s.flush()
	}
	var err error
	if s.step.rows > 0 && s.noted == s.ops() && q.err == nil {
		s.sample.run(q, s.act.logits, s.step.rows)
		err = s.sample.collect(q, out[:len(b.Logits)])
	} else {
		err = q.sync()
	}
	if err != nil {
		s.abandon()
	}
	return err
}

// Residual copies x to the host. The step is then not captured.
func (s *session) Residual(dst []float32) {
	if s.batch == nil {
		return
	}
	s.flush()
	q, n := s.c.queue, s.step.tokens*s.shape.Hidden
	if s.step.tokens > 1 {
		q.download(bytesOf(dst[:n]), s.act.x)
		s.settle()
		return
	}
	// Layers that have been through AttnOut, and through Down: x lies in the buffer of the former, and lacks the planes
	// of the latter until the next AttnOut adds them.
	out, down := (s.noted-1+layerOps-1-opAttnOut)/layerOps, (s.noted-1)/layerOps
	q.download(bytesOf(dst[:n]), s.act.row.x[out%2])
	planes := make([]float32, 2*n)
	if down > 0 && out == down {
		q.download(bytesOf(planes), s.act.row.planes)
	}
	s.settle()
	for i := range n {
		dst[i] += planes[i] + planes[n+i]
	}
}

// settle waits, and keeps an error for Finish.
func (s *session) settle() { s.c.queue.fail(s.c.queue.sync()) }
