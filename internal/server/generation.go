package server

import (
	"context"
	"net/http"
	"time"

	"hearth/internal/engine"
)

// job is a checked request: what the engine is to do and how the answer is written.
type job struct {
	p        *params
	form     form
	field    string // that holds the prompt, for errors
	requests []engine.Request
	choices  []choice // one for each request, in the order of their index; n in a row share a prompt
}

// form writes the answers of one API.
type form interface {
	opening(usage any) []any             // chunks before the first part
	chunk(p part, usage any) any         // one part of a stream
	closing(u usage) any                 // the chunk with the usage
	whole(answers []answer, u usage) any // the plain answer
}

// generation is a job that runs.
type generation struct {
	*job
	handles []*engine.Handle
	ended   []engine.Usage // of each request that is done
	begun   time.Time
	first   time.Duration // until the first token
}

// arrival is an event with the number of its request.
type arrival struct {
	request int
	event   engine.Event
}

// respond runs a job and writes its answer.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, j *job) {
	x := exchangeOf(r)
	x.stream = j.p.stream
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	g, err := s.start(ctx, j)
	if err == nil {
		if j.p.stream {
			err = s.stream(ctx, w, g)
		} else {
			err = s.plain(ctx, w, g)
		}
		x.usage, x.first = g.usage(), g.first
	}
	if err == nil {
		return
	}
	if r.Context().Err() != nil && context.Cause(r.Context()) != errDraining {
		x.status, x.err = statusGone, &apiError{message: "the client disconnected"}
		return
	}
	x.err = errorOf(err, j.field)
	if x.status == 0 {
		writeError(w, r, x.err)
		return
	}
	// The header is out: the error goes where the next chunk would.
	es := newEventStream(w)
	es.begun = true
	if es.data(x.err) == nil {
		_ = es.done()
	}
}

// start submits the requests of a job. They end with ctx.
func (s *Server) start(ctx context.Context, j *job) (*generation, error) {
	g := &generation{job: j, ended: make([]engine.Usage, len(j.requests)), begun: time.Now()}
	for i := range j.requests {
		h, err := s.o.Engine.Submit(ctx, j.requests[i])
		if err != nil {
			return nil, err
		}
		g.handles = append(g.handles, h)
	}
	return g, nil
}

// plain answers in one piece.
func (s *Server) plain(ctx context.Context, w http.ResponseWriter, g *generation) error {
	answers := make([]answer, len(g.choices))
	sum := func(parts []part) error {
		for _, p := range parts {
			answers[p.choice].add(p)
		}
		return nil
	}
	if err := g.run(ctx, sum, s.o.KeepAlive, func() error { return nil }); err != nil {
		return err
	}
	return reply(w, g.form.whole(answers, g.usage()))
}

// stream answers in chunks.
func (s *Server) stream(ctx context.Context, w http.ResponseWriter, g *generation) error {
	es := newEventStream(w)
	open := func() error {
		if es.begun {
			return nil
		}
		for _, c := range g.form.opening(g.chunkUsage()) {
			if err := es.data(c); err != nil {
				return err
			}
		}
		return nil
	}
	emit := func(parts []part) error {
		if err := open(); err != nil {
			return err
		}
		for _, p := range parts {
			if err := es.data(g.form.chunk(p, g.chunkUsage())); err != nil {
				return err
			}
		}
		return nil
	}
	idle := func() error {
		if err := open(); err != nil {
			return err
		}
		return es.comment("keep-alive")
	}
	if err := g.run(ctx, emit, s.o.KeepAlive, idle); err != nil {
		return err
	}
	if g.p.includeUsage {
		if err := es.data(g.form.closing(g.usage())); err != nil {
			return err
		}
	}
	return es.done()
}

// run takes the events of all requests until each has ended, and gives emit the parts that each event makes, perhaps
// none. It calls idle after every silence of the given length. It returns at the first error, leaving the rest to the end of ctx.
func (g *generation) run(ctx context.Context, emit func([]part) error, silence time.Duration, idle func() error) error {
	arrivals := g.merge(ctx)
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for open := len(g.handles); open > 0; {
		select {
		case a := <-arrivals:
			parts, err := g.take(ctx, a)
			if err != nil {
				return err
			}
			if a.event.Done {
				open--
			}
			if err := emit(parts); err != nil {
				return err
			}
			if len(parts) > 0 {
				timer.Reset(silence)
			}
		case <-timer.C:
			if err := idle(); err != nil {
				return err
			}
			timer.Reset(silence)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// merge brings the events of all requests into one channel, as long as ctx lasts.
func (g *generation) merge(ctx context.Context) <-chan arrival {
	out := make(chan arrival)
	for i, h := range g.handles {
		go func() {
			for ev := range h.Events() {
				select {
				case out <- arrival{request: i, event: ev}:
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return out
}

// take hands an event to its choice, and ends the engine's work for a choice that needs no more.
func (g *generation) take(ctx context.Context, a arrival) ([]part, error) {
	c := g.choices[a.request]
	if g.first == 0 && a.event.Kind == engine.KindToken {
		g.first = time.Since(g.begun)
	}
	if a.event.Done {
		g.ended[a.request] = a.event.Usage
		switch {
		case a.event.Reason == engine.ReasonError:
			return nil, a.event.Err
		case a.event.Reason == engine.ReasonAbort && ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case a.event.Reason == engine.ReasonAbort && !c.satisfied():
			return nil, errServer("the engine gave the request up")
		}
	}
	before := c.satisfied()
	parts := c.take(&a.event)
	if c.satisfied() && !before && !a.event.Done {
		g.handles[a.request].Cancel()
	}
	return parts, nil
}

// usage counts what has been consumed so far. A prompt counts once, however many choices it has.
func (g *generation) usage() usage {
	var u usage
	reasoning := 0
	for i, c := range g.choices {
		if i%g.p.n == 0 {
			u.Prompt += len(g.requests[i].Prompt)
			u.PromptDetails.Cached += g.ended[i].Cached
		}
		completion, thought := c.counts()
		u.Completion += completion
		reasoning += thought
	}
	u.Total = u.Prompt + u.Completion
	if _, chat := g.form.(*chatForm); chat {
		u.CompletionDetail = &completionDetail{Reasoning: reasoning}
	}
	return u
}

// chunkUsage is the usage field of a chunk: nil leaves it out, a nil *usage is the null that OpenAI writes before the
// last chunk, and vLLM's users may ask for the count so far.
func (g *generation) chunkUsage() any {
	switch {
	case !g.p.includeUsage:
		return nil
	case !g.p.runningUsage:
		return (*usage)(nil)
	}
	u := g.usage()
	return &u
}
