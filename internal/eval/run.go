package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"hearth/internal/engine"
	"hearth/internal/harmony"
)

// Subject is a model to ask.
type Subject struct {
	Engine  *engine.Engine
	Harmony *harmony.Encoding
	EOS     []int32
	Vocab   int
	Prompt  harmony.PromptOptions // identity and knowledge cutoff; the date comes with the item
}

// Options of a run. The zero value asks every item, sixteen at a time.
type Options struct {
	Parallel  int      // 0: 16
	MaxTokens int      // of an answer; 0: 512
	Reference *Subject // compare distributions with this model's; nil: do not
	Progress  func(done, total int)
}

// maxCompared bounds the prompts whose answers are compared with the reference: each of their tokens costs a sorted
// distribution.
const maxCompared = 1024

// Run asks every item, greedily.
func Run(ctx context.Context, s *Subject, items []Item, o Options) (*Report, error) {
	if o.Reference != nil && o.Reference.Vocab != s.Vocab {
		return nil, fmt.Errorf("the model has %d ids, the reference %d: distributions cannot be compared", s.Vocab, o.Reference.Vocab)
	}
	if o.Parallel == 0 {
		o.Parallel = 16
	}
	if o.MaxTokens == 0 {
		o.MaxTokens = 512
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	start := time.Now()
	t := &tally{report: newReport(items)}
	next := make(chan *Item)
	var wg sync.WaitGroup
	for range o.Parallel {
		wg.Go(func() {
			for i := range next {
				r, err := ask(ctx, s, i, &o)
				if err != nil {
					cancel(fmt.Errorf("item %s: %w", i.ID, err))
					continue
				}
				t.add(i, r, o.Progress)
			}
		})
	}
	for i := range items {
		next <- &items[i]
	}
	close(next)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return t.report.finish(time.Since(start)), nil
}

// answer is what one item gave.
type answer struct {
	message    harmony.ChatAnswer
	completion int // tokens
	compared   int // positions compared with the reference
	kl         float64
	agree      int // positions at which the most likely ids are the same
}

func ask(ctx context.Context, s *Subject, i *Item, o *Options) (*answer, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p := s.Prompt
	p.Date = i.Date
	prompt, err := s.Harmony.RenderChat(&i.Request, p)
	if err != nil {
		return nil, err
	}
	a := harmony.NewChatAssembler(s.Harmony, harmony.ParserOptions{Prefill: prompt.Prefill, Tools: i.Request.FunctionNames()})
	r := &answer{}
	done, err := s.generate(ctx, prompt.IDs, o.MaxTokens, 0, func(ev *engine.Event) {
		a.Push(ev.Token)
		r.completion++
	})
	if err != nil {
		return nil, err
	}
	a.Finish(done.Reason == engine.ReasonLength)
	r.message = a.Message()
	if o.Reference != nil && len(prompt.IDs) <= maxCompared {
		err = r.compare(ctx, s, o, prompt.IDs)
	}
	return r, err
}

// generate answers a prompt greedily and returns the last event.
func (s *Subject) generate(ctx context.Context, prompt []int32, maxTokens, top int, token func(*engine.Event)) (*engine.Event, error) {
	return s.run(ctx, engine.Request{Prompt: prompt, MaxTokens: maxTokens, EOS: s.EOS, Logprobs: top, PromptLogprobs: -1}, token)
}

func (s *Subject) run(ctx context.Context, q engine.Request, take func(*engine.Event)) (*engine.Event, error) {
	h, err := s.Engine.Submit(ctx, q)
	if err != nil {
		return nil, err
	}
	for ev := range h.Events() {
		switch {
		case !ev.Done:
			take(&ev)
		case ev.Reason == engine.ReasonError:
			return nil, ev.Err
		case ev.Reason == engine.ReasonAbort:
			return nil, context.Cause(ctx)
		default:
			return &ev, nil
		}
	}
	return nil, errors.New("the engine ended without a last event")
}

// compare lets the reference answer and asks the model for its distributions over that same text: the divergence
// KL(reference || model) at every position of the answer, and whether both think the same id most likely.
func (r *answer) compare(ctx context.Context, s *Subject, o *Options, prompt []int32) error {
	ids := append([]int32(nil), prompt...)
	var wanted [][]engine.TokenLogProb
	_, err := o.Reference.generate(ctx, prompt, o.MaxTokens, s.Vocab, func(ev *engine.Event) {
		ids = append(ids, ev.Token)
		wanted = append(wanted, ev.Top)
	})
	if err != nil {
		return fmt.Errorf("reference: %w", err)
	}
	at := 0 // position in ids
	got := make([]float32, s.Vocab)
	_, err = s.run(ctx, engine.Request{Prompt: ids, Logprobs: -1, PromptLogprobs: s.Vocab}, func(ev *engine.Event) {
		for _, t := range ev.Prompt {
			if at >= len(prompt) {
				r.position(wanted[at-len(prompt)], t.Top, got)
			}
			at++
		}
	})
	return err
}

// position compares two full distributions, both in descending order; scratch has room for one.
func (r *answer) position(want, got []engine.TokenLogProb, scratch []float32) {
	for _, t := range got {
		scratch[t.ID] = t.LogProb
	}
	var kl float64
	for _, t := range want {
		kl += math.Exp(float64(t.LogProb)) * (float64(t.LogProb) - float64(scratch[t.ID]))
	}
	r.kl += kl
	r.compared++
	if want[0].ID == got[0].ID {
		r.agree++
	}
}
