package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"hearth/internal/model"
)

func smallShape() Shape {
	return Shape{Vocab: 50, MaxContext: 400, Window: 20, PageSize: 16, FullPages: 30, WindowPages: 20, MaxTokens: 32, MaxSeqs: 4, MaxLogits: 4}
}

func start(t *testing.T, m *fakeModel, o Options) *Engine {
	t.Helper()
	e, err := New(m, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if m.problem != nil {
			t.Error(m.problem)
		}
	})
	return e
}

func submit(t *testing.T, e *Engine, ctx context.Context, r Request) *Handle {
	t.Helper()
	h, err := e.Submit(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func request(prompt, maxTokens int) Request {
	r := Request{MaxTokens: maxTokens, Logprobs: -1, PromptLogprobs: -1}
	for i := range prompt {
		r.Prompt = append(r.Prompt, int32(i%40))
	}
	return r
}

// drain reads to the end.
func drain(h *Handle) (tokens []int32, prompt []PromptToken, last Event) {
	for ev := range h.Events() {
		switch ev.Kind {
		case KindToken:
			tokens = append(tokens, ev.Token)
		case KindPrompt:
			prompt = append(prompt, ev.Prompt...)
		}
		last = ev
	}
	return tokens, prompt, last
}

func TestIdleLoopBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFake(smallShape())
		e := start(t, m, Options{})
		synctest.Wait()
		if m.steps != 0 {
			t.Fatalf("%d steps without work", m.steps)
		}
		r := request(40, 5)
		tokens, _, last := drain(submit(t, e, t.Context(), r))
		want, _ := fakeAlone(m.shape, r)
		if diff := cmp.Diff(want, tokens); diff != "" || last.Reason != ReasonLength {
			t.Errorf("ended with %s (-want +got):\n%s", last.Reason, diff)
		}
		steps := m.steps
		time.Sleep(time.Hour) // ends at once if everything is blocked, never if the loop spins
		if m.steps != steps {
			t.Errorf("%d steps while idle", m.steps-steps)
		}
		s := e.Stats()
		if s.Running != 0 || s.Waiting != 0 || s.Full.Free+s.Full.Cached != s.Full.Total {
			t.Errorf("idle engine: %+v", s)
		}
	})
}

// observed writes down what an observer is told.
type observed struct{ lines []string }

func (o *observed) add(format string, args ...any) {
	o.lines = append(o.lines, fmt.Sprintf(format, args...))
}
func (o *observed) Queued(p, m int)            { o.add("queued %d %d", p, m) }
func (o *observed) Step(tokens, seqs int)      { o.add("step %d %d", tokens, seqs) }
func (o *observed) FirstToken(d time.Duration) { o.add("first %v", d) }
func (o *observed) Token(d time.Duration)      { o.add("token %v", d) }
func (o *observed) Finished(r FinishReason, u Usage, t Timings) {
	o.add("finished %s %d+%d total %v queue %v prefill %v decode %v", r, u.Prompt, u.Completion, t.Total, t.Queue, t.Prefill, t.Decode)
}

func TestObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := smallShape()
		s.MaxSeqs = 1
		m := newFake(s)
		m.onStep = func(*Batch) { time.Sleep(10 * time.Millisecond) }
		o := &observed{}
		e := start(t, m, Options{Observer: o})
		a := submit(t, e, t.Context(), request(40, 3))
		synctest.Wait() // the first step sleeps
		b := submit(t, e, t.Context(), request(10, 1))
		drain(a)
		drain(b)
		want := []string{
			"queued 40 3",
			"step 32 1",
			"queued 10 1",
			"step 8 1", "first 20ms",
			"step 1 1", "token 10ms",
			"step 1 1", "token 10ms",
			"finished length 40+3 total 40ms queue 0s prefill 20ms decode 20ms",
			"step 10 1", "first 50ms",
			"finished length 10+1 total 50ms queue 40ms prefill 10ms decode 0s",
		}
		if diff := cmp.Diff(want, o.lines); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestSlowReaderHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFake(smallShape())
		e := start(t, m, Options{})
		slow := submit(t, e, t.Context(), request(10, 100))
		for i := range 3 {
			if _, _, last := drain(submit(t, e, t.Context(), request(10+i, 150))); last.Reason != ReasonLength {
				t.Errorf("request beside a slow reader ended with %s: %v", last.Reason, last.Err)
			}
		}
		synctest.Wait()
		if s := e.Stats(); s.Running != 0 {
			t.Errorf("%d run though all have ended", s.Running)
		}
		tokens, _, last := drain(slow) // nothing was lost
		if len(tokens) != 100 || last.Reason != ReasonLength {
			t.Errorf("slow reader got %d tokens, then %s", len(tokens), last.Reason)
		}
	})
}

// TestVanishedClient: a client that stops reading and whose context ends leaves no goroutine (synctest would see it)
// and no page, whether its request runs, waits or has ended.
func TestVanishedClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := smallShape()
		s.MaxSeqs = 1
		m := newFake(s)
		m.onStep = func(*Batch) { time.Sleep(time.Millisecond) }
		e := start(t, m, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := submit(t, e, ctx, request(10, 50))
		time.Sleep(time.Second)
		running := submit(t, e, ctx, request(10, 300))
		waiting := submit(t, e, ctx, request(10, 300))
		time.Sleep(30 * time.Millisecond)
		if s := e.Stats(); s.Running != 1 || s.Waiting != 1 {
			t.Fatalf("%+v", s)
		}
		cancel()
		time.Sleep(2 * time.Millisecond) // past the next boundary
		if s := e.Stats(); s.Running != 0 || s.Waiting != 0 || s.Full.Free != s.Full.Total {
			t.Errorf("after the clients went: %+v", s)
		}
		for name, h := range map[string]*Handle{"ended": ended, "running": running, "waiting": waiting} {
			if _, _, last := drain(h); !last.Done || last.Reason != ReasonAbort || last.StopToken != -1 {
				t.Errorf("%s: last event %+v", name, last)
			}
		}
		if _, err := e.Submit(ctx, request(1, 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("submit under a dead context: %v", err)
		}
	})
}

// TestCancelAfterTheEnd: an answer whose every token was read stays what it was, though its last event was not.
func TestCancelAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, newFake(smallShape()), Options{})
		h := submit(t, e, t.Context(), request(10, 5))
		for range 5 {
			if ev := <-h.Events(); ev.Kind != KindToken {
				t.Fatalf("%+v", ev)
			}
		}
		synctest.Wait()
		h.Cancel()
		h.Cancel()
		synctest.Wait()
		tokens, _, last := drain(h)
		if len(tokens) != 0 || last.Reason != ReasonLength {
			t.Errorf("%d more tokens, then %s", len(tokens), last.Reason)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := smallShape()
		s.MaxSeqs = 1
		m := newFake(s)
		m.onStep = func(*Batch) { time.Sleep(time.Millisecond) }
		e, err := New(m, Options{PrefixCache: true})
		if err != nil {
			t.Fatal(err)
		}
		unread := submit(t, e, t.Context(), request(10, 50)) // ends, but its tokens do not fit the channel
		time.Sleep(time.Second)
		running := submit(t, e, t.Context(), request(10, 300))
		waiting := submit(t, e, t.Context(), request(10, 300))
		time.Sleep(30 * time.Millisecond)
		for range 2 {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for name, h := range map[string]*Handle{"unread": unread, "running": running, "waiting": waiting} {
			if _, _, last := drain(h); last.Reason != ReasonError || !errors.Is(last.Err, ErrClosed) {
				t.Errorf("%s: last event %+v", name, last)
			}
		}
		if _, err := e.Submit(t.Context(), request(1, 1)); !errors.Is(err, ErrClosed) {
			t.Errorf("submit after close: %v", err)
		}
		unread.Cancel() // harmless
		if s := e.Stats(); s.Running != 0 || s.Waiting != 0 || s.Full.Free+s.Full.Cached != s.Full.Total {
			t.Errorf("after close: %+v", s)
		}
	})
}

func TestQueueLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := smallShape()
		s.MaxSeqs = 2
		m := newFake(s)
		hold := make(chan struct{})
		m.onStep = func(*Batch) { <-hold }
		e := start(t, m, Options{MaxQueue: 1})
		var handles []*Handle
		for range 3 { // at once: two can run and one may wait, though the loop has admitted none yet
			handles = append(handles, submit(t, e, t.Context(), request(5, 1)))
		}
		if _, err := e.Submit(t.Context(), request(5, 1)); !errors.Is(err, ErrQueueFull) {
			t.Errorf("fourth request: %v", err)
		}
		close(hold)
		drain(handles[0])
		// Who has read the last event finds room.
		drain(submit(t, e, t.Context(), request(5, 1)))
		for _, h := range handles[1:] {
			drain(h)
		}
	})
}

func TestInconsistentBooksStopTheEngine(t *testing.T) {
	var log strings.Builder
	e, err := newEngine(newFake(smallShape()), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("page 7 is lost")
	e.verify = func() error { return broken }
	e.checked = true // as if nothing had run yet
	h := submit(t, e, t.Context(), request(5, 1))
	go e.run()
	if _, _, last := drain(h); last.Reason != ReasonLength {
		t.Errorf("the request before: %+v", last)
	}
	<-e.done
	if _, err := e.Submit(t.Context(), request(5, 1)); !errors.Is(err, broken) {
		t.Errorf("submit after the engine stopped: %v", err)
	}
	if err := e.Close(); !errors.Is(err, broken) {
		t.Errorf("close: %v", err)
	}
	if !strings.Contains(log.String(), "page 7 is lost") {
		t.Errorf("log: %s", log.String())
	}
}

// A step that fails ends its requests and no others; one that loses the device ends them all, and the engine.
func TestFailedSteps(t *testing.T) {
	s := smallShape()
	s.MaxSeqs = 1
	m := newFake(s)
	e, err := New(m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("cuMemAlloc: out of memory")
	hold := make(chan struct{})
	m.onStep = func(*Batch) { <-hold }
	m.fail = cause
	first, second := submit(t, e, t.Context(), request(5, 1)), submit(t, e, t.Context(), request(5, 1))
	close(hold)
	if _, _, last := drain(first); last.Reason != ReasonError || !errors.Is(last.Err, cause) {
		t.Errorf("the request of the failed step: %+v", last)
	}
	if _, _, last := drain(second); last.Reason != ReasonLength {
		t.Errorf("the next one: %+v", last)
	}
	hold = make(chan struct{})
	m.onStep = func(*Batch) {
		<-hold
		m.fail = fmt.Errorf("cuLaunchKernel: %w", model.ErrLost)
	}
	running, waiting := submit(t, e, t.Context(), request(5, 9)), submit(t, e, t.Context(), request(5, 9))
	close(hold)
	for name, h := range map[string]*Handle{"running": running, "waiting": waiting} {
		if _, _, last := drain(h); last.Reason != ReasonError || !errors.Is(last.Err, model.ErrLost) {
			t.Errorf("%s when the device is lost: %+v", name, last)
		}
	}
	<-e.Done()
	if _, err := e.Submit(t.Context(), request(5, 1)); !errors.Is(err, model.ErrLost) {
		t.Errorf("submit afterwards: %v", err)
	}
	if err := e.Close(); !errors.Is(err, model.ErrLost) {
		t.Errorf("close: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, change := range []func(*Shape){
		func(s *Shape) { s.Vocab = 0 }, func(s *Shape) { s.PageSize = 0 }, func(s *Shape) { s.FullPages = 0 },
		func(s *Shape) { s.WindowPages = -1 }, func(s *Shape) { s.Window = -1 }, func(s *Shape) { s.MaxTokens = 0 },
		func(s *Shape) { s.MaxSeqs = 0 }, func(s *Shape) { s.MaxLogits = 0 }, func(s *Shape) { s.MaxContext = 0 },
	} {
		s := smallShape()
		change(&s)
		if _, err := New(&fakeModel{shape: s}, Options{}); err == nil {
			t.Errorf("shape %+v is taken", s)
		}
	}
	if _, err := New(newFake(smallShape()), Options{MaxQueue: -1}); err == nil {
		t.Error("a negative queue is taken")
	}
}
