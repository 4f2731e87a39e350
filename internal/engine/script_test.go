package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScripts runs testdata/*.txt: the engine without its goroutine, on the fake model.
//
//	engine full=N window=N size=N window-tokens=N [context=N] [tokens=N] [seqs=N] [logits=N] [queue=N] [prefix=off]
//	submit NAME prompt=N max=N [like=OTHER:N] [min=N] [eos=IDS] [stop=IDS] [ignore-eos] [logprobs=N]
//	       [prompt-logprobs=N] [draws=IDS] [poison]
//	step [n=N]      plan, run and publish; prints each batch as NAME[from:to], with + for a draw and pN for N prompt rows
//	run             steps until nothing is left, prints their number
//	cancel NAME     takes effect at the next boundary
//	fail            the next step fails
//	events NAME     what the request was told since the last time
//	stats
//
// A prompt is N tokens of its own, after those it shares with another one (like). Every step checks the pages' books.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("scripts: %v %v", paths, err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			var s script
			datadriven.RunTest(t, path, s.run)
		})
	}
}

type script struct {
	engine *Engine
	model  *fakeModel
	jobs   []*job
	names  map[*job]string
}

const poison = 99

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "engine":
		return s.start(t, d)
	case "submit":
		return s.submit(t, d)
	case "step":
		n := 1
		d.MaybeScanArgs(t, "n", &n)
		var b strings.Builder
		for range n {
			b.WriteString(s.step(t))
		}
		return b.String() + s.state()
	case "run":
		n := s.model.steps
		for i := 0; s.step(t) != ""; i++ {
			if i > 10000 {
				t.Fatal("does not end")
			}
		}
		return fmt.Sprintf("%d steps\n", s.model.steps-n) + s.state()
	case "cancel":
		s.find(t, d.CmdArgs[0].Key).handle.Cancel()
		return ""
	case "fail":
		s.model.fail = errors.New("the device is on fire")
		return ""
	case "events":
		return s.events(s.find(t, d.CmdArgs[0].Key))
	case "stats":
		st := s.engine.Stats()
		return fmt.Sprintf("running %d waiting %d, steps %d, preemptions %d, prompt %d, generated %d, prefix %d of %d\n",
			st.Running, st.Waiting, st.Steps, st.Preemptions, st.PromptTokens, st.GenerationTokens, st.PrefixHits, st.PrefixQueries)
	}
	d.Fatalf(t, "unknown command %q", d.Cmd)
	return ""
}

func (s *script) start(t *testing.T, d *datadriven.TestData) string {
	sh := Shape{Vocab: 100, MaxContext: 1000, MaxTokens: 64, MaxSeqs: 8, MaxLogits: 8}
	o := Options{PrefixCache: true}
	d.ScanArgs(t, "full", &sh.FullPages)
	d.ScanArgs(t, "window", &sh.WindowPages)
	d.ScanArgs(t, "size", &sh.PageSize)
	d.ScanArgs(t, "window-tokens", &sh.Window)
	d.MaybeScanArgs(t, "context", &sh.MaxContext)
	d.MaybeScanArgs(t, "tokens", &sh.MaxTokens)
	d.MaybeScanArgs(t, "seqs", &sh.MaxSeqs)
	d.MaybeScanArgs(t, "logits", &sh.MaxLogits)
	d.MaybeScanArgs(t, "queue", &o.MaxQueue)
	if d.HasArg("prefix") {
		o.PrefixCache = false
	}
	s.model = newFake(sh)
	s.model.poison = poison
	e, err := newEngine(s.model, o)
	if err != nil {
		return fmt.Sprintln(err)
	}
	s.engine, s.jobs, s.names = e, nil, make(map[*job]string)
	return fmt.Sprintf("sequences of up to %d positions, %d at once\n", e.limit, e.sched.maxRunning)
}

func (s *script) submit(t *testing.T, d *datadriven.TestData) string {
	name := d.CmdArgs[0].Key
	r := Request{Logprobs: -1, PromptLogprobs: -1, IgnoreEOS: d.HasArg("ignore-eos"), EOS: ids(t, d, "eos"), Stop: ids(t, d, "stop")}
	r.Sampling.Seed = uint64(len(s.jobs)) + 1
	s.model.forced[r.Sampling.Seed] = ids(t, d, "draws")
	var own int
	d.ScanArgs(t, "prompt", &own)
	d.ScanArgs(t, "max", &r.MaxTokens)
	d.MaybeScanArgs(t, "min", &r.MinTokens)
	d.MaybeScanArgs(t, "logprobs", &r.Logprobs)
	d.MaybeScanArgs(t, "prompt-logprobs", &r.PromptLogprobs)
	if d.HasArg("like") {
		var like string
		d.ScanArgs(t, "like", &like)
		other, n, _ := strings.Cut(like, ":")
		shared, err := strconv.Atoi(n)
		if err != nil {
			d.Fatalf(t, "like: %v", err)
		}
		r.Prompt = slices.Clone(s.find(t, other).tokens[:shared])
	}
	for i := range own {
		r.Prompt = append(r.Prompt, int32(mix(r.Sampling.Seed, uint64(i))%90))
	}
	if d.HasArg("poison") {
		r.Prompt[len(r.Prompt)-1] = poison
	}
	j, err := s.engine.enqueue(context.Background(), r)
	if err != nil {
		return fmt.Sprintln(err)
	}
	s.jobs = append(s.jobs, j)
	s.names[j] = name
	return ""
}

// step is one turn of the loop. It returns "" when nothing is left to do.
func (s *script) step(t *testing.T) string {
	var line string
	s.model.onStep = func(*Batch) { line = s.composition() }
	if err := s.engine.receive(); err != nil {
		t.Fatal(err)
	}
	if !s.engine.sched.idle() {
		if err := s.engine.step(); err != nil {
			t.Fatal(err)
		}
	}
	if s.model.problem != nil {
		t.Fatal(s.model.problem)
	}
	if err := s.engine.sched.cache.Check(); err != nil {
		t.Fatal(err)
	}
	return line
}

// composition prints the batch of the step that runs.
func (s *script) composition() string {
	words := []string{"batch"}
	for _, p := range s.engine.sched.parts {
		word := fmt.Sprintf("%s[%d:%d]", s.names[p.job], p.from, p.to)
		rows := p.rows
		if p.job.samples(p.to) {
			word, rows = word+"+", rows-1
		}
		if rows > 0 {
			word += fmt.Sprintf("p%d", rows)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ") + "\n"
}

// state prints the running sequences with their tables, who waits, and the pages.
func (s *script) state() string {
	var b strings.Builder
	c := &s.engine.sched
	for _, j := range c.running {
		fmt.Fprintf(&b, "  %s %d/%d full %s window %s\n", s.names[j], j.seq.Len(), len(j.tokens), pageList(j.seq.Full()), pageList(j.seq.Window()))
	}
	if len(c.waiting) > 0 {
		b.WriteString("  waiting")
		for _, j := range c.waiting {
			b.WriteString(" " + s.names[j])
		}
		b.WriteString("\n")
	}
	f, w := c.cache.Full(), c.cache.Window()
	fmt.Fprintf(&b, "  full free %d cached %d, window free %d cached %d\n", f.Free, f.Cached, w.Free, w.Cached)
	return b.String()
}

// events prints and forgets what a job's handle was told.
func (s *script) events(j *job) string {
	var b strings.Builder
	var tokens []string
	flush := func() {
		if len(tokens) > 0 {
			fmt.Fprintf(&b, "tokens %s\n", strings.Join(tokens, " "))
		}
		tokens = nil
	}
	for _, ev := range j.handle.queue {
		switch ev.Kind {
		case KindToken:
			word := strconv.Itoa(int(ev.Token))
			if len(ev.Top) > 0 {
				word += fmt.Sprintf("(%.2f, top %d)", ev.LogProb, len(ev.Top))
			}
			tokens = append(tokens, word)
		case KindPrompt:
			fmt.Fprintf(&b, "prompt %d tokens, first %+v, last %+v\n", len(ev.Prompt), ev.Prompt[0], ev.Prompt[len(ev.Prompt)-1])
		case KindDone:
			flush()
			fmt.Fprintf(&b, "done %s, stop token %d, prompt %d, cached %d, completion %d\n",
				ev.Reason, ev.StopToken, ev.Usage.Prompt, ev.Usage.Cached, ev.Usage.Completion)
			if ev.Err != nil {
				fmt.Fprintf(&b, "error: %v\n", ev.Err)
			}
		}
	}
	flush()
	j.handle.queue = nil
	return b.String()
}

func (s *script) find(t *testing.T, name string) *job {
	t.Helper()
	for _, j := range slices.Backward(s.jobs) {
		if s.names[j] == name {
			return j
		}
	}
	t.Fatalf("no request %q", name)
	return nil
}

func ids(t *testing.T, d *datadriven.TestData, key string) (ids []int32) {
	t.Helper()
	if !d.HasArg(key) {
		return nil
	}
	var list string
	d.ScanArgs(t, key, &list)
	for word := range strings.SplitSeq(list, ":") {
		id, err := strconv.Atoi(word)
		if err != nil {
			d.Fatalf(t, "%s: %v", key, err)
		}
		ids = append(ids, int32(id))
	}
	return ids
}

func pageList(pages []int32) string {
	words := make([]string, len(pages))
	for i, p := range pages {
		words[i] = strconv.Itoa(int(p))
		if p < 0 {
			words[i] = "-"
		}
	}
	return "[" + strings.Join(words, " ") + "]"
}
