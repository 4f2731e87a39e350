package cuda

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"hearth/internal/device"
	"hearth/internal/testgpu"
)

func stepTestShape() *shape {
	return &shape{
		Limits:    device.Limits{MaxTokens: 70, MaxSeqs: 5, MaxLogits: 9, PageSize: 16, FullPages: 300, WindowPages: 60},
		maxBlocks: 300, sms: 2,
	}
}

// walker is a naive engine: sequences with tables that grow, are released behind the window, restart and change places.
type walker struct {
	seqs []*walkerSeq
	next int32 // page that nobody has
}

type walkerSeq struct {
	at           int
	full, window []int32
}

// batch draws the next step.
func (w *walker) batch(t *rapid.T, s *shape) *device.Batch {
	for len(w.seqs) < s.MaxSeqs && rapid.Bool().Draw(t, "admit") {
		q := &walkerSeq{}
		if rapid.IntRange(0, 3).Draw(t, "prefix") == 0 { // its prompt is in the cache
			q.at = rapid.IntRange(1, 200).Draw(t, "hit") * s.PageSize
			q.grow(w, q.at, s.PageSize)
		}
		w.seqs = append(w.seqs, q)
	}
	if len(w.seqs) > 1 && rapid.IntRange(0, 5).Draw(t, "end") == 0 {
		i := rapid.IntRange(0, len(w.seqs)-1).Draw(t, "ended")
		w.seqs = slices.Delete(w.seqs, i, i+1)
	}
	if rapid.IntRange(0, 9).Draw(t, "swap") == 0 {
		slices.Reverse(w.seqs)
	}
	b := &device.Batch{}
	room := s.MaxTokens
	for _, q := range w.seqs {
		n := 1
		if rapid.IntRange(0, 3).Draw(t, "chunk") == 0 {
			n = rapid.IntRange(1, 40).Draw(t, "count")
		}
		n = min(n, room, s.FullPages*s.PageSize-q.at)
		if n == 0 {
			continue
		}
		q.grow(w, q.at+n, s.PageSize)
		b.Seqs = append(b.Seqs, device.Seq{First: len(b.Tokens), Count: n, Full: slices.Clone(q.full), Window: slices.Clone(q.window)})
		for i := range n {
			b.Tokens = append(b.Tokens, int32(rapid.IntRange(0, 1000).Draw(t, "token")))
			b.Positions = append(b.Positions, int32(q.at+i))
		}
		if len(b.Logits) < s.MaxLogits {
			b.Logits = append(b.Logits, device.LogitRow{Row: len(b.Tokens) - 1})
		}
		q.at, room = q.at+n, room-n
	}
	return b
}

// grow gives the sequence pages for positions up to end, and takes back those out of a window of 40.
func (q *walkerSeq) grow(w *walker, end, page int) {
	for len(q.full)*page < end {
		q.full, q.window = append(q.full, w.next), append(q.window, w.next+1)
		w.next += 2
	}
	for i := 0; (i+1)*page <= q.at-40; i++ {
		q.window[i] = -1
	}
}

// Whatever order sequences come in, the GPU's inputs and tables are those of the batch.
func TestStepInput(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	const tileRows = 8
	rapid.Check(t, func(t *rapid.T) {
		s := stepTestShape()
		in, err := newStepInput(c, s, tileRows)
		if err != nil {
			t.Fatal(err)
		}
		defer in.close()
		var w walker
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			b := w.batch(t, s)
			if len(b.Tokens) == 0 {
				continue
			}
			got, err := in.begin(c.queue, b)
			if err != nil {
				t.Fatal(err)
			}
			in.run(c.queue, got.tokens)
			checkInput(t, c, in, b, got)
		}
	})
}

// TB is what tests and rapid's have in common.
type failer interface {
	Fatalf(string, ...any)
	Fatal(...any)
}

func checkInput(t failer, c *context, in *stepInput, b *device.Batch, got stepShape) {
	read := func(p devptr, n int) []int32 {
		v := make([]int32, n)
		c.queue.download(bytesOf(v), p)
		if err := c.queue.sync(); err != nil {
			t.Fatal(err)
		}
		return v
	}
	equal := func(what string, have, want []int32) {
		if !slices.Equal(have, want) {
			t.Fatalf("%s: %v, want %v", what, have, want)
		}
	}
	var rows, decodes []int32
	for _, r := range b.Logits {
		rows = append(rows, int32(r.Row))
	}
	T := len(b.Tokens)
	equal("positions", read(in.at.positions, T), b.Positions)
	equal("logit rows", read(in.at.logitRows, len(rows)), rows)
	owner := read(in.at.seqOf, T)
	covered := make([]int, T)
	used := map[int32]bool{}
	for i, q := range b.Seqs {
		slot := owner[q.First]
		if used[slot] {
			t.Fatalf("two sequences share slot %d", slot)
		}
		used[slot] = true
		blocks := in.blocks(b, i)
		equal(fmt.Sprintf("full table of sequence %d", i), read(in.at.fullTable+devptr(4*int(slot)*in.shape.maxBlocks), blocks), q.Full[:blocks])
		equal(fmt.Sprintf("window table of sequence %d", i), read(in.at.windowTable+devptr(4*int(slot)*in.shape.maxBlocks), blocks), q.Window[:blocks])
		for j := range q.Count {
			if owner[q.First+j] != slot {
				t.Fatalf("token %d belongs to slot %d, not %d", q.First+j, owner[q.First+j], slot)
			}
		}
		if q.Count == 1 {
			decodes = append(decodes, int32(q.First))
			covered[q.First]++
		}
	}
	equal("decode rows", read(in.at.decodeRow, got.decodes), decodes)
	tiles := read(in.at.tiles, 4*got.tiles)
	for ; len(tiles) > 0; tiles = tiles[4:] {
		slot, first, n, position := tiles[0], tiles[1], tiles[2], tiles[3]
		if owner[first] != slot || b.Positions[first] != position || n < 1 || int(n) > in.tileRows {
			t.Fatalf("tile %v: row %d is position %d of slot %d", tiles[:4], first, b.Positions[first], owner[first])
		}
		for r := first; r < first+n; r++ {
			covered[r]++
			if owner[r] != slot {
				t.Fatalf("tile %v crosses into slot %d", tiles[:4], owner[r])
			}
		}
	}
	for r, n := range covered {
		if n != 1 {
			t.Fatalf("row %d is attended %d times", r, n)
		}
	}
	if got.tokens != T || got.seqs != len(b.Seqs) || got.rows != len(rows) {
		t.Fatalf("shape %+v", got)
	}
}

// A decode step sends one entry a sequence and kind at most, and nothing where no page is new; sequences that change
// places send nothing.
func TestOnlyChangesTravel(t *testing.T) {
	m, c := simContext(t, testgpu.Config{})
	s := stepTestShape()
	in, err := newStepInput(c, s, 8)
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	seqs := []*walkerSeq{{at: 2000}, {at: 47}, {at: 17}}
	w := &walker{seqs: seqs}
	for step := range 40 {
		b := &device.Batch{}
		fresh := 0
		for _, q := range seqs {
			old := len(q.full)
			q.at++
			q.grow(w, q.at, s.PageSize)
			fresh += len(q.full) - old
			b.Seqs = append(b.Seqs, device.Seq{First: len(b.Tokens), Count: 1, Full: q.full, Window: q.window})
			b.Tokens, b.Positions = append(b.Tokens, 1), append(b.Positions, int32(q.at-1))
		}
		copies := m.calls["cuMemcpyHtoDAsync"]
		got, err := in.begin(c.queue, b)
		if err != nil {
			t.Fatal(err)
		}
		in.run(c.queue, got.tokens)
		checkInput(t, c, in, b, got)
		if step > 0 {
			if n := m.calls["cuMemcpyHtoDAsync"] - copies; n != 0 {
				t.Errorf("step %d: %d copies", step, n)
			}
			if n := len(in.pairs[0]) / 2; n != fresh {
				t.Errorf("step %d: %d entries of full tables travel, %d are new", step, n, fresh)
			}
			if n := len(in.pairs[1]) / 2; n > 2*len(seqs) {
				t.Errorf("step %d: %d entries of window tables travel", step, n)
			}
		}
		seqs[0], seqs[step%3] = seqs[step%3], seqs[0]
	}
}

func TestSequenceTooLong(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	s := stepTestShape()
	in, err := newStepInput(c, s, 8)
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	long := make([]int32, 301)
	b := &device.Batch{Tokens: []int32{0}, Positions: []int32{4800}, Seqs: []device.Seq{{Count: 1, Full: long, Window: long}}}
	if _, err := in.begin(c.queue, b); err == nil || err.Error() != "batch sequence 0 needs 301 pages, the session has 300" {
		t.Errorf("error %v", err)
	}
}
