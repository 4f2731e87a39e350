package cli

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"hearth/internal/checkpoint"
	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/model"
)

// benchWork is what is measured.
type benchWork struct {
	batches  sizes // sequences of a decode step
	contexts sizes // positions before a decode step
	prompts  sizes // tokens of a prompt
	tokens   int   // decode steps timed for each batch and context
	repeat   int   // prompts timed for each length
	chunk    int   // tokens of a prompt computed in one step

	trim   bool // batches or contexts are not the user's: what does not fit is left out
	points []benchPoint
}

// benchPoint is a decode step to time: so many sequences, each with so many positions behind it.
type benchPoint struct{ batch, context int }

// choose fills the points, and returns those that do not fit into budget bytes of keys and values; 0 holds all.
func (w *benchWork) choose(c *checkpoint.Config, f dtype.Format, budget int64) (out []benchPoint) {
	w.points = nil
	for _, context := range w.contexts {
		for _, batch := range w.batches {
			p := benchPoint{batch, context}
			alone := benchWork{points: []benchPoint{p}, tokens: w.tokens}
			l := alone.room(c)
			if w.trim && budget > 0 && kvBytes(c, f, &l) > budget {
				out = append(out, p)
			} else {
				w.points = append(w.points, p)
			}
		}
	}
	return out
}

// sizes is a flag that takes numbers separated by commas, or none.
type sizes []int

func (v *sizes) String() string { return strings.Trim(fmt.Sprint([]int(*v)), "[]") }
func (v *sizes) Type() string   { return "numbers" }

func (v *sizes) Set(s string) error {
	*v = sizes{}
	if s == "none" {
		return nil
	}
	for field := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 0 {
			return fmt.Errorf("%q: want numbers such as 1,8,32, or none", s)
		}
		*v = append(*v, n)
	}
	return nil
}

func (w *benchWork) check(c *checkpoint.Config) error {
	for _, f := range []struct {
		flag   string
		values sizes
		least  int
		most   int
	}{
		{"--batch", w.batches, 1, 4096}, {"--context", w.contexts, 0, c.MaxPosition - w.tokens - warmSteps}, {"--prompt", w.prompts, 1, c.MaxPosition},
		{"--tokens", sizes{w.tokens}, 1, c.MaxPosition / 2}, {"--repeat", sizes{w.repeat}, 1, 1 << 20}, {"--max-num-batched-tokens", sizes{w.chunk}, 1, 1 << 20},
	} {
		for _, v := range f.values {
			if v < f.least || v > f.most {
				return fmt.Errorf("%s %d: want %d to %d", f.flag, v, f.least, f.most)
			}
		}
	}
	if len(w.batches)*len(w.contexts)+len(w.prompts) == 0 {
		return fmt.Errorf("nothing to measure: --batch with --context, or --prompt, must name something")
	}
	return nil
}

const (
	warmSteps  = 3  // steps before those that are timed: kernels are compiled, graphs captured
	warmTokens = 64 // of a prompt before anything is timed
	benchPage  = 16
	benchSeed  = 1
)

// room is the least that the work needs.
func (w *benchWork) room(c *checkpoint.Config) device.Limits {
	l := device.Limits{PageSize: benchPage, MaxSeqs: 1, MaxTokens: 1, FullPages: 1, WindowPages: 1}
	fit := func(seqs, positions, chunk int) {
		l.MaxSeqs, l.MaxTokens = max(l.MaxSeqs, seqs), max(l.MaxTokens, seqs, chunk)
		l.FullPages, l.MaxBlocks = max(l.FullPages, seqs*pages(positions)), max(l.MaxBlocks, pages(positions))
		l.WindowPages = max(l.WindowPages, seqs*min(pages(positions), windowRing(c, chunk)))
	}
	fit(1, warmTokens, warmTokens)
	for _, p := range w.points {
		fit(p.batch, p.context+warmSteps+w.tokens, 1)
	}
	for _, n := range w.prompts {
		fit(1, n, min(n, w.chunk))
	}
	l.MaxLogits = l.MaxSeqs
	return l
}

func pages(positions int) int { return (positions + benchPage - 1) / benchPage }

// windowRing is how many pages a sequence's sliding windows turn round in: the window, the chunk, and a page cut at each
// end.
func windowRing(c *checkpoint.Config, chunk int) int {
	return pages(slices.Max(c.Windows)+chunk) + 1
}

// timing is one measured thing.
type timing struct{ median, best time.Duration }

func newTiming(d []time.Duration) timing {
	slices.Sort(d)
	return timing{d[len(d)/2], d[0]}
}

// benchRun times steps of a model, without a server or a scheduler.
type benchRun struct {
	m      *model.Model
	config *checkpoint.Config
	limits device.Limits
	random *rand.Rand
	out    []model.Output
}

func newBenchRun(m *model.Model, c *checkpoint.Config, l device.Limits) *benchRun {
	return &benchRun{m: m, config: c, limits: l, random: rand.New(rand.NewPCG(benchSeed, 3)), out: make([]model.Output, l.MaxLogits)}
}

// seq lays a sequence's positions [first, first+count) into pages: sequence i of those whose pages are counted alike.
func (r *benchRun) seq(i, first, count, positions int) model.Seq {
	n := pages(positions)
	s := model.Seq{Count: count, Full: make([]int32, n), Window: make([]int32, n)}
	ring := min(n, windowRing(r.config, count))
	oldest := max(0, first-slices.Max(r.config.Windows)+1) / benchPage
	for b := range n {
		s.Full[b], s.Window[b] = int32(i*n+b), -1
		if b >= oldest && b*benchPage < first+count {
			s.Window[b] = int32(i*ring + b%ring)
		}
	}
	return s
}

// batch is one step: count tokens for each of seqs sequences, whose positions end at positions at most. With logits,
// each sequence draws its next token, greedily.
func (r *benchRun) batch(seqs, first, count, positions int, logits bool) *model.Batch {
	b := &model.Batch{}
	for i := range seqs {
		s := r.seq(i, first, count, positions)
		s.First = len(b.Tokens)
		b.Seqs = append(b.Seqs, s)
		for p := first; p < first+count; p++ {
			b.Tokens = append(b.Tokens, int32(r.random.IntN(r.config.Vocab))) // at random, so that routing is too
			b.Positions = append(b.Positions, int32(p))
		}
		if logits {
			b.Logits = append(b.Logits, model.LogitRow{Row: len(b.Tokens) - 1, Target: -1, Sample: &model.Sampling{}})
		}
	}
	return b
}

func (r *benchRun) step(ctx context.Context, b *model.Batch) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	start := time.Now()
	err := r.m.Step(b, r.out)
	d := time.Since(start)
	if err != nil {
		return 0, err
	}
	for i := range b.Logits {
		if r.out[i].Err != nil {
			return 0, r.out[i].Err
		}
	}
	return d, nil
}

// decode times steps of one token for each of seqs sequences, the first at position at.
func (r *benchRun) decode(ctx context.Context, seqs, at, tokens int) (timing, error) {
	var times []time.Duration
	end := at + warmSteps + tokens
	for p := at; p < end; p++ {
		d, err := r.step(ctx, r.batch(seqs, p, 1, end, true))
		if err != nil {
			return timing{}, fmt.Errorf("decoding %d sequences at position %d: %w", seqs, p, err)
		}
		if p >= at+warmSteps {
			times = append(times, d)
		}
	}
	return newTiming(times), nil
}

// prefill times a prompt from its first token to the one that follows it, repeat times.
func (r *benchRun) prefill(ctx context.Context, prompt, chunk, repeat int) (timing, error) {
	var times []time.Duration
	for range repeat {
		var sum time.Duration
		for first := 0; first < prompt; first += chunk {
			n := min(chunk, prompt-first)
			d, err := r.step(ctx, r.batch(1, first, n, prompt, first+n == prompt))
			if err != nil {
				return timing{}, fmt.Errorf("a prompt of %d tokens at position %d: %w", prompt, first, err)
			}
			sum += d
		}
		times = append(times, sum)
	}
	return newTiming(times), nil
}
