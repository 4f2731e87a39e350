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
	run := s.keyRun
	for g := range sp.KVHeads {
		from := (t*sp.KVHeads + g) * sp.HeadDim
		k, v := s.k[from:from+sp.HeadDim], s.v[from:from+sp.HeadDim]
		rotate(k, cos, sin)
		keys := s.part(s.keys[j.layer], g, page)[offset/run*run*sp.HeadDim:]
		for i, x := range k {
			keys[i*run+offset%run] = x
		}
		copy(s.part(s.values[j.layer], g, page)[offset*sp.HeadDim:], v)
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

// part is what a layer's cache holds of a KV head in a page. A head's pages lie side by side, so that those of a sequence that
// got them in a row are read in a row.
func (s *session) part(cache []float32, g, page int) []float32 {
	size := s.lim.PageSize * s.spec.HeadDim
	pages := len(cache) / (s.spec.KVHeads * size)
	return cache[(g*pages+page)*size:][:size]
}

// attendBlock is tokens of one sequence, one after another, that read its keys and values together.
type attendBlock struct{ first, count int }

const (
	// attendTokens is the most of a block.
	attendTokens = 8
	// attendRoom is how many positions the tokens of a block may read together, unless the context is longer.
	attendRoom = 1 << 17
)

// scoreRoom is the positions that the tokens of a block may read together, for a context of so many.
func scoreRoom(context int) int { return max(context, min(attendTokens*context, attendRoom)) }

// cutAttention cuts the batch into blocks: of several tokens where enough are left for every worker.
func (s *session) cutAttention() {
	s.blocks = s.blocks[:0]
	share := s.tokens * s.spec.KVHeads / (4 * len(s.pool.workers))
	for i := range s.batch.Seqs {
		q := &s.batch.Seqs[i]
		end := q.First + q.Count
		context := int(s.batch.Positions[end-1]) + 1
		size := max(1, min(attendTokens, share, s.scoreRoom/context))
		for first := q.First; first < end; first += size {
			s.blocks = append(s.blocks, attendBlock{first, min(size, end-first)})
		}
	}
}

// attendJob is softmax attention of a block's query heads that share a KV head. The head's sink joins the softmax as one
// more logit, neither scaled nor rotated, and has no value (spec/model.md 4).
type attendJob struct {
	s     *session
	layer int
}

func (j *attendJob) do(w *worker, item int) {
	s := j.s
	sp := &s.spec
	g, b := item/len(s.blocks), s.blocks[item%len(s.blocks)]
	group := sp.Heads / sp.KVHeads
	a := attention{s: s, layer: j.layer, g: g, block: b}
	for i := range b.count {
		end := int(s.batch.Positions[b.first+i]) + 1
		begin := 0
		if win := sp.Windows[j.layer]; win > 0 {
			begin = max(0, end-win)
		}
		a.begin[i], a.end[i] = begin, end
		a.stride = max(a.stride, end-begin)
	}
	scores, heads := w.scores[:b.count*group*a.stride], w.heads[:b.count*group*sp.HeadDim]
	a.eachRun(s.keys[j.layer], func(i, p, n int, k []float32, first int) {
		q := s.q[((b.first+i)*sp.Heads+g*group)*sp.HeadDim:]
		w.k.scores(scores[i*group*a.stride+p-a.begin[i]:], a.stride, q, group, k, s.keyRun, first, n, sp.HeadDim)
	})
	scale := float32(1 / math.Sqrt(float64(sp.HeadDim)))
	for i := range b.count {
		for h := range group {
			w.k.softmax(scores[(i*group+h)*a.stride:][:a.end[i]-a.begin[i]], scale, s.layers[j.layer].Sinks[g*group+h])
		}
	}
	clear(heads)
	a.eachRun(s.values[j.layer], func(i, p, n int, v []float32, first int) {
		w.k.mix(heads[i*group*sp.HeadDim:], v[first*sp.HeadDim:], scores[i*group*a.stride+p-a.begin[i]:], a.stride, group, n, sp.HeadDim)
	})
	in := &s.mixed
	for i := range b.count {
		out, first, from := s.a[(b.first+i)*in.width:][:in.width], g*group*sp.HeadDim, heads[i*group*sp.HeadDim:][:group*sp.HeadDim]
		if in.at == nil {
			copy(out[first:], from)
			continue
		}
		arrange(out, from, in.at[first:][:len(from)])
	}
}

// attention is what the tokens of a block read.
type attention struct {
	s          *session
	layer, g   int
	block      attendBlock
	begin, end [attendTokens]int // positions
	stride     int               // the most of them
}

// eachRun calls do for every run of the cache and every token i that reads n positions of it, from p on: the first'th of
// the run.
func (a *attention) eachRun(cache []float32, do func(i, p, n int, run []float32, first int)) {
	s, size := a.s, a.s.keyRun
	last := a.end[a.block.count-1] // positions ascend
	for at := a.begin[0] / size * size; at < last; at += size {
		page, offset := s.slot(a.layer, a.block.first, at)
		run := s.part(cache, a.g, page)[offset*s.spec.HeadDim:][:size*s.spec.HeadDim]
		for i := range a.block.count {
			if p, end := max(at, a.begin[i]), min(at+size, a.end[i]); p < end {
				do(i, p, end-p, run, p-at)
			}
		}
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
