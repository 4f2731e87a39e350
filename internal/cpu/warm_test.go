package cpu

import (
	"context"
	"encoding/binary"
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

// randomPlane has weights of both signs around 1/64.
func randomPlane(r random, f dtype.Format, rows, cols int) dtype.Plane {
	n := rows * cols
	p := dtype.Plane{Format: f, Rows: rows, Cols: cols}
	switch f {
	case dtype.BF16:
		p.Data = randomBytes(r.Rand, 2*n, 0x80FF_80FF_80FF_80FF, 0x3C00_3C00_3C00_3C00)
	case dtype.MXFP4:
		p.Data, p.Scales = randomBytes(r.Rand, n/2, ^uint64(0), 0), randomBytes(r.Rand, n/32, 0x0303_0303_0303_0303, 0x7474_7474_7474_7474)
	case dtype.NF4:
		p.Data = randomBytes(r.Rand, n/2, ^uint64(0), 0)
		p.Quant = &dtype.Quant{
			Block: 64, Round: dtype.BF16, Codes: randomBytes(r.Rand, n/64, ^uint64(0), 0), Map: &dtype.NestedMap, NestedBlock: 256, Offset: 1.0 / 32,
			Nested: randomBytes(r.Rand, 4*((n/64+255)/256), 0x007F_FFFF_007F_FFFF, 0x3C00_0000_3C00_0000),
		}
	}
	return p
}

func randomBytes(r *rand.Rand, n int, mask, fixed uint64) []byte {
	b := make([]byte, (n+7)&^7)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64()&mask|fixed)
	}
	return b[:n]
}
