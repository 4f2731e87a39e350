package cpu

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

// benchLayers stand for gpt-oss-20b's 24: a step's time is that of its layers times 24/benchLayers, and of its head.
const benchLayers = 2

// BenchmarkStep times whole steps of gpt-oss-20b's shapes, weights in memory, on two threads: medians, beside the reads and
// the multiply-adds that the same threads do at best, measured between the steps. Where others use the machine at the
// same time, processor time says more of arithmetic than the clock does: of-core is the share of the peak that the
// workers reached while they ran, best step.
func BenchmarkStep(b *testing.B) {
	for _, l := range levels() {
		if l.name == "portable" || l.usable() != nil {
			continue
		}
		for _, f := range []dtype.Format{dtype.MXFP4, dtype.NF4} {
			s := benchSession(b, f, l.name)
			for _, c := range []struct {
				name            string
				seqs, run, past int
			}{
				{"decode", 1, 1, 0}, {"decode-at-8192", 1, 1, 8191}, {"batch-2", 2, 1, 0}, {"batch-8", 8, 1, 0},
				{"prefill-128", 1, 128, 0}, {"prefill-512", 1, 512, 0}, {"prefill-512-at-512", 1, 512, 512},
			} {
				b.Run(fmt.Sprintf("%s/%v/%s", l.name, f, c.name), func(b *testing.B) { benchStep(b, s, l.name, c.seqs, c.run, c.past) })
			}
			s.Close()
		}
	}
}

func benchStep(b *testing.B, s *session, level string, seqs, run, past int) {
	batch := &device.Batch{}
	for i := range seqs {
		batch.Seqs = append(batch.Seqs, device.Seq{First: i * run, Count: run, Full: benchPages(i), Window: benchPages(i)})
		for t := range run {
			batch.Tokens, batch.Positions = append(batch.Tokens, int32(i*997+t*31)), append(batch.Positions, int32(past+t))
		}
		batch.Logits = append(batch.Logits, device.LogitRow{Row: (i+1)*run - 1, Target: -1, Sample: &device.Sampling{}})
	}
	meter := &Device{threads: 2, level: level20(level)}
	out := make([]device.Output, seqs)
	var steps, layers, heads, reads, peaks, busy []float64
	var core float64 // operations a second of processor time, at best
	for b.Loop() {
		start := time.Now()
		for i := range batch.Tokens {
			batch.Tokens[i] = (batch.Tokens[i] + 7919) % int32(s.spec.Vocab)
		}
		if err := s.Begin(batch); err != nil {
			b.Fatal(err)
		}
		s.Embed()
		begin, used := time.Now(), processorTime()
		for l := range benchLayers {
			s.QKV(l)
			s.Attend(l)
			s.AttnOut(l)
			s.Route(l)
			s.GateUp(l)
			s.Down(l)
		}
		end := time.Now()
		used = (processorTime() - used) * 24 / benchLayers
		head := processorTime()
		s.Head()
		if err := s.Finish(out); err != nil {
			b.Fatal(err)
		}
		busy = append(busy, used+processorTime()-head)
		layer := end.Sub(begin).Seconds() / benchLayers
		layers = append(layers, layer)
		heads = append(heads, time.Since(end).Seconds())
		steps = append(steps, time.Since(start).Seconds()+layer*(24-benchLayers))
		reads = append(reads, meter.readBandwidth(256<<20, time.Millisecond))
		peak, _ := meter.Arithmetic(time.Millisecond)
		peaks = append(peaks, peak)
		if loop, flops := multiplyAdds(level, Float32); loop != nil {
			used := processorTime()
			loop(1 << 21)
			core = max(core, float64(flops<<21)/(processorTime()-used))
		}
	}
	median := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
	tokens, read, peak := float64(seqs*run)/median(steps), median(reads), median(peaks)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(tokens, "tok/s")
	b.ReportMetric(float64(seqs*run)/steps[0], "best-tok/s")
	b.ReportMetric(1e3*median(layers), "ms/layer")
	b.ReportMetric(1e3*median(heads), "ms/head")
	b.ReportMetric(read/1e9, "read-GB/s")
	b.ReportMetric(peak/1e9, "peak-GFLOP/s")
	if run == 1 {
		b.ReportMetric(s.stepBytes(batch)*float64(1)/median(steps)/read, "of-read")
	} else {
		b.ReportMetric(s.stepFlops(seqs*run)/median(steps)/peak, "of-peak")
		b.ReportMetric(s.stepFlops(seqs*run)/slices.Min(busy)/core, "of-core")
	}
}

// benchPages are a sequence's of its own, 10,240 positions.
func benchPages(i int) []int32 {
	p := make([]int32, benchContext)
	for j := range p {
		p[j] = int32(i%benchSeqs*benchContext + j)
	}
	return p
}

// benchSession has pages for so many sequences of as many pages.
const benchSeqs, benchContext = 4, 640

// BenchmarkAttend times attention to 8,192 positions alone, of a sequence after another: keys and values come from memory.
func BenchmarkAttend(b *testing.B) {
	for _, l := range levels() {
		if l.name == "portable" || l.usable() != nil {
			continue
		}
		s := benchSession(b, dtype.MXFP4, l.name)
		for _, tokens := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/tokens=%d", l.name, tokens), func(b *testing.B) {
				const context = 8192
				b.SetBytes(context * 2 * 4 * int64(s.spec.KVHeads*s.spec.HeadDim))
				i := 0
				for b.Loop() {
					batch := &device.Batch{Seqs: []device.Seq{{Count: tokens, Full: benchPages(i), Window: benchPages(i)}}}
					for t := range tokens {
						batch.Tokens, batch.Positions = append(batch.Tokens, 1), append(batch.Positions, int32(context-tokens+t))
					}
					if err := s.Begin(batch); err != nil {
						b.Fatal(err)
					}
					s.Attend(1)
					i++
				}
			})
		}
		s.Close()
	}
}

// processorTime is what the process has used, in seconds.
func processorTime() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func level20(name string) level {
	for _, l := range levels() {
		if l.name == name {
			return l
		}
	}
	return level{}
}

// stepBytes is what a step of 24 layers reads at least: weights and, in the full-attention layers, keys and values.
func (s *session) stepBytes(b *device.Batch) float64 {
	l := &s.layers[benchLayers-1]
	dense := float64(l.Q.Weight.Bytes() + l.K.Weight.Bytes() + l.V.Weight.Bytes() + l.O.Weight.Bytes())
	expert := float64(l.GateUp.Weight.Even[0].Bytes() + l.Down.Weight.Even[0].Bytes())
	n := 24*(dense+expert*float64(len(s.groups.active))) + float64(s.head.Bytes())
	for _, p := range b.Positions {
		n += 12 * float64(p) * float64(2*4*s.spec.KVHeads*s.spec.HeadDim)
	}
	return n
}

func (s *session) stepFlops(tokens int) float64 {
	sp := &s.spec
	dense := 2 * sp.Hidden * (sp.Heads + sp.KVHeads) * sp.HeadDim
	return 2 * (float64(tokens)*24*float64(dense+sp.TopK*3*sp.Hidden*sp.Intermediate) + float64(sp.Hidden*sp.Vocab))
}

func benchSession(b *testing.B, experts dtype.Format, level string) *session {
	sp := device.Spec{
		Layers: benchLayers, Hidden: 2880, Intermediate: 2880, Heads: 64, KVHeads: 8, HeadDim: 64, Experts: 32, TopK: 4, Vocab: 201088,
		Eps: 1e-5, SwigluAlpha: 1.702, SwigluLimit: 7, Windows: []int{128, 0}, InvFreq: make([]float32, 32), RopeScale: 1,
	}
	lim := device.Limits{MaxTokens: 512, MaxSeqs: 8, MaxLogits: 8, PageSize: 16, FullPages: 4 * 640, WindowPages: 4 * 640}
	d, err := New(Options{Threads: 2, Level: level})
	if err != nil {
		b.Fatal(err)
	}
	opened, err := d.NewSession(sp, lim)
	if err != nil {
		b.Fatal(err)
	}
	s := opened.(*session)
	if err := s.Prime(1); err != nil {
		b.Fatal(err)
	}
	r := newRand(1)
	vector := func(n int) []float32 {
		v := r.floats(n)
		for i := range v {
			v[i] /= 10
		}
		return v
	}
	linear := func(rows, cols int) device.Linear {
		return device.Linear{Weight: randomPlane(r, dtype.BF16, rows, cols), Bias: vector(rows)}
	}
	stack := func(rows, cols int) device.Experts {
		x := device.Experts{Bias: vector(sp.Experts * rows)}
		for range sp.Experts {
			x.Weight.Even = append(x.Weight.Even, randomPlane(r, experts, rows, cols))
		}
		return x
	}
	for l := range sp.Layers {
		err = s.LoadLayer(l, &device.Layer{
			AttnNorm: r.floats(2880), MLPNorm: r.floats(2880), Sinks: vector(64), Q: linear(4096, 2880), K: linear(512, 2880), V: linear(512, 2880),
			O: linear(2880, 4096), Router: linear(32, 2880), GateUp: stack(5760, 2880), Down: stack(2880, 2880),
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	head := randomPlane(r, dtype.BF16, sp.Vocab, 2880)
	if err := s.LoadEmbedding(head); err != nil {
		b.Fatal(err)
	}
	if err := s.LoadHead(vector(2880), head); err != nil {
		b.Fatal(err)
	}
	return s
}
