package cuda

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"hearth/internal/cpu"
	"hearth/internal/device"
	"hearth/internal/dtype"
)

// randomModel makes layers of any size from random numbers: values of about 1/sqrt(inputs), as trained ones have.
type randomModel struct{ *rand.Rand }

func (r randomModel) floats(n int, scale float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64() * scale)
	}
	return v
}

// dense is a BF16 plane.
func (r randomModel) dense(rows, cols int) dtype.Plane {
	p := dtype.Plane{Format: dtype.BF16, Rows: rows, Cols: cols, Data: make([]byte, 2*rows*cols)}
	scale := 1 / math.Sqrt(float64(cols))
	for i := range rows * cols {
		binary.LittleEndian.PutUint16(p.Data[2*i:], dtype.ToBF16(float32(r.NormFloat64()*scale)))
	}
	return p
}

// mxfp4 is an MXFP4 plane. Random codes have a root mean square of 2.9.
func (r randomModel) mxfp4(rows, cols int) dtype.Plane {
	p := dtype.Plane{Format: dtype.MXFP4, Rows: rows, Cols: cols, Data: make([]byte, rows*cols/2), Scales: make([]byte, rows*cols/32)}
	for i := range p.Data {
		p.Data[i] = byte(r.Uint32())
	}
	exponent := 127 - int(math.Round(math.Log2(2.9*math.Sqrt(float64(cols)))))
	for i := range p.Scales {
		p.Scales[i] = byte(exponent + r.IntN(3) - 1)
	}
	return p
}

func (r randomModel) layer(s *device.Spec) *device.Layer {
	linear := func(rows, cols int) device.Linear {
		return device.Linear{Weight: r.dense(rows, cols), Bias: r.floats(rows, 0.1)}
	}
	experts := func(rows, cols int) device.Experts {
		x := device.Experts{Bias: r.floats(s.Experts*rows, 0.1)}
		for range s.Experts {
			x.Weight.Even = append(x.Weight.Even, r.mxfp4(rows, cols))
		}
		return x
	}
	norm := func() []float32 {
		v := r.floats(s.Hidden, 0.1)
		for i := range v {
			v[i]++
		}
		return v
	}
	q, kv := s.Heads*headDim, s.KVHeads*headDim
	return &device.Layer{
		AttnNorm: norm(), MLPNorm: norm(), Sinks: r.floats(s.Heads, 1),
		Q: linear(q, s.Hidden), K: linear(kv, s.Hidden), V: linear(kv, s.Hidden), O: linear(s.Hidden, q),
		Router: linear(s.Experts, s.Hidden), GateUp: experts(2*s.Intermediate, s.Hidden), Down: experts(s.Hidden, s.Intermediate),
	}
}

// layersShape is gpt-oss-20b's on a card, cut to two layers and a small vocabulary; on the interpreter a tenth of it.
func layersShape(real bool) (device.Spec, device.Limits, [][]int) {
	s := device.Spec{
		Layers: 2, Hidden: 320, Intermediate: 192, Heads: 16, KVHeads: 2, HeadDim: headDim, Experts: 12, TopK: 4, Vocab: 500,
		Eps: 1e-5, SwigluAlpha: 1.702, SwigluLimit: 7, Windows: []int{24, 0}, RopeScale: 1.3466,
	}
	chunks := [][]int{{33}, {1, 1, 1}, {2}, {1}} // of one sequence, one after another; those in brackets are judged together
	if real {
		s.Hidden, s.Intermediate, s.Heads, s.KVHeads, s.Experts, s.Vocab, s.Windows = 2880, 2880, 64, 8, 32, 4000, []int{128, 0}
		chunks = [][]int{{150}, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {7}, {130}, {1, 1, 1, 1, 1}}
	}
	for i := range headDim / 2 {
		s.InvFreq = append(s.InvFreq, float32(math.Pow(150000, -float64(i)/32)))
	}
	return s, device.Limits{MaxTokens: 160, MaxSeqs: 2, MaxLogits: 4, PageSize: 16, FullPages: 20, WindowPages: 20}, chunks
}

// Layers of real sizes give the CPU oracle's residual stream and logits: one sequence in chunks and single tokens.
func TestRandomLayers(t *testing.T) {
	for name, c := range parityContexts(t) {
		t.Run(name, func(t *testing.T) {
			spec, lim, chunks := layersShape(name == "gpu")
			host, err := cpu.New(cpu.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var sessions [2]device.Session
			for i, d := range []device.Device{host, &Device{c: c}} {
				sessions[i] = loadRandom(t, d, spec, lim)
			}
			r := rand.New(rand.NewPCG(3, 4))
			table := make([]int32, lim.FullPages)
			for i, p := range r.Perm(lim.FullPages) {
				table[i] = int32(p)
			}
			at := 0
			tipped := false
			for _, group := range chunks {
				var steps []*device.Batch
				for _, n := range group {
					b := &device.Batch{Seqs: []device.Seq{{Count: n, Full: table, Window: table}}, Logits: []device.LogitRow{{Row: n - 1, Target: -1, Top: 20}}}
					for range n {
						b.Tokens, b.Positions = append(b.Tokens, int32(r.IntN(spec.Vocab))), append(b.Positions, int32(at))
						at++
					}
					steps = append(steps, b)
				}
				tipped = compareLayers(t, sessions, &spec, steps, tipped) || tipped
			}
		})
	}
}

func loadRandom(t *testing.T, d device.Device, spec device.Spec, lim device.Limits) device.Session {
	t.Helper()
	s, err := d.NewSession(spec, lim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	loadRandomInto(t, s, spec)
	return s
}

// loadRandomInto gives a session the same weights each time.
func loadRandomInto(t testing.TB, s device.Session, spec device.Spec) {
	t.Helper()
	r := randomModel{rand.New(rand.NewPCG(1, 2))}
	if err := s.LoadEmbedding(r.dense(spec.Vocab, spec.Hidden)); err != nil {
		t.Fatal(err)
	}
	for l := range spec.Layers {
		if err := s.LoadLayer(l, r.layer(&spec)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.LoadHead(r.floats(spec.Hidden, 1), r.dense(spec.Vocab, spec.Hidden)); err != nil {
		t.Fatal(err)
	}
}

// step runs a whole step.
func step(t testing.TB, s device.Session, spec *device.Spec, b *device.Batch, out []device.Output) {
	t.Helper()
	if err := s.Begin(b); err != nil {
		t.Fatal(err)
	}
	s.Embed()
	for l := range spec.Layers {
		for _, op := range []func(int){s.QKV, s.Attend, s.AttnOut, s.Route, s.GateUp, s.Down} {
			op(l)
		}
	}
	s.Head()
	if err := s.Finish(out); err != nil {
		t.Fatal(err)
	}
}

// compareLayers runs steps on both and compares x after each layer, token by token, and the likeliest ids. It says whether a
// token took other experts; before says that one did whose keys these tokens meet.
func compareLayers(t *testing.T, sessions [2]device.Session, spec *device.Spec, steps []*device.Batch, before bool) (tipped bool) {
	t.Helper()
	var streams [2][][]float32 // of each layer, the tokens of all steps
	alike := 0
	for _, b := range steps {
		var out [2][]device.Output
		for i, s := range sessions {
			var layers [][]float32
			layers, out[i] = residuals(t, s, spec, b)
			for l, x := range layers {
				if len(streams[i]) == l {
					streams[i] = append(streams[i], nil)
				}
				streams[i][l] = append(streams[i][l], x...)
			}
		}
		if likeliestAlike(out[0][0].Top, out[1][0].Top) {
			alike++
		}
	}
	for l := range spec.Layers {
		errs := tokenErrors(streams[0][l], streams[1][l], spec.Hidden)
		n := len(errs)
		// A layer rounds to BF16 six times, 2^-10 each, and scores of some units multiply the error of queries and keys: the
		// float64 reference with these roundings moves x by 0.004 to 0.01 a layer. Where the fourth and the fifth expert are
		// within that of each other, another one may be chosen. That changes this token by a third, and with it the keys and
		// values that later tokens meet in the next layer: an H100 is off by 0.013 there before any such token and by 0.03
		// after some. A mistake changes every token by more.
		limit := 0.012 * float64(l+1)
		if before {
			limit = 0.012 + 0.033*float64(l)
		}
		tipped = tipped || errs[n-1] > 0.1
		if mid, high := errs[n/2], errs[n*9/10]; !(mid < limit) || n >= 30 && !(high < 3*limit) {
			t.Errorf("%d tokens in %d steps, layer %d: x is off by %.2g of its size in the middle token, %.2g in the worst tenth", n, len(steps), l, mid, high)
		} else {
			t.Logf("%d tokens in %d steps, layer %d: %.2g, %.2g, at most %.2g", n, len(steps), l, mid, high, errs[n-1])
		}
	}
	if 2*alike <= len(steps) {
		t.Errorf("the likeliest ids of %d among %d steps are the oracle's", alike, len(steps))
	}
	return tipped
}

// residuals runs a step and gives x after each layer.
func residuals(t *testing.T, s device.Session, spec *device.Spec, b *device.Batch) (layers [][]float32, out []device.Output) {
	t.Helper()
	if err := s.Begin(b); err != nil {
		t.Fatal(err)
	}
	s.Embed()
	for l := range spec.Layers {
		for _, op := range []func(int){s.QKV, s.Attend, s.AttnOut, s.Route, s.GateUp, s.Down} {
			op(l)
		}
		x := make([]float32, len(b.Tokens)*spec.Hidden)
		s.Residual(x)
		layers = append(layers, x)
	}
	s.Head()
	out = make([]device.Output, len(b.Logits))
	if err := s.Finish(out); err != nil {
		t.Fatal(err)
	}
	return layers, out
}

// likeliestAlike says whether at least 15 of 20 ids are the same, with log-probabilities that differ by 0.2 at most.
func likeliestAlike(want, got []device.TokenLogProb) bool {
	of := map[int32]float32{}
	for _, x := range want {
		of[x.ID] = x.LogProb
	}
	found := 0
	for _, x := range got {
		if p, ok := of[x.ID]; ok {
			if !(math.Abs(float64(p-x.LogProb)) <= 0.2) {
				return false
			}
			found++
		}
	}
	return found >= 15
}

// tokenErrors gives each token's |difference| / |value|, ascending.
func tokenErrors(want, got []float32, width int) (errs []float64) {
	for at := 0; at < len(want); at += width {
		var size, diff float64
		for i := at; i < at+width; i++ {
			size += float64(want[i]) * float64(want[i])
			diff += math.Pow(float64(want[i])-float64(got[i]), 2)
		}
		e := math.Sqrt(diff / size)
		if math.IsNaN(e) {
			e = math.Inf(1)
		}
		errs = append(errs, e)
	}
	slices.Sort(errs)
	return errs
}
