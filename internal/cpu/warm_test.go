package cpu

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"hearth/internal/dtype"
)

// Every byte of the weights is read once and reported, however many nodes there are, in stacks of every format.
func TestWarm(t *testing.T) {
	for _, m := range []shape{tinyShape(), blockShape(), tinyShape().apart()} {
		for _, nodes := range [][][]int{nil, {{0}, {0}, {0}}} {
			opened, _, _ := m.open(t, 3, "")
			s := opened.(*session)
			s.nodes = nodes
			var mu sync.Mutex
			var last int64
			err := s.Warm(t.Context(), func(done int64) {
				mu.Lock()
				defer mu.Unlock()
				last = max(last, done)
			})
			if s.readAhead.Load() {
				t.Error("operations still read ahead when all is in memory")
			}
			if err != nil || last != s.WarmBytes() || last == 0 {
				t.Errorf("%d nodes: %d of %d bytes, error %v", len(nodes), last, s.WarmBytes(), err)
			}
		}
	}
}

// Nested scales are weights too.
func TestWarmBytesOfNestedScales(t *testing.T) {
	s := &session{head: randomPlane(random{rand.New(rand.NewPCG(1, 7))}, dtype.NF4, 64, 128)}
	var n int64
	for node := range 2 {
		for _, b := range s.warmChunks(node, 2) {
			n += int64(len(b))
		}
	}
	if n != s.head.Bytes() {
		t.Errorf("chunks of %d bytes, the plane has %d", n, s.head.Bytes())
	}
}

func TestWarmEndsWithItsContext(t *testing.T) {
	opened, _, _ := tiny(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := opened.(*session)
	if err := s.Warm(ctx, func(int64) {}); !errors.Is(err, context.Canceled) || !s.readAhead.Load() {
		t.Errorf("error is %v, operations read ahead: %v", err, s.readAhead.Load())
	}
}
