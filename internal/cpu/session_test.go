package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

type random struct{ *rand.Rand }

func newRand(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 7))} }

func (r random) floats(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func (r random) plane(rows, cols int) dtype.Plane {
	data := make([]byte, 0, rows*cols*4)
	for range rows * cols {
		v := float32(r.NormFloat64() / math.Sqrt(float64(cols)))
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return dtype.Plane{Format: dtype.F32, Rows: rows, Cols: cols, Data: data}
}

// A shape is a small model's sizes and how its matrices are stored.
type shape struct {
	spec    device.Spec
	dense   func(r random, rows, cols int) dtype.Plane
	experts func(r random, rows, cols int) dtype.Plane
	split   bool // gate and up rows apart
	round   Activations
	page    int // positions
}

// tinyShape has odd sizes: no width is a multiple of the tile, the window of the page, or the group of four.
func tinyShape() shape {
	return shape{spec: device.Spec{
		Layers: 3, Hidden: 50, Intermediate: 23, Heads: 6, KVHeads: 2, HeadDim: 10, Experts: 7, TopK: 3, Vocab: 101,
		Eps: 1e-5, SwigluAlpha: 1.702, SwigluLimit: 7, Windows: []int{5, 0, 5},
		InvFreq: []float32{1, 0.3, 0.1, 0.03, 0.01}, RopeScale: 1.3,
	}, dense: random.plane, experts: random.plane, page: 4}
}

// blockShape has the sizes that vector kernels are made for, MXFP4 experts and BF16 elsewhere, as the official model. Nine
// heads share their keys: eight, four or two at a time, and one.
func blockShape() shape {
	stored := func(f dtype.Format) func(random, int, int) dtype.Plane {
		return func(r random, rows, cols int) dtype.Plane {
			c := checker{r: r.Rand}
			return c.plane(f, rows, cols, 0)
		}
	}
	sp := tinyShape().spec
	sp.Hidden, sp.Intermediate, sp.Heads, sp.HeadDim, sp.InvFreq = 64, 96, 18, 64, make([]float32, 32)
	return shape{spec: sp, dense: stored(dtype.BF16), experts: stored(dtype.MXFP4), page: runKeys}
}

// apart stores gate and up rows apart: the same values, and so the same results.
func (m shape) apart() shape { m.split = true; return m }

func (m shape) paged(size int) shape { m.page = size; return m }

// split takes the rows of an MXFP4 or F32 plane apart.
func split(t testing.TB, p dtype.Plane) (even, odd dtype.Plane) {
	t.Helper()
	half := func(b []byte, r int) (h []byte) {
		n := len(b) / p.Rows
		for ; r < p.Rows; r += 2 {
			h = append(h, b[r*n:(r+1)*n]...)
		}
		return h
	}
	for r, d := range []*dtype.Plane{&even, &odd} {
		*d = dtype.Plane{Format: p.Format, Rows: p.Rows / 2, Cols: p.Cols, Data: half(p.Data, r)}
		if p.Scales != nil {
			d.Scales = half(p.Scales, r)
		}
		if err := d.Check(); err != nil {
			t.Fatal(err)
		}
	}
	return even, odd
}

// tiny is a session of the tinyShape at the level that a user gets.
func tiny(t testing.TB, threads int) (device.Session, device.Spec, device.Limits) {
	t.Helper()
	return tinyShape().open(t, threads, "")
}

func (m shape) open(t testing.TB, threads int, level string) (device.Session, device.Spec, device.Limits) {
	t.Helper()
	sp := m.spec
	lim := device.Limits{MaxTokens: 64, MaxSeqs: 8, MaxLogits: 64, PageSize: m.page, FullPages: 40, WindowPages: 40}
	d, err := New(Options{Threads: threads, Level: level, Activations: m.round})
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.NewSession(sp, lim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	r := newRand(3)
	linear := func(rows, cols int) device.Linear {
		return device.Linear{Weight: m.dense(r, rows, cols), Bias: r.floats(rows)}
	}
	experts := func(rows, cols int) device.Experts {
		x := device.Experts{Bias: r.floats(sp.Experts * rows)}
		for range sp.Experts {
			x.Weight.Even = append(x.Weight.Even, m.experts(r, rows, cols))
		}
		return x
	}
	if err := s.LoadEmbedding(m.dense(r, sp.Vocab, sp.Hidden)); err != nil {
		t.Fatal(err)
	}
	qw, kw := sp.Heads*sp.HeadDim, sp.KVHeads*sp.HeadDim
	for l := range sp.Layers {
		w := &device.Layer{
			AttnNorm: r.floats(sp.Hidden), MLPNorm: r.floats(sp.Hidden), Sinks: r.floats(sp.Heads),
			Q: linear(qw, sp.Hidden), K: linear(kw, sp.Hidden), V: linear(kw, sp.Hidden), O: linear(sp.Hidden, qw),
			Router: linear(sp.Experts, sp.Hidden),
			GateUp: experts(2*sp.Intermediate, sp.Hidden), Down: experts(sp.Hidden, sp.Intermediate),
		}
		if m.split {
			all := &w.GateUp.Weight
			all.Odd = make([]dtype.Plane, sp.Experts)
			for e := range all.Even {
				all.Even[e], all.Odd[e] = split(t, all.Even[e])
			}
		}
		if err := s.LoadLayer(l, w); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.LoadHead(r.floats(sp.Hidden), m.dense(r, sp.Vocab, sp.Hidden)); err != nil {
		t.Fatal(err)
	}
	return s, sp, lim
}

func step(t testing.TB, s device.Session, sp device.Spec, b *device.Batch, out []device.Output) {
	t.Helper()
	if err := s.Begin(b); err != nil {
		t.Fatal(err)
	}
	s.Embed()
	for l := range sp.Layers {
		s.QKV(l)
		s.Attend(l)
		s.AttnOut(l)
		s.Route(l)
		s.GateUp(l)
		s.Down(l)
	}
	s.Head()
	if err := s.Finish(out); err != nil {
		t.Fatal(err)
	}
}

// pages gives sequence i its own pages, in an order that is not ascending.
func pages(i, n int) []int32 {
	p := make([]int32, n)
	for j := range p {
		p[j] = int32((i*10 + (j*7)%10) % 40)
	}
	return p
}

// run reads each prompt in chunks of the given size, all sequences in one batch, and returns the log-probability of
// the next token at every position.
func run(t testing.TB, s device.Session, sp device.Spec, prompts [][]int32, chunk int) [][]float32 {
	t.Helper()
	got := make([][]float32, len(prompts))
	out := make([]device.Output, 64)
	for at := 0; ; at += chunk {
		var b device.Batch
		var owner []int
		for i, p := range prompts {
			n := min(chunk, len(p)-at)
			if n <= 0 {
				continue
			}
			b.Seqs = append(b.Seqs, device.Seq{First: len(b.Tokens), Count: n, Full: pages(i, 10), Window: pages(i, 10)})
			for j := range n {
				target := int32(0)
				if at+j+1 < len(p) {
					target = p[at+j+1]
				}
				b.Logits = append(b.Logits, device.LogitRow{Row: len(b.Tokens), Target: target})
				owner = append(owner, i)
				b.Tokens = append(b.Tokens, p[at+j])
				b.Positions = append(b.Positions, int32(at+j))
			}
		}
		if len(b.Tokens) == 0 {
			return got
		}
		step(t, s, sp, &b, out)
		for i, o := range out[:len(b.Logits)] {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
			got[owner[i]] = append(got[owner[i]], o.TargetLogProb)
		}
	}
}

// The promise of every level: results do not depend on chunks, on neighbours in the batch, on threads, or on the size of
// pages, to the last bit.
func TestResultsDoNotDependOnBatching(t *testing.T) {
	r := newRand(9)
	var prompts [][]int32
	for _, n := range []int{1, 13, 20, 30} {
		p := make([]int32, n)
		for i := range p {
			p[i] = int32(r.IntN(101))
		}
		prompts = append(prompts, p)
	}
	eachLevel(t, func(t *testing.T, l *level) {
		for name, m := range map[string]shape{"tiny": tinyShape(), "blocks": blockShape()} {
			s, sp, _ := m.open(t, 1, l.name)
			want := make([][]float32, len(prompts))
			for i := range prompts {
				want[i] = run(t, s, sp, prompts[i:i+1], 1)[0]
			}
			for _, threads := range []int{1, 2, 5} {
				// Whole runs of keys only: otherwise portable sums, four keys at a time, begin where pages do.
				if threads == 5 && name == "blocks" {
					m = m.paged(3 * runKeys)
				}
				s, sp, _ := m.open(t, threads, l.name)
				for _, chunk := range []int{1, 3, 4, 16} {
					got := run(t, s, sp, prompts, chunk)
					for i := range want {
						if !slices.Equal(got[i], want[i]) {
							t.Errorf("%s threads %d chunk %d prompt %d: %v, alone one by one %v", name, threads, chunk, i, got[i], want[i])
						}
					}
				}
			}
		}
	})
}

// Where gate and up rows lie makes no difference to the last bit.
func TestGateAndUpApart(t *testing.T) {
	prompts := [][]int32{{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5}, {100, 0, 17}}
	eachLevel(t, func(t *testing.T, l *level) {
		for name, m := range map[string]shape{"tiny": tinyShape(), "blocks": blockShape()} {
			for _, chunk := range []int{1, 4} {
				s, sp, _ := m.open(t, 2, l.name)
				want := run(t, s, sp, prompts, chunk)
				s, sp, _ = m.apart().open(t, 2, l.name)
				for i, got := range run(t, s, sp, prompts, chunk) {
					if !slices.Equal(got, want[i]) {
						t.Errorf("%s chunk %d prompt %d: %v, interleaved %v", name, chunk, i, got, want[i])
					}
				}
			}
		}
	})
}

// Window pages that no query can reach are released by the engine and come as -1; they must not be read.
func TestReleasedWindowPagesAreNotRead(t *testing.T) {
	prompt := make([]int32, 30)
	for i := range prompt {
		prompt[i] = int32(i * 3)
	}
	s, sp, lim := tiny(t, 2)
	want := run(t, s, sp, [][]int32{prompt}, 1)[0]

	s, sp, _ = tiny(t, 2)
	out := make([]device.Output, 1)
	for p, id := range prompt {
		window := pages(0, 10)
		for b := range window {
			if (b+1)*lim.PageSize <= p-5+1 {
				window[b] = -1
			}
		}
		b := &device.Batch{Tokens: []int32{id}, Positions: []int32{int32(p)},
			Seqs: []device.Seq{{Count: 1, Full: pages(0, 10), Window: window}}, Logits: []device.LogitRow{{Target: append(prompt, 0)[p+1]}}}
		step(t, s, sp, b, out)
		if out[0].TargetLogProb != want[p] {
			t.Fatalf("position %d: %v, want %v", p, out[0].TargetLogProb, want[p])
		}
	}
}

func TestStepAllocatesNothing(t *testing.T) {
	b := &device.Batch{
		Tokens: []int32{5, 6, 7}, Positions: []int32{3, 0, 1},
		Seqs:   []device.Seq{{Count: 1, Full: pages(0, 4), Window: pages(0, 4)}, {First: 1, Count: 2, Full: pages(1, 4), Window: pages(1, 4)}},
		Logits: []device.LogitRow{{Row: 0, Target: -1, Sample: &device.Sampling{Temperature: 1, TopP: 0.9, TopK: 20, Presence: 1, Output: []int32{1, 2}}}, {Row: 2, Target: 4, Top: 5}},
	}
	out := make([]device.Output, 2)
	eachLevel(t, func(t *testing.T, l *level) {
		for name, m := range map[string]shape{"tiny": tinyShape(), "blocks": blockShape()} {
			s, sp, _ := m.open(t, 2, l.name)
			if n := testing.AllocsPerRun(20, func() { step(t, s, sp, b, out) }); n != 0 {
				t.Errorf("a step of %s allocates %v times", name, n)
			}
		}
	})
}

func TestBrokenWeightsAreAnError(t *testing.T) {
	s, sp, _ := tiny(t, 2)
	r := newRand(1)
	head := r.plane(sp.Vocab, sp.Hidden)
	binary.LittleEndian.PutUint32(head.Data[77*4*sp.Hidden:], math.Float32bits(float32(math.NaN())))
	if err := s.LoadHead(r.floats(sp.Hidden), head); err != nil {
		t.Fatal(err)
	}
	b := &device.Batch{Tokens: []int32{1}, Positions: []int32{0}, Seqs: []device.Seq{{Count: 1, Full: pages(0, 1), Window: pages(0, 1)}},
		Logits: []device.LogitRow{{Target: -1, Sample: &device.Sampling{}}}}
	out := make([]device.Output, 1)
	step(t, s, sp, b, out)
	if out[0].Err == nil || out[0].Token != -1 {
		t.Errorf("logits with a NaN gave token %d and error %v", out[0].Token, out[0].Err)
	}
}

func TestLoadRefusesWrongShapes(t *testing.T) {
	s, sp, _ := tiny(t, 1)
	r := newRand(1)
	for name, err := range map[string]error{
		"embedding": s.LoadEmbedding(r.plane(sp.Vocab, sp.Hidden-1)),
		"head":      s.LoadHead(r.floats(sp.Hidden-1), r.plane(sp.Vocab, sp.Hidden)),
		"layer":     s.LoadLayer(0, &device.Layer{}),
		"index":     s.LoadLayer(sp.Layers, &device.Layer{}),
	} {
		if err == nil {
			t.Errorf("%s of a wrong shape was taken", name)
		}
	}
}

func TestBatchCheck(t *testing.T) {
	good := func() *device.Batch {
		return &device.Batch{Tokens: []int32{1, 2}, Positions: []int32{0, 1}, Seqs: []device.Seq{{Count: 2, Full: []int32{0}, Window: []int32{0}}}}
	}
	s, sp, _ := tiny(t, 1)
	if err := s.Begin(good()); err != nil {
		t.Fatal(err)
	}
	for i, breakIt := range []func(*device.Batch){
		func(b *device.Batch) { b.Tokens = nil },
		func(b *device.Batch) { b.Tokens[1] = int32(sp.Vocab) },
		func(b *device.Batch) { b.Tokens[0] = -1 },
		func(b *device.Batch) { b.Positions[1] = 2 },
		func(b *device.Batch) { b.Positions = b.Positions[:1] },
		func(b *device.Batch) { b.Seqs[0].Count = 1 },
		func(b *device.Batch) { b.Seqs[0].First = 1 },
		func(b *device.Batch) { b.Seqs[0].Full = nil },
		func(b *device.Batch) { b.Seqs[0].Full[0] = 40 },
		func(b *device.Batch) { b.Seqs[0].Window[0] = 40 },
		func(b *device.Batch) { b.Logits = []device.LogitRow{{Row: 2}} },
		func(b *device.Batch) { b.Logits = []device.LogitRow{{Row: 1}, {Row: 0}} },
		func(b *device.Batch) { b.Logits = []device.LogitRow{{Target: int32(sp.Vocab)}} },
		func(b *device.Batch) { b.Tokens, b.Positions = make([]int32, 65), make([]int32, 65) },
	} {
		b := good()
		breakIt(b)
		if err := s.Begin(b); err == nil {
			t.Errorf("broken batch %d was taken: %s", i, fmt.Sprintf("%+v", b))
		}
	}
}
