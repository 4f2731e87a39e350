package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"hearth/internal/model"
)

// run is the loop. It ends when the engine is closed, when the model's device is lost, or when the books do not add up.
func (e *Engine) run() {
	defer close(e.done)
	for {
		if err := e.receive(); err != nil {
			e.endAll(err)
			return
		}
		if e.sched.idle() {
			if err := e.checkBooks(); err != nil {
				e.endAll(err)
				return
			}
			<-e.wake
			continue
		}
		if err := e.step(); err != nil {
			e.log.Error("no request can go on", "error", err)
			e.endAll(err)
			return
		}
	}
}

// receive takes what was submitted and cancelled since the last step. The error is what stopped the engine.
func (e *Engine) receive() error {
	e.mu.Lock()
	if err := e.stopped; err != nil {
		e.mu.Unlock()
		return err
	}
	e.arrived, e.inbox = e.inbox, e.arrived[:0]
	e.left, e.cancelled = e.cancelled, e.left[:0]
	e.mu.Unlock()
	e.queue(e.arrived)
	for _, j := range e.left {
		e.end(j, ReasonAbort, nil)
	}
	clear(e.arrived) // ended jobs are not kept alive from here
	clear(e.left)
	if len(e.ended) > 0 {
		e.farewell()
	}
	return nil
}

// queue puts new jobs at the end of the line.
func (e *Engine) queue(jobs []*job) {
	for _, j := range jobs {
		e.observer.Queued(len(j.Prompt), j.MaxTokens)
		e.sched.waiting = append(e.sched.waiting, j)
	}
}

// checkBooks compares the pages with the tables, once after each spell of work.
func (e *Engine) checkBooks() error {
	if e.checked {
		return nil
	}
	e.checked = true
	if err := e.verify(); err != nil {
		e.log.Error("the KV cache's books do not add up", "error", err)
		return fmt.Errorf("the engine has stopped, its KV cache is inconsistent: %w", err)
	}
	return nil
}

// step plans a batch, runs it and publishes what came out. A failure of the model is published. An error means that no
// job can go on: the model's device is lost, or the books are wrong.
func (e *Engine) step() error {
	s := &e.sched
	e.checked = false
	s.plan()
	if len(s.batch.Tokens) == 0 {
		return fmt.Errorf("the engine has stopped, none of %d running and %d waiting requests can go on", len(s.running), len(s.waiting))
	}
	out := e.out[:len(s.batch.Logits)]
	for i := range out {
		out[i] = Output{Token: -1, Top: out[i].Top[:0]}
	}
	err := e.model.Step(&s.batch, out)
	t := time.Now()
	s.counters.Steps++
	e.observer.Step(len(s.batch.Tokens), len(s.batch.Seqs))
	if err != nil {
		e.log.Error("step failed", "error", err, "tokens", len(s.batch.Tokens), "sequences", len(s.batch.Seqs))
		err = fmt.Errorf("the model's step failed: %w", err)
	}
	for i := range s.parts {
		p := &s.parts[i]
		if err != nil {
			e.end(p.job, ReasonError, err)
		} else if err := e.publish(p, out[p.first:p.first+p.rows], t); err != nil {
			e.log.Error("request failed", "error", err, "positions", p.to)
			s.cache.Discard(p.job.seq) // what it computed is not to be trusted
			p.job.seq = nil
			e.end(p.job, ReasonError, err)
		}
	}
	e.farewell()
	if errors.Is(err, model.ErrLost) {
		return fmt.Errorf("the engine has stopped: %w", err)
	}
	return nil
}

// publish takes over what a batch computed for one job. An error ends the job.
func (e *Engine) publish(p *part, out []Output, t time.Time) error {
	j := p.job
	for i := range out {
		if out[i].Err != nil {
			return fmt.Errorf("no usable distribution: %w", out[i].Err)
		}
	}
	if err := e.sched.cache.Commit(j.seq, j.tokens[:p.to]); err != nil {
		return err
	}
	samples := j.samples(p.to)
	if j.unpublished() {
		rows := out
		if samples {
			rows = out[:len(out)-1]
		}
		e.publishPrompt(j, p.from, rows)
	}
	if samples {
		return e.publishToken(j, &out[len(out)-1], t)
	}
	if p.to == len(j.tokens) && j.MaxTokens == 0 {
		e.end(j, ReasonLength, nil)
	}
	return nil
}

// publishPrompt sends the log-probabilities that follow on those sent before.
func (e *Engine) publishPrompt(j *job, from int, rows []Output) {
	piece := make([]PromptToken, 0, len(rows)+1)
	if j.published == 0 {
		piece = append(piece, PromptToken{ID: j.Prompt[0]})
	}
	for i := range rows {
		id := j.Prompt[j.published+len(piece)]
		piece = append(piece, PromptToken{ID: id, LogProb: rows[i].TargetLogProb, Top: slices.Clone(rows[i].Top)})
	}
	if len(piece) > 0 {
		j.published += len(piece)
		j.handle.push(Event{Kind: KindPrompt, Prompt: piece})
	}
}

// publishToken appends and sends a token, and ends the job if that was the last one.
func (e *Engine) publishToken(j *job, out *Output, t time.Time) error {
	if out.Token < 0 || int(out.Token) >= e.shape.Vocab {
		return fmt.Errorf("the model drew id %d, the vocabulary has ids 0 to %d", out.Token, e.shape.Vocab-1)
	}
	j.tokens = append(j.tokens, out.Token)
	e.sched.counters.GenerationTokens++
	if j.first.IsZero() {
		j.first = t
		e.observer.FirstToken(t.Sub(j.submitted))
	} else {
		e.observer.Token(t.Sub(j.last))
	}
	j.last = t
	ev := Event{Kind: KindToken, Token: out.Token, LogProb: out.LogProb}
	if j.Logprobs > 0 {
		ev.Top = slices.Clone(out.Top)
	}
	j.handle.push(ev)
	switch {
	case j.stops(out.Token):
		e.end(j, ReasonStop, nil)
		j.end.StopToken = out.Token
	case j.generated() == j.MaxTokens:
		e.end(j, ReasonLength, nil)
	}
	return nil
}

// end gives back a job's pages and takes it off the lists. Its last event is sent by farewell.
func (e *Engine) end(j *job, reason FinishReason, err error) {
	if j.ended {
		return
	}
	j.ended = true
	j.end = Event{Kind: KindDone, Done: true, Reason: reason, StopToken: -1, Err: err, Usage: j.usage()}
	if j.seq != nil {
		e.sched.cache.Close(j.seq)
		j.seq = nil
	}
	e.sched.remove(j)
	e.ended = append(e.ended, j)
}

// farewell sends the last events, after the books say that the jobs are gone: who reads one finds room for a new
// request.
func (e *Engine) farewell() {
	e.snapshot()
	if len(e.ended) == 0 {
		return
	}
	e.mu.Lock()
	e.open -= len(e.ended)
	e.mu.Unlock()
	t := time.Now()
	for _, j := range e.ended {
		e.observer.Finished(j.end.Reason, j.end.Usage, j.timings(t))
		j.handle.push(j.end)
	}
	clear(e.ended)
	e.ended = e.ended[:0]
}

// endAll answers every open request, also those that wait in the inbox, and takes no new ones.
func (e *Engine) endAll(err error) {
	e.mu.Lock()
	if e.stopped == nil {
		e.stopped = err
	}
	unseen := e.inbox
	e.inbox, e.cancelled = nil, nil
	e.mu.Unlock()
	e.queue(unseen)
	for _, list := range [2][]*job{slices.Clone(e.sched.running), slices.Clone(e.sched.waiting)} {
		for _, j := range list {
			e.end(j, ReasonError, err)
		}
	}
	e.farewell()
	_ = e.checkBooks() // logged; the engine ends anyway
}
