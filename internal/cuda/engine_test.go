package cuda

import (
	"math/rand/v2"
	"slices"
	"testing"

	"hearth/internal/engine"
	"hearth/internal/model"
)

// Random requests, some of them cancelled, leave no page and no byte behind; the same request alone gives the same tokens
// before and after. A card serves thousands, the interpreter a few.
func TestRandomRequests(t *testing.T) {
	for name, c := range parityContexts(t) {
		t.Run(name, func(t *testing.T) {
			n := 10_000
			if name == "sim" {
				n = 6
			}
			testRandomRequests(t, c, n)
		})
	}
}

func testRandomRequests(t *testing.T, c *context, n int) {
	m, _ := loadOn(t, &Device{c: c}, "tiny-square/hf-mxfp4")
	e, err := engine.New(contextOf{m, 120}, engine.Options{PrefixCache: true, MaxQueue: n})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	alone := engine.Request{Prompt: []int32{5, 6, 7, 8, 9}, MaxTokens: 4, Sampling: model.Sampling{Temperature: 1, Seed: 42}}
	before := answer(t, e, alone)
	taken := c.memory.taken
	r := rand.New(rand.NewPCG(11, 12))
	common := randomIDs(r, 20)
	var open []*engine.Handle
	for i := range n {
		q := engine.Request{Prompt: append(slices.Clone(common[:r.IntN(21)]), randomIDs(r, 1+r.IntN(20))...), MaxTokens: 1 + r.IntN(6)}
		q.Sampling = model.Sampling{Temperature: float32(r.IntN(2)), TopK: r.IntN(20), Seed: uint64(i)}
		h, err := e.Submit(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, h)
		if r.IntN(4) == 0 {
			open[r.IntN(len(open))].Cancel()
		}
	}
	for _, h := range open {
		for ev := range h.Events() {
			if ev.Done && ev.Reason == engine.ReasonError {
				t.Fatal(ev.Err)
			}
		}
	}
	if after := answer(t, e, alone); !slices.Equal(before, after) {
		t.Errorf("the same request gives %v, then %v", before, after)
	}
	s := e.Stats()
	if s.Running != 0 || s.Full.Free+s.Full.Cached != s.Full.Total || s.Window.Free+s.Window.Cached != s.Window.Total {
		t.Errorf("pages are missing: %+v", s)
	}
	if grown := c.memory.taken[useWeights] - taken[useWeights] + c.memory.taken[useKV] - taken[useKV]; grown != 0 {
		t.Errorf("%d bytes more are taken", grown)
	}
	t.Logf("%d steps", s.Steps)
}

// contextOf gives a model loaded without a plan its context.
type contextOf struct {
	*model.Model
	context int
}

func (m contextOf) Shape() model.Shape {
	s := m.Model.Shape()
	s.MaxContext = m.context
	return s
}

func randomIDs(r *rand.Rand, n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(r.IntN(600))
	}
	return ids
}

func answer(t *testing.T, e *engine.Engine, q engine.Request) (tokens []int32) {
	t.Helper()
	h, err := e.Submit(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for ev := range h.Events() {
		if ev.Kind == engine.KindToken {
			tokens = append(tokens, ev.Token)
		}
		if ev.Done && ev.Err != nil {
			t.Fatal(ev.Err)
		}
	}
	return tokens
}
