package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hearth/internal/device"
	"hearth/internal/testgpu"
	"hearth/internal/testmodel"
)

// sampleCase is one step's logits and what is asked of them.
type sampleCase struct {
	logits [][]float32
	rows   []device.LogitRow
}

func (s *sampleCase) add(logits []float32, r device.LogitRow) {
	r.Row = len(s.rows)
	s.logits, s.rows = append(s.logits, logits), append(s.rows, r)
}

// sampler is the operation with room for rows rows.
func sampler(t *testing.T, c *context, vocab, rows int) *sampleOps {
	t.Helper()
	p, err := newSample(c, &shape{Spec: device.Spec{Vocab: vocab}, Limits: device.Limits{MaxLogits: rows}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// answer runs one step.
func (p *sampleOps) answer(t *testing.T, s *sampleCase) []device.Output {
	t.Helper()
	flat := slices.Concat(s.logits...)
	b, err := p.c.alloc(int64(4*len(flat)), useActivation)
	if err != nil {
		t.Fatal(err)
	}
	defer p.c.free(b)
	q := p.c.queue
	q.upload(b.ptr, bytesOf(flat))
	if err := p.begin(q, &device.Batch{Logits: s.rows}); err != nil {
		t.Fatal(err)
	}
	p.run(q, b.ptr, len(s.rows))
	out := make([]device.Output, len(s.rows))
	if err := p.collect(q, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// compareOutputs holds tokens and ids to be equal, log-probabilities to differ by no more than float32 sums of
// exponentials explain.
func compareOutputs(t *testing.T, s *sampleCase, got, want []device.Output) {
	t.Helper()
	near := func(a, b float32) bool { return math.Abs(float64(a)-float64(b)) <= 2e-6+1e-6*math.Abs(float64(b)) }
	opt := cmp.Options{
		cmp.Comparer(near),
		cmp.Comparer(func(a, b error) bool { return fmt.Sprint(a) == fmt.Sprint(b) }),
		cmp.Comparer(func(a, b []device.TokenLogProb) bool {
			return slices.EqualFunc(a, b, func(a, b device.TokenLogProb) bool { return a.ID == b.ID && near(a.LogProb, b.LogProb) })
		}),
	}
	for i := range want {
		if d := cmp.Diff(want[i], got[i], opt); d != "" {
			t.Errorf("row %d, %+v of %+v: package cpu and the GPU differ:\n%s", i, s.rows[i].Sample, s.rows[i], d)
		}
	}
}

type sampleRand struct{ *rand.Rand }

func newSampleRand(seed uint64) sampleRand { return sampleRand{rand.New(rand.NewPCG(seed, 11))} }

func (r sampleRand) pick(v ...float32) float32 { return v[r.IntN(len(v))] }

// logits are normal, in steps of grain where that is not 0: then equals are common.
func (r sampleRand) logits(n int, deviation, grain float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		x := r.NormFloat64() * deviation
		if grain > 0 {
			x = math.Round(x/grain) * grain
		}
		v[i] = float32(x)
	}
	return v
}

func (r sampleRand) ids(n, vocab int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(r.IntN(vocab))
	}
	return out
}

// sampling is anything that the API allows, ids outside of the vocabulary included.
func (r sampleRand) sampling(vocab int) *device.Sampling {
	p := &device.Sampling{
		Temperature: r.pick(0, 0.01, 0.3, 1, 2, 100), TopK: int(r.pick(0, 0, 1, 5, 50, float32(vocab-1), float32(vocab+5))),
		TopP: r.pick(0, 0, 0.01, 0.37, 0.95, 1), MinP: r.pick(0, 0, 0.05, 0.9, 1), Presence: r.pick(0, 0, 1.5, -1), Frequency: r.pick(0, 0, 0.7),
		Repetition: r.pick(0, 0, 1, 1.3, 0.8), Seed: r.Uint64(), Prompt: r.ids(r.IntN(40), vocab/2), Output: r.ids(r.IntN(60), vocab+3), Banned: r.ids(r.IntN(3), vocab+2),
	}
	if r.IntN(4) == 0 {
		p.Mask = make([]uint32, (vocab+31)/32)
		for i := range p.Mask {
			p.Mask[i] = r.Uint32() & r.Uint32()
		}
		p.Mask[vocab/64] |= 1
	}
	for range r.IntN(4) * r.IntN(4) {
		p.Bias = append(p.Bias, device.Bias{ID: int32(r.IntN(vocab)), Value: r.pick(-100, 3.25, 0.1, 100, float32(math.Inf(-1)))})
	}
	if len(p.Bias) > 2 {
		p.Bias[0].ID = p.Bias[2].ID
	}
	return p
}

func TestSample(t *testing.T) {
	vocabularies := []int{67, 640, 1307}
	if testmodel.Race {
		vocabularies = vocabularies[:1]
	}
	eachContext(t, func(t *testing.T, c *context) {
		r := newSampleRand(1)
		const rows = 20
		for _, vocab := range vocabularies {
			p := sampler(t, c, vocab, rows)
			for step := range 2 {
				s := &sampleCase{}
				for range rows - step { // the number of rows changes, buffers stay
					l := device.LogitRow{Target: int32(r.IntN(vocab+1)) - 1, Top: int(r.pick(0, 0, 1, 20, float32(vocab), float32(vocab+9)))}
					if r.IntN(8) > 0 {
						l.Sample = r.sampling(vocab)
					}
					s.add(r.logits(vocab, float64(r.pick(0.5, 3, 12)), float64(r.pick(0, 0, 0.5))), l)
				}
				compareOutputs(t, s, p.answer(t, s), sampleOracle(t, s.logits, s.rows))
			}
		}
	})
}

// skipRace leaves out what the interpreter takes a minute for under the race detector.
func skipRace(t *testing.T) {
	t.Helper()
	if testmodel.Race {
		t.Skip("the race detector is on: the same host code runs in TestSample, on fewer ids")
	}
}

// More candidates than can be sorted at once: equals, a crowd within one bin, a flat distribution, many most likely ids.
func TestSampleCrowds(t *testing.T) {
	skipRace(t)
	const vocab = 5000
	eachContext(t, func(t *testing.T, c *context) {
		r := newSampleRand(2)
		equal, crowd, flat := make([]float32, vocab), r.logits(vocab, 0.002, 0), r.logits(vocab, 1, 0)
		crowd[vocab-1] = 30
		s := &sampleCase{}
		for i, logits := range [][]float32{equal, crowd, flat} {
			for _, top := range []int{2500, vocab} {
				s.add(logits, device.LogitRow{Target: 3, Top: top, Sample: &device.Sampling{
					Temperature: []float32{1, 100, 3}[i], TopK: top, TopP: 0.931, Seed: uint64(top),
				}})
			}
			s.add(logits, device.LogitRow{Target: -1, Sample: &device.Sampling{Temperature: 50, TopK: 3000, MinP: 0.3, Seed: 9}})
		}
		compareOutputs(t, s, sampler(t, c, vocab, len(s.rows)).answer(t, s), sampleOracle(t, s.logits, s.rows))
	})
}

func TestSampleWholeVocabulary(t *testing.T) {
	skipRace(t)
	const vocab = 201088
	eachContext(t, func(t *testing.T, c *context) {
		r := newSampleRand(3)
		logits := r.logits(vocab, 2.5, 0)
		s := &sampleCase{}
		s.add(logits, device.LogitRow{Target: 7, Top: 20, Sample: &device.Sampling{}})
		s.add(logits, device.LogitRow{Target: -1, Sample: &device.Sampling{Temperature: 1, TopP: 0.9, Seed: 1}})
		s.add(logits, device.LogitRow{Target: -1, Sample: &device.Sampling{Temperature: 0.8, Seed: 2, Repetition: 1.1, Prompt: r.ids(5000, vocab), Output: r.ids(900, vocab)}})
		compareOutputs(t, s, sampler(t, c, vocab, len(s.rows)).answer(t, s), sampleOracle(t, s.logits, s.rows))
	})
}

// One broken row is that row's error; its neighbours answer. The words are the oracle's.
func TestSampleBrokenRows(t *testing.T) {
	const vocab = 1100
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	eachContext(t, func(t *testing.T, c *context) {
		r := newSampleRand(4)
		s := &sampleCase{}
		for _, broken := range []struct {
			id int
			v  float32
		}{{-1, 0}, {0, nan}, {600, inf}, {vocab - 1, -inf}, {700, nan}} {
			l := r.logits(vocab, 2, 0)
			if broken.id >= 0 {
				l[broken.id] = broken.v
				l[vocab-1] = nan // a later one is not the one that is named
			}
			p := r.sampling(vocab)
			p.Temperature = 1
			s.add(l, device.LogitRow{Target: 1, Top: 3, Sample: p})
		}
		s.add(r.logits(vocab, 2, 0), device.LogitRow{Target: 1, Top: 2, Sample: &device.Sampling{Temperature: 1, TopK: 5, Mask: []uint32{}}})
		got := sampler(t, c, vocab, len(s.rows)).answer(t, s)
		for i := range s.rows { // alone: in the oracle's head a NaN spreads over all rows
			alone := sampleCase{logits: s.logits[i : i+1], rows: slices.Clone(s.rows[i : i+1])}
			alone.rows[0].Row = 0
			want := sampleOracle(t, alone.logits, alone.rows)
			if (want[0].Err == nil) != (i == 0) {
				t.Fatalf("row %d: the oracle's error is %v", i, want[0].Err)
			}
			if want[0].Err != nil {
				want[0].Err = rename(want[0].Err, i)
			}
			compareOutputs(t, &alone, got[i:i+1], want)
		}
	})
}

// rename says the oracle's words of token 0 about token i.
func rename(err error, i int) error {
	return fmt.Errorf("token %d%s", i, err.Error()[len("token 0"):])
}

// A row's answer has the same bits alone and in any company, and in whatever order blocks and warps run.
func TestSampleAlone(t *testing.T) {
	const vocab = 1500
	r := newSampleRand(5)
	s := &sampleCase{}
	for range 10 {
		s.add(r.logits(vocab, 2, 0.01), device.LogitRow{Target: 5, Top: 4, Sample: r.sampling(vocab)})
	}
	eachContext(t, func(t *testing.T, c *context) {
		p := sampler(t, c, vocab, len(s.rows))
		together := p.answer(t, s)
		for i := range s.rows {
			alone := p.answer(t, &sampleCase{logits: s.logits[i : i+1], rows: s.rows[i : i+1]})
			if d := cmp.Diff(together[i:i+1], alone); d != "" {
				t.Errorf("row %d alone differs:\n%s", i, d)
			}
		}
		_, other := simContext(t, testgpu.Config{Shuffle: 77, SMs: 5})
		if d := cmp.Diff(together, sampler(t, other, vocab, len(s.rows)).answer(t, s)); t.Name() == "TestSampleAlone/sim" && d != "" {
			t.Errorf("in another order:\n%s", d)
		}
	})
}

// Where there is no memory for a step's histories, that step fails and the next one answers.
func TestSampleOutOfMemory(t *testing.T) {
	const vocab = 640
	m, c := simContext(t, testgpu.Config{})
	p := sampler(t, c, vocab, 2)
	r := newSampleRand(6)
	s := &sampleCase{}
	s.add(r.logits(vocab, 2, 0), device.LogitRow{Target: -1, Sample: &device.Sampling{Temperature: 1, Presence: 1, Output: r.ids(30000, vocab)}})
	m.failAfter("cuMemAlloc", 2, outOfMemory)
	var e *Error
	if err := p.begin(c.queue, &device.Batch{Logits: s.rows}); !errors.As(err, &e) || status(e.Code) != outOfMemory {
		t.Fatalf("without memory: %v", err)
	}
	compareOutputs(t, s, p.answer(t, s), sampleOracle(t, s.logits, s.rows))
}
