package cpu

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"hearth/internal/device"
)

// naive draws by sorting everything: what draw must agree with.
func naive(logits []float32, p *device.Sampling) int32 {
	type cand struct {
		id int32
		w  float64
	}
	l := slices.Clone(logits)
	count := map[int32]int{}
	for id := range l {
		if p.Mask != nil && p.Mask[id/32]>>(id%32)&1 == 0 || slices.Contains(p.Banned, int32(id)) {
			l[id] = negInf
		}
	}
	for _, b := range p.Bias {
		l[b.ID] += b.Value
	}
	if p.Repetition != 0 {
		for id := range l {
			if slices.Contains(p.Prompt, int32(id)) || slices.Contains(p.Output, int32(id)) {
				if l[id] > 0 {
					l[id] /= p.Repetition
				} else {
					l[id] *= p.Repetition
				}
			}
		}
	}
	for _, id := range p.Output {
		count[id]++
	}
	for id, n := range count {
		l[id] -= p.Presence + p.Frequency*float32(n)
	}
	best := argmax(l)
	if p.Temperature == 0 {
		return best
	}
	var c []cand
	for id, v := range l {
		c = append(c, cand{int32(id), math.Exp((float64(v) - float64(l[best])) * (1 / float64(p.Temperature)))})
	}
	if p.TopK > 0 && p.TopK < len(l) || p.TopP > 0 && p.TopP < 1 {
		slices.SortFunc(c, func(a, b cand) int {
			return cmp.Or(-cmp.Compare(l[a.id], l[b.id]), cmp.Compare(a.id, b.id))
		})
	}
	if p.TopK > 0 {
		c = c[:min(p.TopK, len(c))]
	}
	c = slices.DeleteFunc(c, func(x cand) bool { return x.w == 0 })
	sum := func() (s float64) {
		for _, x := range c {
			s += x.w
		}
		return s
	}
	if p.TopP > 0 && p.TopP < 1 {
		goal, s, n := sum()*float64(p.TopP), 0.0, 0
		for ; n < len(c) && s < goal; n++ {
			s += c[n].w
		}
		c = c[:n]
	}
	c = slices.DeleteFunc(c, func(x cand) bool { return x.w < float64(p.MinP) })
	u := uniform(p.Seed, uint64(len(p.Output))) * sum()
	for _, x := range c {
		if u < x.w {
			return x.id
		}
		u -= x.w
	}
	return c[len(c)-1].id
}

func TestDrawEqualsNaive(t *testing.T) {
	r := newRand(5)
	const vocab = 67
	d := newDrawScratch(vocab)
	pick := func(vs ...float32) float32 { return vs[r.IntN(len(vs))] }
	ids := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = int32(r.IntN(vocab))
		}
		return out
	}
	for i := range 20000 {
		logits := r.floats(vocab)
		for j := range logits { // ties are common in real life too
			logits[j] = float32(math.Round(float64(logits[j])*4)) / 2
		}
		p := &device.Sampling{
			Temperature: pick(0, 0.3, 1, 2), TopK: int(pick(0, 0, 1, 5, 66, 67, 200)), TopP: pick(0, 0, 0.01, 0.5, 0.95, 1), MinP: pick(0, 0, 0.05, 0.9),
			Presence: pick(0, 0, 1.5, -1), Frequency: pick(0, 0, 0.5), Repetition: pick(0, 0, 1.3), Seed: r.Uint64(),
			Prompt: ids(r.IntN(4)), Output: ids(r.IntN(9)), Banned: ids(r.IntN(3)),
		}
		if r.IntN(4) == 0 {
			p.Mask = []uint32{r.Uint32(), r.Uint32(), 7}
		}
		if r.IntN(4) == 0 {
			p.Bias = []device.Bias{{ID: ids(1)[0], Value: pick(-100, 3, 100)}}
		}
		got, err := d.draw(logits, p)
		if err != nil {
			t.Fatal(err)
		}
		if want := naive(logits, p); got != want {
			t.Fatalf("case %d: drew %d, want %d with %+v from %v", i, got, want, p, logits)
		}
		for id, n := range d.count {
			if n != 0 {
				t.Fatalf("case %d left count %d at id %d", i, n, id)
			}
		}
	}
}

// The draw follows the distribution: 100,000 draws against softmax, each id within five standard deviations.
func TestDrawFollowsDistribution(t *testing.T) {
	logits := []float32{0, 1, 2, -1, 0.5}
	d := newDrawScratch(len(logits))
	const n = 100000
	counts := make([]int, len(logits))
	for i := range n {
		id, err := d.draw(logits, &device.Sampling{Temperature: 1, Seed: uint64(i)})
		if err != nil {
			t.Fatal(err)
		}
		counts[id]++
	}
	norm, err := logSumExp(logits)
	if err != nil {
		t.Fatal(err)
	}
	for id, c := range counts {
		p := math.Exp(float64(logits[id]) - norm)
		if dev := math.Abs(float64(c)-n*p) / math.Sqrt(n*p*(1-p)); dev > 5 {
			t.Errorf("id %d drawn %d times of %d, probability %.4f: %.1f standard deviations off", id, c, n, p, dev)
		}
	}
}

func TestNothingLeftToDraw(t *testing.T) {
	d := newDrawScratch(3)
	if _, err := d.draw([]float32{1, 2, 3}, &device.Sampling{Banned: []int32{0, 1, 2}}); err == nil {
		t.Error("all ids banned and no error")
	}
}

// Parameters that the engine lets through may push logits past what float32 holds.
func TestDrawOverflow(t *testing.T) {
	logits := []float32{1, 2, 3, -1}
	for _, c := range []struct {
		name string
		p    device.Sampling
		want []int32 // any of these
	}{
		{"up", device.Sampling{Repetition: 1e-40, Output: []int32{1}}, []int32{1}},
		{"up twice", device.Sampling{Repetition: 1e-40, Frequency: -math.MaxFloat32, Output: []int32{1, 1}}, []int32{1}},
		{"up and down", device.Sampling{Repetition: 1e-40, Presence: math.MaxFloat32, Frequency: math.MaxFloat32, Banned: []int32{3}, Output: []int32{1, 1}}, []int32{0, 2}},
		{"down", device.Sampling{Repetition: math.MaxFloat32, Bias: []device.Bias{{ID: 2, Value: -200}}, Prompt: []int32{2}, Output: []int32{3}}, []int32{0, 1}},
		{"by a bias", device.Sampling{Bias: []device.Bias{{ID: 0, Value: math.MaxFloat32}, {ID: 0, Value: math.MaxFloat32}}}, []int32{0}},
	} {
		for _, how := range []device.Sampling{{}, {Temperature: 1}, {Temperature: 1, TopK: 3}, {Temperature: 1, TopP: 0.9}, {Temperature: 1e-30, MinP: 0.1}} {
			p := c.p
			p.Temperature, p.TopK, p.TopP, p.MinP = how.Temperature, how.TopK, how.TopP, how.MinP
			d := newDrawScratch(len(logits))
			id, err := d.draw(logits, &p)
			if err != nil || !slices.Contains(c.want, id) {
				t.Errorf("%s, %+v: drew %d, %v, want one of %v", c.name, how, id, err, c.want)
			}
		}
	}
}

func TestTop(t *testing.T) {
	logits := []float32{1, 3, 3, -2, 0}
	norm, _ := logSumExp(logits)
	d := newDrawScratch(len(logits))
	got := d.top(nil, logits, 4, norm)
	var ids []int32
	for _, x := range got {
		ids = append(ids, x.ID)
		near(t, "logprob", x.LogProb, float32(float64(logits[x.ID])-norm), 1e-7)
	}
	if !slices.Equal(ids, []int32{1, 2, 0, 4}) {
		t.Errorf("top ids %v", ids)
	}
}
