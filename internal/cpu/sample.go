package cpu

import (
	"fmt"
	"math"

	"hearth/internal/device"
)

// sampleJob answers one logit row.
type sampleJob struct{ s *session }

func (j *sampleJob) do(w *worker, i int) {
	s := j.s
	row, out := &s.batch.Logits[i], &s.out[i]
	logits := s.logits[i*s.spec.Vocab : (i+1)*s.spec.Vocab]
	*out = device.Output{Token: -1, Top: out.Top[:0]}
	norm, err := w.k.logSumExp(w.draw.logits, logits)
	if err != nil {
		out.Err = fmt.Errorf("token %d of the batch: %w", row.Row, err)
		return
	}
	if row.Target >= 0 {
		out.TargetLogProb = float32(float64(logits[row.Target]) - norm)
	}
	if row.Top > 0 {
		out.Top = w.draw.top(out.Top, logits, min(row.Top, len(logits)), norm)
	}
	if row.Sample != nil {
		out.Token, err = w.draw.draw(logits, row.Sample)
		if err != nil {
			out.Err = fmt.Errorf("token %d of the batch: %w", row.Row, err)
			return
		}
		out.LogProb = float32(float64(logits[out.Token]) - norm)
	}
}

// logSumExp is the logarithm of the sum of exponentials, in float64. A NaN or an infinity is an error: a token drawn
// from such a row would be noise.
func logSumExp(logits []float32) (float64, error) {
	m := float32(math.Inf(-1))
	for id, v := range logits {
		if v-v != 0 { // NaN, +Inf, -Inf
			return 0, fmt.Errorf("logit of id %d is %v: the weights or the computation are broken", id, v)
		}
		m = max(m, v)
	}
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v - m))
	}
	return float64(m) + math.Log(sum), nil
}

// drawScratch is a worker's memory for sampling.
type drawScratch struct {
	logits []float32 // adjusted copy, [Vocab]
	heap   []int32   // candidate ids
	prob   []float64 // of the candidates kept
	count  []int32   // occurrences, [Vocab]; all zero between draws
}

func newDrawScratch(vocab int) drawScratch {
	return drawScratch{
		logits: make([]float32, vocab), heap: make([]int32, vocab), prob: make([]float64, vocab), count: make([]int32, vocab),
	}
}

var negInf = float32(math.Inf(-1))

// draw picks a token in the order that device.Sampling documents.
func (d *drawScratch) draw(logits []float32, p *device.Sampling) (int32, error) {
	l := d.logits
	copy(l, logits)
	if p.Mask != nil {
		for id := range l {
			if id/32 >= len(p.Mask) || p.Mask[id/32]>>(id%32)&1 == 0 {
				l[id] = negInf
			}
		}
	}
	for _, id := range p.Banned {
		if id >= 0 && int(id) < len(l) {
			l[id] = negInf
		}
	}
	for _, b := range p.Bias {
		if b.ID >= 0 && int(b.ID) < len(l) {
			l[b.ID] = tamed(l[b.ID] + b.Value)
		}
	}
	d.penalise(l, p)
	best := argmax(l)
	if math.IsInf(float64(l[best]), -1) {
		return -1, fmt.Errorf("every token is masked or banned")
	}
	if p.Temperature <= 0 {
		return best, nil
	}
	return d.pick(l, best, p), nil
}

// tamed keeps a logit that parameters pushed out of the numbers comparable: up, it stays the greatest; NaN is never drawn.
func tamed(v float32) float32 {
	if v > negInf {
		return min(v, math.MaxFloat32)
	}
	return negInf
}

// penalise applies the three penalties from the history.
func (d *drawScratch) penalise(l []float32, p *device.Sampling) {
	if p.Repetition != 0 && p.Repetition != 1 {
		for _, ids := range [2][]int32{p.Prompt, p.Output} {
			for _, id := range ids {
				if int(id) >= len(l) || d.count[id] != 0 {
					continue
				}
				d.count[id] = 1
				if l[id] > 0 {
					l[id] = tamed(l[id] / p.Repetition)
				} else {
					l[id] = tamed(l[id] * p.Repetition)
				}
			}
		}
		d.forget(p.Prompt)
		d.forget(p.Output)
	}
	if p.Presence != 0 || p.Frequency != 0 {
		for _, id := range p.Output {
			if int(id) < len(l) {
				d.count[id]++
			}
		}
		for _, id := range p.Output {
			if int(id) < len(l) && d.count[id] > 0 {
				l[id] = tamed(l[id] - (p.Presence + p.Frequency*float32(d.count[id])))
				d.count[id] = 0
			}
		}
	}
}

func (d *drawScratch) forget(ids []int32) {
	for _, id := range ids {
		if int(id) < len(d.count) {
			d.count[id] = 0
		}
	}
}

// pick draws from the softmax of l/temperature, cut by top-k, top-p and min-p.
func (d *drawScratch) pick(l []float32, best int32, p *device.Sampling) int32 {
	m, it := float64(l[best]), 1/float64(p.Temperature)
	weight := func(id int32) float64 { return math.Exp((float64(l[id]) - m) * it) }
	u := uniform(p.Seed, uint64(len(p.Output)))
	sorted := (p.TopK > 0 && p.TopK < len(l)) || (p.TopP > 0 && p.TopP < 1)
	if !sorted {
		ids, probs, total := d.heap[:0], d.prob[:0], 0.0
		for id := range l {
			if w := weight(int32(id)); w >= float64(p.MinP) && w > 0 {
				ids, probs, total = append(ids, int32(id)), append(probs, w), total+w
			}
		}
		return walk(ids, probs, u*total)
	}
	return d.pickSorted(l, weight, u, p)
}

// pickSorted takes candidates in descending order until top-k, top-p or min-p ends them.
func (d *drawScratch) pickSorted(l []float32, weight func(int32) float64, u float64, p *device.Sampling) int32 {
	ids := d.heap[:len(l)]
	for i := range ids {
		ids[i] = int32(i)
	}
	before := func(a, b int32) bool { return l[a] > l[b] || l[a] == l[b] && a < b }
	heapify(ids, before)
	k := len(l)
	if p.TopK > 0 {
		k = min(k, p.TopK)
	}
	goal := math.Inf(1)
	if p.TopP > 0 && p.TopP < 1 && k == len(l) {
		total := 0.0
		for id := range l {
			total += weight(int32(id))
		}
		goal = total * float64(p.TopP)
	}
	// Popped ids gather behind the shrinking heap, so kept[n-1-i] is the i-th.
	probs, sum := d.prob[:0], 0.0
	for len(probs) < k && sum < goal {
		w := weight(ids[0])
		if w == 0 {
			break
		}
		probs, sum = append(probs, w), sum+w
		last := len(ids) - 1
		ids[0], ids[last] = ids[last], ids[0]
		ids = ids[:last]
		siftDown(ids, 0, before)
	}
	kept := d.heap[len(ids):len(l)]
	if p.TopP > 0 && p.TopP < 1 && k < len(l) {
		goal, sum = sum*float64(p.TopP), 0
		n := 0
		for ; n < len(probs) && sum < goal; n++ {
			sum += probs[n]
		}
		probs, kept = probs[:n], kept[len(kept)-n:]
	}
	total, n := 0.0, 0
	for ; n < len(probs) && (n == 0 || probs[n] >= float64(p.MinP)*probs[0]); n++ {
		total += probs[n]
	}
	u *= total
	for i, w := range probs[:n] {
		if u < w {
			return kept[len(kept)-1-i]
		}
		u -= w
	}
	return kept[len(kept)-1]
}

// walk finds the id whose share of the running sum holds u.
func walk(ids []int32, probs []float64, u float64) int32 {
	for i, w := range probs {
		if u < w {
			return ids[i]
		}
		u -= w
	}
	return ids[len(ids)-1] // rounding left u at the very end
}

// top fills out with the n most likely ids.
func (d *drawScratch) top(out []device.TokenLogProb, logits []float32, n int, norm float64) []device.TokenLogProb {
	ids := d.heap[:len(logits)]
	for i := range ids {
		ids[i] = int32(i)
	}
	before := func(a, b int32) bool { return logits[a] > logits[b] || logits[a] == logits[b] && a < b }
	heapify(ids, before)
	for range n {
		out = append(out, device.TokenLogProb{ID: ids[0], LogProb: float32(float64(logits[ids[0]]) - norm)})
		last := len(ids) - 1
		ids[0] = ids[last]
		ids = ids[:last]
		siftDown(ids, 0, before)
	}
	return out
}

func argmax(l []float32) int32 {
	best := 0
	for id, v := range l {
		if v > l[best] {
			best = id
		}
	}
	return int32(best)
}

func heapify(ids []int32, before func(a, b int32) bool) {
	for i := len(ids)/2 - 1; i >= 0; i-- {
		siftDown(ids, i, before)
	}
}

func siftDown(ids []int32, i int, before func(a, b int32) bool) {
	for {
		c := 2*i + 1
		if c >= len(ids) {
			return
		}
		if c+1 < len(ids) && before(ids[c+1], ids[c]) {
			c++
		}
		if !before(ids[c], ids[i]) {
			return
		}
		ids[i], ids[c] = ids[c], ids[i]
		i = c
	}
}

// uniform is the n-th number in [0, 1) of a seed's sequence: a counter through the SplitMix64 finaliser, so that a
// draw depends on the seed and its own number and on nothing else.
func uniform(seed, n uint64) float64 {
	z := seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>11) / (1 << 53)
}
