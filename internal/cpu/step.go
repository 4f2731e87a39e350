package cpu

import (
	"fmt"
	"math"

	"hearth/internal/device"
)

// Begin takes the batch and prepares what all layers share: each token's sequence and rotary angles.
func (s *session) Begin(b *device.Batch) error {
	if err := b.Check(&s.spec, &s.lim); err != nil {
		return err
	}
	for l, ok := range s.loaded {
		if !ok {
			return fmt.Errorf("layer %d is not loaded", l)
		}
	}
	if s.finalNorm == nil || s.embedding.Rows == 0 {
		return fmt.Errorf("embedding or head is not loaded")
	}
	s.batch, s.tokens = b, len(b.Tokens)
	for i := range b.Seqs {
		for j := range b.Seqs[i].Count {
			s.seqOf[b.Seqs[i].First+j] = int32(i)
		}
	}
	s.cutAttention()
	half := s.spec.HeadDim / 2
	for t, p := range b.Positions {
		for i, f := range s.spec.InvFreq {
			// The angle is rounded to float32 before the sine is taken, as in training: see spec/model.md 5.
			angle := float64(float32(p) * f)
			s.cos[t*half+i] = float32(math.Cos(angle)) * s.spec.RopeScale
			s.sin[t*half+i] = float32(math.Sin(angle)) * s.spec.RopeScale
		}
	}
	return nil
}

// Embed copies the tokens' rows of the embedding.
func (s *session) Embed() { s.pool.run(&s.jobs.embed, s.tokens) }

// QKV writes q, k and v for layer l; k and v also to their pages.
func (s *session) QKV(l int) {
	if s.readAhead.Load() {
		s.askDense(l)
	}
	w := &s.layers[l]
	s.normed(w.AttnNorm)
	s.jobs.linear.begin(s.round(s.t, &s.hidden, s.tokens, nil, &w.Q.Weight, &w.K.Weight, &w.V.Weight), s.tokens)
	s.jobs.linear.add(&w.Q, s.q)
	s.jobs.linear.add(&w.K, s.k)
	s.jobs.linear.add(&w.V, s.v)
	s.jobs.linear.run()
	s.jobs.rope.layer = l
	s.pool.run(&s.jobs.rope, s.tokens)
}

// Attend runs paged attention for layer l, one item for each KV head and block of tokens.
func (s *session) Attend(l int) {
	s.jobs.attend.layer = l
	s.pool.run(&s.jobs.attend, len(s.blocks)*s.spec.KVHeads)
}

// AttnOut adds the output projection to the residual.
func (s *session) AttnOut(l int) {
	o := &s.layers[l].O
	s.jobs.linear.begin(s.round(s.a, &s.mixed, s.tokens, nil, &o.Weight), s.tokens)
	s.jobs.linear.accumulate(o, s.x)
	s.jobs.linear.run()
}

// Route chooses the experts of every token and groups the tokens by expert.
func (s *session) Route(l int) {
	w := &s.layers[l]
	s.normed(w.MLPNorm)
	s.jobs.linear.begin(activations{values: s.t}, s.tokens)
	s.jobs.linear.add(&w.Router, s.route)
	s.jobs.linear.run()
	s.pool.run(&s.jobs.route, s.tokens)
	s.groups.fill(s.chosen[:s.tokens*s.spec.TopK], s.spec.TopK)
}

// GateUp computes the chosen experts' activations, one item for each active expert and span of tiles.
func (s *session) GateUp(l int) {
	if s.readAhead.Load() {
		s.askExperts(l)
	}
	s.jobs.gateUp.layer = l
	s.jobs.gateUp.x = s.round(s.t, &s.hidden, s.tokens, s.groups.token[:s.tokens*s.spec.TopK], &s.layers[l].GateUp.Weight.Even[0])
	s.pool.run(&s.jobs.gateUp, s.jobs.gateUp.cut(s, 2*s.spec.Intermediate))
}

// Down computes the chosen experts' outputs, one item for each active expert and span of tiles, and adds them to the
// residual, one item for each token.
func (s *session) Down(l int) {
	s.jobs.down.layer = l
	s.jobs.down.x = s.round(s.h, &s.inner, s.tokens*s.spec.TopK, s.groups.slot[:s.tokens*s.spec.TopK], &s.layers[l].Down.Weight.Even[0])
	s.pool.run(&s.jobs.down, s.jobs.down.cut(s, s.spec.Hidden))
	s.jobs.sum.layer = l
	s.pool.run(&s.jobs.sum, s.tokens)
}

// Head computes the asked-for rows of logits. Their final norm is gathered into t first.
func (s *session) Head() {
	n, in := len(s.batch.Logits), &s.hidden
	if n == 0 {
		return
	}
	if s.readAhead.Load() {
		ask(&s.head)
	}
	for i := range s.batch.Logits {
		row := s.batch.Logits[i].Row
		// Rows ascend, so a row is never overwritten before it is read: x itself is kept, t is scratch.
		rmsNorm(s.t[i*in.width:(i+1)*in.width], s.x[row*s.spec.Hidden:(row+1)*s.spec.Hidden], s.finalNorm, s.spec.Eps, in.at)
	}
	s.jobs.linear.begin(s.round(s.t, in, n, nil, &s.head), n)
	s.jobs.linear.addPlane(&s.head, s.logits)
	s.jobs.linear.run()
}

// Finish samples and reports, one item for each logit row.
func (s *session) Finish(out []device.Output) error {
	n := len(s.batch.Logits)
	if len(out) < n {
		return fmt.Errorf("room for %d outputs, the batch has %d logit rows", len(out), n)
	}
	s.out = out[:n]
	s.pool.run(&s.jobs.sample, n)
	s.batch = nil
	return s.pool.takeErr()
}

// Residual copies x to the host.
func (s *session) Residual(dst []float32) { copy(dst, s.x[:s.tokens*s.spec.Hidden]) }

// normed fills t with the RMSNorm of x.
func (s *session) normed(g []float32) {
	s.jobs.norm.g = g
	s.pool.run(&s.jobs.norm, s.tokens)
}

func tiles(rows int) int { return (rows + tileRows - 1) / tileRows }

// spanOf is how many tiles an item of an operation has: as many as leave every worker enough items to end with the
// others, since memory is read best in long runs.
func (s *session) spanOf(tiles int) int {
	return max(1, min(8, tiles/(32*len(s.pool.workers))))
}

func spans(tiles, span int) int { return (tiles + span - 1) / span }
