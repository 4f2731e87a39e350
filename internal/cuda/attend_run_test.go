package cuda

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/testgpu"
)

// sinksOf draws sinks of every kind: ones that take most of the weight, ones that take little, one that is switched off.
func (t *attendTest) sinksOf() []float32 {
	v := t.normal(t.s.Heads, 4)
	if len(v) > 2 {
		v[1], v[2] = -1e30, 30
	}
	return v
}

// decodeCase decodes one token for each of the positions, on rows that are not their sequences' numbers.
func (t *attendTest) decodeCase(name string, window, pages int, positions []int32) {
	t.Helper()
	s, n := t.s, len(positions)
	T := n + 2
	var seqs []visible
	for _, p := range positions {
		first := 0
		if window > 0 {
			first = max(0, int(p)+1-window)
		}
		seqs = append(seqs, visible{first, int(p) + 1})
	}
	cache := t.cache(window, pages, seqs)
	rows := t.rng.Perm(T)[:n]
	at, seqOf, list := make([]int32, T), make([]int32, T), make([]int32, n)
	for i, r := range rows {
		at[r], seqOf[r], list[i] = positions[i], int32(i), int32(r)
	}
	width := s.Heads * headDim
	q := make([]byte, 2*T*width)
	dtype.EncodeBF16(q, t.normal(T*width, 1.5))
	queries, sinks := decodeVector(t, dtype.BF16, q), t.sinksOf()
	st := stepBuffers{positions: t.ints(at), seqOf: t.ints(seqOf), decodeRow: t.ints(list)}
	acc := t.room(8 * (s.Experts + 2))
	in := decodeArgs{q: t.put(q), sinks: t.floats(sinks), kv: &cache.kv, acc: acc}
	var first []float32
	for _, bf16 := range []bool{false, true, false} { // again: counters are back at zero, the result is the same
		in.out, in.outBF16 = t.room(4*T*width), bf16
		t.a.decode(t.c.queue, &st, n, in)
		got, bits := t.getFloats(in.out, T*width), 8.0 // weights are rounded to BF16
		if bf16 {
			got, bits = decodeVector(t, dtype.BF16, t.get(in.out, 2*T*width)), 7
		}
		for i, r := range rows {
			for h := range s.Heads {
				want := t.attention(cache, i, int(positions[i]), h, queries[(r*s.Heads+h)*headDim:][:headDim], sinks[h])
				t.near(fmt.Sprintf("%s: position %d head %d", name, positions[i], h), got[(r*s.Heads+h)*headDim:][:headDim], want, bits)
			}
		}
		t.onlyRows(name, got, width, rows)
		if first == nil {
			first = got
		} else if !bf16 && !slices.EqualFunc(got, first, sameBits) {
			t.Errorf("%s: the second run differs", name)
		}
	}
	for i, b := range t.get(acc, 8*(s.Experts+2)) {
		if want := map[bool]byte{true: 0, false: 0xff}[i < 8*(s.Experts+1)]; b != want {
			t.Fatalf("%s: byte %d of acc is %#x", name, i, b)
		}
	}
	t.unchanged(name, cache)
}

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }

// onlyRows checks that the other rows are as they were.
func (t *attendTest) onlyRows(name string, got []float32, width int, rows []int) {
	t.Helper()
	for i, v := range got {
		if v == v && !slices.Contains(rows, i/width) {
			t.Fatalf("%s: row %d is written", name, i/width)
		}
	}
}

// rowCase decodes one token by the row path.
func (t *attendTest) rowCase(name string, window, pages int, position int32) {
	t.Helper()
	s := t.s
	first := 0
	if window > 0 {
		first = max(0, int(position)+1-window)
	}
	const seq = 1 // of two
	seqs := []visible{{0, 1}, {first, int(position)}}
	if position%int32(s.PageSize) == 0 { // its page is new
		seqs[1].end++
	}
	cache := t.cache(window, pages, seqs)
	qkv, sinks := t.normal(s.qkvRows, 1.5), t.sinksOf()
	st := stepBuffers{positions: t.ints([]int32{position}), seqOf: t.ints([]int32{seq}), rope: t.room(4 * headDim)}
	t.a.ropeTable(t.c.queue, &st, 1)
	width := s.Heads * headDim
	in := decodeArgs{qkv: t.floats(qkv), sinks: t.floats(sinks), kv: &cache.kv, out: t.room(4 * (width + 1))}
	t.a.decode(t.c.queue, &st, 1, in)
	got := t.getFloats(in.out, width+1)
	var written []int
	for h := range s.KVHeads {
		r := cache.row(seq, int(position), h)
		written = append(written, r)
		var value []float64
		for _, v := range qkv[(s.Heads+s.KVHeads+h)*headDim:][:headDim] {
			value = append(value, float64(v))
		}
		t.stored(name, cache, r, t.rotated(qkv[(s.Heads+h)*headDim:][:headDim], position), value)
	}
	for h := range s.Heads {
		b := make([]byte, 2*headDim)
		query := make([]float32, headDim)
		for d, v := range t.rotated(qkv[h*headDim:][:headDim], position) {
			query[d] = float32(v)
		}
		dtype.EncodeBF16(b, query)
		want := t.attention(cache, seq, int(position), h, decodeVector(t, dtype.BF16, b), sinks[h])
		t.near(fmt.Sprintf("%s: position %d head %d", name, position, h), got[h*headDim:][:headDim], want, 8)
	}
	if v := got[width]; v == v {
		t.Errorf("%s: it writes past the row", name)
	}
	t.unchanged(name, cache, written...)
}

// TestDecode meets every group size, and windows and pages that begin and end anywhere.
func TestDecode(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for _, z := range []attendSizes{
			{heads: 8, kvHeads: 1, pageSize: 16, blocks: 40}, {heads: 16, kvHeads: 1, pageSize: 48, blocks: 20},
			{heads: 6, kvHeads: 2, pageSize: 16, blocks: 40, sms: 1}, {heads: 1, kvHeads: 1, pageSize: 32, blocks: 3},
		} {
			for _, z.int8 = range []bool{false, true} {
				z.sequences, z.tokens = 5, 7
				a := newAttendTest(t, c, z)
				last := int32(z.pageSize*z.blocks - 1)
				for _, window := range []int{0, 1, 20, 128, 200} {
					name := fmt.Sprintf("%+v window %d", z, window)
					a.decodeCase(name, window, 0, []int32{0, a.rng.Int32N(last), 16, last, 15})
					for _, p := range []int32{0, 1, 15, 16, last, a.rng.Int32N(last)} {
						if p%4 != int32(window)%4 || p < 16 { // some of them
							a.rowCase(name, window, 0, p)
						}
					}
				}
			}
		}
	})
}

// TestDecodeSplits has contexts that more than one block shares, up to the longest that GPT-OSS knows, whose pages repeat.
func TestDecodeSplits(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for _, z := range []attendSizes{
			{heads: 4, kvHeads: 1, pageSize: 16, blocks: 8192}, {heads: 4, kvHeads: 2, pageSize: 64, blocks: 50, int8: true},
			{heads: 16, kvHeads: 1, pageSize: 16, blocks: 70},
		} {
			z.sequences, z.tokens = 3, 5
			a := newAttendTest(t, c, z)
			last := int32(z.pageSize*z.blocks - 1)
			name := fmt.Sprintf("%+v", z)
			if a.s.decodeSplits(1, int(last)) < 3 {
				t.Fatalf("%s: nothing is split", name)
			}
			positions := []int32{last, 255, 700}
			a.rowCase(name, 0, 40, last)
			if last > 100000 { // slow
				positions[0] = 5000
			}
			a.decodeCase(name, 0, 40, positions)
			a.decodeCase(name+" window 600", 600, 40, []int32{1000})
			a.rowCase(name+" window 600", 600, 0, 1001)
		}
	})
}

func TestDecodeShuffled(t *testing.T) {
	for seed := range uint64(3) {
		_, c := simContext(t, testgpu.Config{Shuffle: seed + 1})
		a := newAttendTest(t, c, attendSizes{heads: 8, kvHeads: 2, pageSize: 16, blocks: 100, sequences: 2, tokens: 4, int8: seed == 1})
		a.decodeCase("shuffled", 0, 0, []int32{1500, 800})
		a.rowCase("shuffled", 0, 0, 1599)
		a.prefillCase("shuffled", 128, []run{{0, 30}, {500, 21}})
	}
}

// run is a sequence's part of a prefill step.
type run struct{ first, count int }

func (t *attendTest) prefillCase(name string, window int, chunks []run) {
	t.Helper()
	s := t.s
	var seqs []visible
	var tiles []int32
	T := 1 // row 0 belongs to nobody
	var rows []int
	for i, k := range chunks {
		first := 0
		if window > 0 {
			first = max(0, k.first+1-window)
		}
		seqs = append(seqs, visible{first, k.first + k.count})
		for at := 0; at < k.count; at += t.a.tileRows() {
			tiles = append(tiles, int32(i), int32(T+at), int32(min(t.a.tileRows(), k.count-at)), int32(k.first+at))
		}
		for range k.count {
			rows = append(rows, T)
			T++
		}
	}
	T++
	cache := t.cache(window, 0, seqs)
	width := s.Heads * headDim
	q := make([]byte, 2*T*width)
	dtype.EncodeBF16(q, t.normal(T*width, 1.5))
	queries, sinks := decodeVector(t, dtype.BF16, q), t.sinksOf()
	out := t.room(2 * T * width)
	st := stepBuffers{tiles: t.ints(tiles)}
	t.a.prefill(t.c.queue, &st, len(tiles)/4, t.put(q), t.floats(sinks), &cache.kv, out)
	got := decodeVector(t, dtype.BF16, t.get(out, 2*T*width))
	r := 1
	for i, k := range chunks {
		for p := range k.count {
			for h := range s.Heads {
				want := t.attention(cache, i, k.first+p, h, queries[(r*s.Heads+h)*headDim:][:headDim], sinks[h])
				t.near(fmt.Sprintf("%s: %v position %d head %d", name, k, k.first+p, h), got[(r*s.Heads+h)*headDim:][:headDim], want, 7)
			}
			r++
		}
	}
	t.onlyRows(name, got, width, rows)
	t.unchanged(name, cache)
}

// TestPrefill has chunks that begin and end anywhere, behind keys of earlier ones.
func TestPrefill(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for i, z := range []attendSizes{
			{heads: 8, kvHeads: 1, pageSize: 16, blocks: 30}, {heads: 6, kvHeads: 2, pageSize: 48, blocks: 10}, {heads: 1, kvHeads: 1, pageSize: 16, blocks: 30},
			{heads: 16, kvHeads: 1, pageSize: 32, blocks: 12}, {heads: 4, kvHeads: 2, pageSize: 64, blocks: 8}, {heads: 5, kvHeads: 1, pageSize: 16, blocks: 30},
		} {
			for _, z.int8 = range []bool{false, true} {
				z.sequences, z.tokens = 3, 300
				a := newAttendTest(t, c, z)
				for _, window := range []int{0, 128, 1 + 7*i} {
					a.prefillCase(fmt.Sprintf("%+v window %d", z, window), window, []run{{0, 2 + 9*i}, {a.rng.IntN(200), 1 + a.rng.IntN(40)}, {63, 2}})
				}
			}
		}
	})
}

// TestPrefillEdge: a warp of later rows sees only the last key of a stage, or only the first.
func TestPrefillEdge(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	a := newAttendTest(t, c, attendSizes{heads: 2, kvHeads: 1, pageSize: 16, blocks: 12, tokens: 70, sequences: 1})
	a.prefillCase("last key", 20, []run{{34, 64}})    // the row of position 82 sees 63 and on
	a.prefillCase("hidden key", 100, []run{{115, 2}}) // of the stage that begins at 16, the second row misses only that
	a.prefillCase("first key", 0, []run{{49, 64}})    // the row of position 64 ends with key 64
}

// TestAttendSizes: what the kernels cannot number is refused, and the plan is for the card.
func TestAttendSizes(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	a := newAttendTest(t, c, attendSizes{heads: 64, kvHeads: 8, pageSize: 16, blocks: 8192, sequences: 128})
	for _, e := range []struct{ n, window, splits, warps int }{
		{1, 0, 20, 8}, {1, 128, 1, 9}, {10, 128, 1, 9}, {11, 128, 1, 8}, {2, 0, 20, 8}, {8, 0, 5, 8}, {32, 0, 1, 8}, {128, 0, 1, 8}, {1, 16, 1, 8}, {1, 1024, 4, 8},
	} {
		if splits, warps := a.a.decodePlan(e.n, e.window); splits != e.splits || warps != e.warps {
			t.Errorf("%d sequences, window %d: %d splits of %d warps, want %d of %d", e.n, e.window, splits, warps, e.splits, e.warps)
		}
	}
	if got := a.a.work.size; got > 2<<20 {
		t.Errorf("%d bytes of workspace", got)
	}
	for _, s := range []shape{
		{maxBlocks: 1 << 20, group: 1}, {maxBlocks: 10, group: 1},
	} {
		s.PageSize, s.KVHeads, s.FullPages, s.MaxSeqs, s.sms = 4000, 8, 1<<19, 1, 82
		if s.maxBlocks == 10 {
			s.PageSize = 4096
		}
		if _, err := newAttend(c, &s, false); !errors.Is(err, device.ErrNotSupported) {
			t.Errorf("%d pages of %d: %v", s.FullPages, s.PageSize, err)
		}
	}
	for pageSize := 16; pageSize < 2000; pageSize += 16 {
		for p := range 131072 / 7 {
			if got := int(uint64(7*p) * uint64(pageReciprocal(pageSize)) >> 32); got != 7*p/pageSize {
				t.Fatalf("position %d lies in page %d of %d, not %d", 7*p, 7*p/pageSize, pageSize, got)
			}
		}
	}
}
