package engine

import (
	"context"
	"testing"
)

// TestDecodeDoesNotAllocate measures a decode step of four sequences: planning, freezing and publishing. The blocks
// that sequences complete are entered in the index, so the cache is filled first, and room is made by evicting.
func TestDecodeDoesNotAllocate(t *testing.T) {
	s := smallShape()
	s.MaxContext = 1000
	s.FullPages, s.WindowPages = 110, 20
	for _, prefix := range []bool{false, true} {
		e, err := newEngine(quickModel{s}, Options{PrefixCache: prefix})
		if err != nil {
			t.Fatal(err)
		}
		var jobs []*job
		step := func() {
			for _, j := range jobs { // as the pump does
				j.handle.queue = j.handle.queue[:0]
			}
			if err := e.receive(); err != nil {
				t.Fatal(err)
			}
			if err := e.step(); err != nil {
				t.Fatal(err)
			}
		}
		for round := range 2 { // the first round's blocks are what the second evicts
			jobs = jobs[:0]
			for i := range 4 {
				r := request(20, 380)
				r.Prompt[0] = int32(10*round + i) // nothing to share
				j, err := e.enqueue(context.Background(), r)
				if err != nil {
					t.Fatal(err)
				}
				jobs = append(jobs, j)
			}
			for range 150 {
				step()
			}
			if round == 0 {
				for e.receive() == nil && !e.sched.idle() {
					step()
				}
			}
		}
		if len(e.sched.running) != 4 {
			t.Fatalf("%d run", len(e.sched.running))
		}
		if f := e.sched.cache.Full(); prefix && f.Free > 0 {
			t.Fatalf("nothing is evicted: %+v", f)
		}
		if n := testing.AllocsPerRun(100, step); n != 0 {
			t.Errorf("prefix cache %v: %v allocations a step", prefix, n)
		}
	}
}

// quickModel draws without looking.
type quickModel struct{ shape Shape }

func (m quickModel) Shape() Shape { return m.shape }

func (m quickModel) Step(b *Batch, out []Output) error {
	for i := range b.Logits {
		if p := b.Logits[i].Sample; p != nil {
			out[i].Token = int32(len(p.Output) % 40)
		}
	}
	return nil
}

// BenchmarkDecodeStep is the engine's own part of a decode step of 64 sequences.
func BenchmarkDecodeStep(b *testing.B) {
	s := Shape{
		Vocab: 50, MaxContext: 1 << 20, Window: 128, PageSize: 16, FullPages: 1 << 17, WindowPages: 64 * 41,
		MaxTokens: 512, MaxSeqs: 64, MaxLogits: 64,
	}
	e, err := newEngine(quickModel{s}, Options{PrefixCache: true})
	if err != nil {
		b.Fatal(err)
	}
	var jobs []*job
	for i := range 64 {
		r := request(200, 1<<14)
		r.Prompt[0] = int32(i % 40)
		j, err := e.enqueue(context.Background(), r)
		if err != nil {
			b.Fatal(err)
		}
		jobs = append(jobs, j)
	}
	step := func() {
		for _, j := range jobs {
			j.handle.queue = j.handle.queue[:0]
		}
		if err := e.receive(); err != nil || e.sched.idle() {
			b.Fatal(err, "or nothing to do")
		}
		if err := e.step(); err != nil {
			b.Fatal(err)
		}
	}
	for range 100 {
		step()
	}
	b.ReportAllocs()
	for n := 0; b.Loop() && n < 16000; n++ {
		step()
	}
}
