package cpu

import "math"

// ropeJob rotates a token's q and k and writes its k and v to the pages of the layer.
type ropeJob struct {
	s     *session
	layer int
}

func (j *ropeJob) do(_ *worker, t int) {
	s := j.s
	sp := &s.spec
	half := sp.HeadDim / 2
	cos, sin := s.cos[t*half:(t+1)*half], s.sin[t*half:(t+1)*half]
	q := s.q[t*sp.Heads*sp.HeadDim:]
	for h := range sp.Heads {
		rotate(q[h*sp.HeadDim:(h+1)*sp.HeadDim], cos, sin)
	}
	page, offset := s.slot(j.layer, t, int(s.batch.Positions[t]))
	for g := range sp.KVHeads {
		from := (t*sp.KVHeads + g) * sp.HeadDim
		k, v := s.k[from:from+sp.HeadDim], s.v[from:from+sp.HeadDim]
		rotate(k, cos, sin)
		to := ((page*sp.KVHeads+g)*s.lim.PageSize + offset) * sp.HeadDim
		copy(s.keys[j.layer][to:], k)
		copy(s.values[j.layer][to:], v)
	}
}

// rotate applies the rotary embedding in the half-split form: pairs are (i, i+half).
func rotate(x, cos, sin []float32) {
	half := len(cos)
	lo, hi := x[:half], x[half:2*half]
	for i, c := range cos {
		a, b := lo[i], hi[i]
		lo[i] = a*c - b*sin[i]
		hi[i] = b*c + a*sin[i]
	}
}

// slot finds where position p of token t's sequence lies in layer l's cache.
func (s *session) slot(l, t, p int) (page, offset int) {
	q := &s.batch.Seqs[s.seqOf[t]]
	table := q.Full
	if s.spec.Windows[l] > 0 {
		table = q.Window
	}
	return int(table[p/s.lim.PageSize]), p % s.lim.PageSize
}

// attendJob is softmax attention of one token's group of query heads that share a KV head. The head's sink joins the
// softmax as one more logit, neither scaled nor rotated, and has no value (spec/model.md 4).
type attendJob struct {
	s     *session
	layer int
}

func (j *attendJob) do(w *worker, item int) {
	s := j.s
	sp := &s.spec
	t, g := item/sp.KVHeads, item%sp.KVHeads
	group := sp.Heads / sp.KVHeads
	end := int(s.batch.Positions[t]) + 1
	begin := 0
	if win := sp.Windows[j.layer]; win > 0 {
		begin = max(0, end-win)
	}
	n := end - begin
	scores := w.scores[:group*n]
	j.scores(w.k, scores, t, g, begin, end)
	scale := float32(1 / math.Sqrt(float64(sp.HeadDim)))
	for h := range group {
		w.k.softmax(scores[h*n:(h+1)*n], scale, s.layers[j.layer].Sinks[g*group+h])
	}
	heads := w.heads[:group*sp.HeadDim]
	j.mix(w.k, heads, scores, t, g, begin, end)
	in := &s.mixed
	out, first := s.a[t*in.width:(t+1)*in.width], g*group*sp.HeadDim
	if in.at == nil {
		copy(out[first:], heads)
		return
	}
	arrange(out, heads, in.at[first:first+len(heads)])
}

// scores fills [group, end-begin] with q·k, page by page.
func (j *attendJob) scores(kern *kernels, scores []float32, t, g, begin, end int) {
	s := j.s
	sp := &s.spec
	d, group, n := sp.HeadDim, sp.Heads/sp.KVHeads, end-begin
	q := s.q[(t*sp.Heads+g*group)*d:]
	for p := begin; p < end; {
		page, offset := s.slot(j.layer, t, p)
		run := min(s.lim.PageSize-offset, end-p)
		k := s.keys[j.layer][((page*sp.KVHeads+g)*s.lim.PageSize+offset)*d:]
		kern.scores(scores[p-begin:], n, q, group, k, run, d)
		p += run
	}
}

// mix fills a, [group, HeadDim], with the weighted sums of the values.
func (j *attendJob) mix(kern *kernels, a, scores []float32, t, g, begin, end int) {
	s := j.s
	sp := &s.spec
	d, group, n := sp.HeadDim, sp.Heads/sp.KVHeads, end-begin
	clear(a)
	for p := begin; p < end; {
		page, offset := s.slot(j.layer, t, p)
		run := min(s.lim.PageSize-offset, end-p)
		v := s.values[j.layer][((page*sp.KVHeads+g)*s.lim.PageSize+offset)*d:]
		for h := range group {
			kern.mix(a[h*d:(h+1)*d], v, scores[h*n+p-begin:h*n+p-begin+run])
		}
		p += run
	}
}

// addWeighted adds weights[i] times row i of v to a, four rows at a time: a is loaded and stored a quarter as often.
func addWeighted(a, v, weights []float32) {
	d := len(a)
	for ; len(weights) >= 4; weights = weights[4:] {
		w0, w1, w2, w3 := weights[0], weights[1], weights[2], weights[3]
		v0, v1, v2, v3 := v[:d], v[d:2*d], v[2*d:3*d], v[3*d:4*d]
		for i := range a {
			a[i] += w0*v0[i] + w1*v1[i] + w2*v2[i] + w3*v3[i]
		}
		v = v[4*d:]
	}
	for _, w := range weights {
		for i, x := range v[:d] {
			a[i] += w * x
		}
		v = v[d:]
	}
}

// softmaxSink turns scores into weights that sum to less than one: the sink takes its share and is dropped.
func softmaxSink(scores []float32, sink float32) {
	m := sink
	for _, v := range scores {
		m = max(m, v)
	}
	sum := math.Exp(float64(sink - m))
	for i, v := range scores {
		e := math.Exp(float64(v - m))
		scores[i] = float32(e)
		sum += e
	}
	r := float32(1 / sum)
	for i := range scores {
		scores[i] *= r
	}
}
