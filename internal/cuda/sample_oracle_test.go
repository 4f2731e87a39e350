package cuda

import (
	"encoding/binary"
	"math"
	"testing"

	"hearth/internal/cpu"
	"hearth/internal/device"
	"hearth/internal/dtype"
)

// sampleOracle is what package cpu answers for a table of logits, one row for each of the asked-for rows. It is asked
// through a model that does nothing: the embedding of token r is 1 at dimension r alone, the layer adds zeros, and the
// head's column r holds row r of the table. Every step of that is exact.
func sampleOracle(t *testing.T, logits [][]float32, asked []device.LogitRow) []device.Output {
	t.Helper()
	const hidden, inner, page = 64, 2, 16
	n, vocab := len(logits), len(logits[0])
	d, err := cpu.New(cpu.Options{Threads: 1, Level: "portable"})
	if err != nil {
		t.Fatal(err)
	}
	pages := (n + page - 1) / page
	s, err := d.NewSession(device.Spec{
		Layers: 1, Hidden: hidden, Intermediate: inner, Heads: 1, KVHeads: 1, HeadDim: 2, Experts: 1, TopK: 1, Vocab: vocab,
		SwigluAlpha: 1.702, SwigluLimit: 7, Windows: []int{0}, InvFreq: []float32{1}, RopeScale: 1,
	}, device.Limits{MaxTokens: n, MaxSeqs: 1, MaxLogits: n, PageSize: page, FullPages: pages, WindowPages: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	zeros := func(rows, cols int) device.Linear {
		return device.Linear{Weight: dtype.Plane{Format: dtype.F32, Rows: rows, Cols: cols, Data: make([]byte, 4*rows*cols)}}
	}
	experts := func(rows, cols int) device.Experts {
		return device.Experts{Weight: dtype.Stack{Even: []dtype.Plane{zeros(rows, cols).Weight}}, Bias: make([]float32, rows)}
	}
	embedding, head := zeros(vocab, hidden).Weight, zeros(vocab, hidden).Weight
	for r := range n {
		binary.LittleEndian.PutUint32(embedding.Data[4*(r*hidden+r):], math.Float32bits(1))
		for id, v := range logits[r] {
			binary.LittleEndian.PutUint32(head.Data[4*(id*hidden+r):], math.Float32bits(v))
		}
	}
	norm := make([]float32, hidden)
	for i := range norm {
		norm[i] = 1. / 8 // 1/sqrt(hidden): undoes what the norm does to a row with a single 1
	}
	for _, err := range []error{
		s.LoadEmbedding(embedding), s.LoadHead(norm, head),
		s.LoadLayer(0, &device.Layer{
			AttnNorm: norm, MLPNorm: norm, Sinks: make([]float32, 1), Q: zeros(2, hidden), K: zeros(2, hidden), V: zeros(2, hidden), O: zeros(hidden, 2),
			Router: zeros(1, hidden), GateUp: experts(2*inner, hidden), Down: experts(hidden, inner),
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b := &device.Batch{Seqs: []device.Seq{{Count: n, Full: make([]int32, pages), Window: make([]int32, pages)}}, Logits: asked}
	for r := range n {
		b.Tokens, b.Positions = append(b.Tokens, int32(r)), append(b.Positions, int32(r))
	}
	for p := range pages {
		b.Seqs[0].Full[p], b.Seqs[0].Window[p] = int32(p), -1
	}
	if err := s.Begin(b); err != nil {
		t.Fatal(err)
	}
	s.Embed()
	s.QKV(0)
	s.Attend(0)
	s.AttnOut(0)
	s.Route(0)
	s.GateUp(0)
	s.Down(0)
	s.Head()
	out := make([]device.Output, n)
	if err := s.Finish(out); err != nil {
		t.Fatal(err)
	}
	return out
}
