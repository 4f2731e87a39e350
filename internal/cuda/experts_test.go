package cuda

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

// expertTest is a session's worth of expert operations with random weights.
type expertTest struct {
	testing.TB
	c   *context
	s   *shape
	e   *expertOps
	u   *uploader
	rng *rand.Rand
}

func expertShape(hidden, intermediate, experts, topK int) *shape {
	return &shape{Spec: device.Spec{
		Hidden: hidden, Intermediate: intermediate, Experts: experts, TopK: topK, Eps: 1e-5, SwigluAlpha: 1.702, SwigluLimit: 7,
	}, sms: 4}
}

func newExpertTest(t testing.TB, c *context, s *shape) *expertTest {
	t.Helper()
	e, err := newExperts(c, s)
	if err != nil {
		t.Fatal(err)
	}
	u, err := newUploader(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.close()
		if err := u.close(); err != nil {
			t.Error(err)
		}
	})
	return &expertTest{TB: t, c: c, s: s, e: e, u: u, rng: rand.New(rand.NewPCG(uint64(s.Hidden), uint64(s.Intermediate)))}
}

// workspace is one whose memory holds NaNs.
func (t *expertTest) workspace(T int) *expertWorkspace {
	t.Helper()
	w, err := t.e.newWorkspace(T)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.close(t.c) })
	t.c.queue.set(w.memory.ptr, 0xff, w.memory.size)
	h, y := t.e.products(T)
	w.h, w.y = t.room(int(h)), t.room(int(y))
	return w
}

// room is n bytes of the device's memory that hold NaNs.
func (t *expertTest) room(n int) devptr {
	t.Helper()
	b, err := t.c.alloc(int64(n), useActivation)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { t.c.free(b) })
	t.c.queue.set(b.ptr, 0xff, int64(n))
	return b.ptr
}

func (t *expertTest) put(b []byte) devptr {
	t.Helper()
	p := t.room(len(b))
	t.c.queue.upload(p, b)
	return p
}

func (t *expertTest) floats(v []float32) devptr { return t.put(bytesOf(v)) }

func (t *expertTest) bf16s(v []float32) devptr {
	b := make([]byte, 2*len(v))
	dtype.EncodeBF16(b, v)
	return t.put(b)
}

func (t *expertTest) get(p devptr, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	t.c.queue.download(b, p)
	if err := t.c.queue.sync(); err != nil {
		t.Fatal(err)
	}
	return b
}

func (t *expertTest) getFloats(p devptr, n int) []float32 {
	t.Helper()
	return decodeVector(t, dtype.F32, t.get(p, 4*n))
}

func (t *expertTest) getBF16s(p devptr, n int) []float32 {
	t.Helper()
	return decodeVector(t, dtype.BF16, t.get(p, 2*n))
}

func (t *expertTest) getInts(p devptr, n int) []int32 {
	t.Helper()
	out := make([]int32, n)
	for i, b := 0, t.get(p, 4*n); i < n; i++ {
		out[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out
}

func decodeVector(t testing.TB, f dtype.Format, b []byte) []float32 {
	t.Helper()
	v, err := dtype.DecodeVector(f, b)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (t *expertTest) normal(n int, scale float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(t.rng.NormFloat64() * scale)
	}
	return v
}

// expertSource is a layout of experts in a checkpoint.
type expertSource struct {
	name       string
	format     dtype.Format
	split      bool
	transposed bool
	block      int // NF4, FP4
	nested     int // block of scales of scales; 0: float32 scales
	fused      bool
	ownMaps    bool
	want       expertFormat
}

var expertSources = []expertSource{
	{name: "mxfp4", format: dtype.MXFP4, want: expertMXFP4},
	{name: "mxfp4 ggml split", format: dtype.MXFP4GGML, split: true, want: expertMXFP4},
	{name: "mxfp4 ollama", format: dtype.MXFP4Ollama, want: expertMXFP4},
	{name: "nf4", format: dtype.NF4, block: 64, want: expertAbsmax},
	{name: "nf4 nested", format: dtype.NF4, block: 64, nested: 256, want: expertNested},
	{name: "nf4 nested fused", format: dtype.NF4, block: 64, nested: 32, fused: true, want: expertNested},
	{name: "fp4 nested split", format: dtype.FP4, block: 64, nested: 64, split: true, want: expertNested},
	{name: "nf4 nested own maps", format: dtype.NF4, block: 64, nested: 256, ownMaps: true, want: expertAbsmax},
	{name: "nf4 blocks of 128", format: dtype.NF4, block: 128, want: expertAbsmax},
	{name: "nf4 nested blocks of 256", format: dtype.NF4, block: 256, nested: 64, want: expertNested},
	{name: "nf4 transposed", format: dtype.NF4, block: 64, transposed: true, fused: true, want: expertColumns},
	{name: "fp4 transposed nested", format: dtype.FP4, block: 128, nested: 256, transposed: true, fused: true, want: expertColumns},
	{name: "bf16", format: dtype.BF16, want: expertBF16},
	{name: "bf16 split", format: dtype.BF16, split: true, want: expertBF16},
	{name: "bf16 transposed", format: dtype.BF16, transposed: true, want: expertBF16},
}

// sourcesHere leaves out what differs in the kernels alone under the race detector, where the interpreter takes twenty
// times as long.
func sourcesHere() (list []expertSource) {
	for i, src := range expertSources {
		if !testmodel.Race || i%4 == 1 {
			list = append(list, src)
		}
	}
	return list
}

// weights makes random experts in a layout; only gate/up projections are stored in two parts.
func (t *expertTest) weights(src expertSource, experts, rows, cols int, gateUp bool) *device.Experts {
	w := &device.Experts{Bias: t.normal(experts*rows, 0.1)}
	split := src.split && gateUp
	n := experts
	if split {
		n, rows = 2*n, rows/2
	}
	var shared *dtype.Quant
	if src.fused {
		shared = t.quant(src, experts*rows*cols)
	}
	for i := range n {
		p := dtype.Plane{Format: src.format, Rows: rows, Cols: cols, Transposed: src.transposed}
		switch src.format {
		case dtype.BF16:
			p.Data = make([]byte, 2*rows*cols)
			dtype.EncodeBF16(p.Data, t.normal(rows*cols, 0.05))
		case dtype.MXFP4:
			p.Data, p.Scales = t.bytes(rows*cols/2), t.bytes(rows*cols/32)
			for j := range p.Scales {
				p.Scales[j] = t.scaleE8M0()
			}
		case dtype.MXFP4GGML, dtype.MXFP4Ollama:
			p.Data = t.bytes(rows * cols / 32 * 17)
			for j := 0; j < len(p.Data); j += 17 {
				p.Data[j] = t.scaleE8M0()
			}
		default:
			p.Data = t.bytes(rows * cols / 2)
			if src.fused {
				q := *shared
				q.First = i * rows * cols / src.block
				p.Quant = &q
			} else {
				p.Quant = t.quant(src, rows*cols)
			}
		}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		if split && i%2 == 1 {
			w.Weight.Odd = append(w.Weight.Odd, p)
		} else {
			w.Weight.Even = append(w.Weight.Even, p)
		}
	}
	return w
}

func (t *expertTest) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(t.rng.Uint32())
	}
	return b
}

// scaleE8M0 is mostly usual, now and then extreme.
func (t *expertTest) scaleE8M0() byte {
	if t.rng.IntN(50) == 0 {
		return byte(t.rng.IntN(4))
	}
	return byte(118 + t.rng.IntN(5))
}

func (t *expertTest) quant(src expertSource, n int) *dtype.Quant {
	blocks := n / src.block
	q := &dtype.Quant{Block: src.block, Round: dtype.BF16}
	absmax := make([]float32, blocks)
	for i := range absmax {
		absmax[i] = float32(math.Exp(t.rng.NormFloat64() - 3))
	}
	if src.nested == 0 {
		q.Absmax = bytesOf(absmax)
		return q
	}
	q.Codes, q.NestedBlock, q.Offset = t.bytes(blocks), src.nested, 0.07+0.01*t.rng.Float32()
	m := dtype.NestedMap
	if src.ownMaps {
		for i := range m {
			m[i] *= 1 - float32(t.rng.IntN(3))*0x1p-23
		}
	}
	q.Map = &m
	nested := make([]float32, (blocks+src.nested-1)/src.nested)
	for i := range nested {
		nested[i] = 0.02 + 0.05*t.rng.Float32()
	}
	q.Nested = bytesOf(nested)
	return q
}

// product is row r of expert e times x, in float64, with the sum of magnitudes.
func product(w *dtype.Stack, row []float32, x []float32) (sum, size float64) {
	for i, v := range row {
		sum += float64(v) * float64(x[i])
		size += math.Abs(float64(v) * float64(x[i]))
	}
	return sum, size
}

// near reports a difference beyond a bound.
func near(t testing.TB, what string, got float32, want, bound float64) bool {
	t.Helper()
	if math.Abs(float64(got)-want) <= bound {
		return true
	}
	t.Errorf("%s: %v, want %v within %g", what, got, want, bound)
	return false
}

func refSwiglu(s *shape, gate, up float64) float64 {
	gate = min(gate, float64(s.SwigluLimit))
	up = max(-float64(s.SwigluLimit), min(up, float64(s.SwigluLimit)))
	return gate / (1 + math.Exp(-float64(s.SwigluAlpha)*gate)) * (up + 1)
}

// checkGateUp compares h of one row, BF16, with the reference from x, BF16 values. Where x is known only up to its last
// rounding (slack), the row's norm was computed in another order.
func (t *expertTest) checkGateUp(w *device.Experts, expert int, x, h []float32, factor, slack float64) {
	t.Helper()
	s := t.s
	row := make([]float32, 2*s.Hidden)
	for i := range s.Intermediate {
		w.Weight.DecodeRows(row, expert, 2*i, 2)
		bias := w.Bias[expert*2*s.Intermediate+2*i:]
		gate, a := product(&w.Weight, row[:s.Hidden], x)
		up, b := product(&w.Weight, row[s.Hidden:], x)
		gate, up = gate+float64(bias[0]), up+float64(bias[1])
		want := refSwiglu(s, gate, up)
		// Sums of float32: 2^-22 of the magnitudes; the slope of swiglu is at most 9 in the one, 7 in the other. BF16: 2^-8.
		bound := math.Abs(want)*(1.0/256+1e-5) + (a+b+1)*9*(0x1p-21+slack)
		if !near(t, fmt.Sprintf("expert %d h[%d]", expert, i), h[i], want*factor, bound*factor) {
			return
		}
	}
}

// downReference is W2 h + b2 of one row, with the bound on what float32 sums may be off.
func (t *expertTest) downReference(w *device.Experts, expert int, h []float32) (y, bound []float64) {
	s := t.s
	y, bound = make([]float64, s.Hidden), make([]float64, s.Hidden)
	row := make([]float32, s.Intermediate)
	for i := range s.Hidden {
		w.Weight.DecodeRows(row, expert, i, 1)
		sum, size := product(&w.Weight, row, h)
		y[i] = sum + float64(w.Bias[expert*s.Hidden+i])
		bound[i] = (size + 1) * 0x1p-20
	}
	return y, bound
}

// choices draws TopK experts for each token; crowd of them in ten go to the first experts.
func (t *expertTest) choices(T, crowd int) (chosen []int32, weight []float32) {
	s := t.s
	for range T {
		ids := t.rng.Perm(s.Experts)
		if t.rng.IntN(10) < crowd {
			slices.Sort(ids)
		}
		var sum float32
		w := make([]float32, s.TopK)
		for k := range w {
			chosen = append(chosen, int32(ids[k]))
			w[k] = t.rng.Float32() + 0.1
			sum += w[k]
		}
		for k := range w {
			weight = append(weight, w[k]/sum)
		}
	}
	return chosen, weight
}

// batch runs T tokens through the experts and compares every number.
func (t *expertTest) batch(gu, dn *device.Experts, l *layerWeights, T, crowd int) {
	t.Helper()
	s, q := t.s, t.c.queue
	w := t.workspace(T)
	chosen, weight := t.choices(T, crowd)
	q.upload(w.chosen, bytesOf(chosen))
	q.upload(w.weight, bytesOf(weight))
	in, x := roundBF16(t.normal(T*s.Hidden, 1)), t.normal(T*s.Hidden, 1)
	tDev, xDev := t.bf16s(in), t.floats(x)
	t.e.group(q, T, w)
	t.e.gateUp(q, l, tDev, T, w)
	t.e.down(q, l, xDev, T, w)
	n := T * s.TopK
	place, h := t.getInts(w.place, n), t.getBF16s(w.h, n*s.Intermediate)
	got := t.getFloats(xDev, T*s.Hidden)
	want, bound := make([]float64, T*s.Hidden), make([]float64, T*s.Hidden)
	for i, v := range x {
		want[i], bound[i] = float64(v), 0x1p-20*math.Abs(float64(v))
	}
	for c, e := range chosen {
		if place[c] < 0 || int(place[c]) >= n {
			t.Fatalf("choice %d is at place %d of %d", c, place[c], n)
		}
		token, row := c/s.TopK, h[int(place[c])*s.Intermediate:][:s.Intermediate]
		t.checkGateUp(gu, int(e), in[token*s.Hidden:][:s.Hidden], row, 1, 0)
		y, b := t.downReference(dn, int(e), row)
		for i := range y {
			want[token*s.Hidden+i] += float64(weight[c]) * y[i]
			bound[token*s.Hidden+i] += float64(weight[c])*b[i] + 0x1p-21*math.Abs(y[i])
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	for i := range want {
		if !near(t, fmt.Sprintf("x[%d, %d]", i/s.Hidden, i%s.Hidden), got[i], want[i], bound[i]) {
			t.FailNow()
		}
	}
}

func roundBF16(v []float32) []float32 {
	for i, x := range v {
		v[i] = dtype.FromBF16(dtype.ToBF16(x))
	}
	return v
}

// layer loads both projections.
func (t *expertTest) layer(gu, dn *device.Experts) *layerWeights {
	t.Helper()
	l := &layerWeights{}
	for _, x := range []struct {
		to   *expertWeight
		w    *device.Experts
		down bool
	}{{&l.gateUp, gu, false}, {&l.down, dn, true}} {
		before := t.c.memory.taken[useWeights]
		want, err := t.e.bytes(x.w, x.down)
		if err != nil {
			t.Fatal(err)
		}
		if *x.to, err = t.e.load(t.u, x.w, x.down); err != nil {
			t.Fatal(err)
		}
		if got := t.c.memory.taken[useWeights] - before; got > want || t.c.memory.granule == 0 && want-got > 4*alignment {
			t.Errorf("loading took %d bytes, planned were %d", got, want)
		}
	}
	return l
}

// Every layout of a checkpoint gives the products of its own values, however many tokens there are.
func TestExpertLayouts(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for _, src := range sourcesHere() {
			t.Run(src.name, func(t *testing.T) {
				x := newExpertTest(t, c, expertShape(192, 128, 4, 2))
				gu, dn := x.weights(src, 4, 256, 192, true), x.weights(src, 4, 192, 128, false)
				l := x.layer(gu, dn)
				if l.gateUp.format != src.want || l.down.format != src.want {
					t.Errorf("formats %v and %v, want %v", l.gateUp.format.suffix(), l.down.format.suffix(), src.want.suffix())
				}
				x.batch(gu, dn, l, 3, 5)
				x.batch(gu, dn, l, 20, 5)
			})
		}
	})
}

// Sizes of items: few rows, up to 32, tiles of 128 with and without a rest; inputs that are no multiple of three chunks.
func TestExpertItems(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for _, e := range []struct {
			src                                 int
			hidden, intermediate, experts, topK int
			T, crowd                            int
		}{
			{0, 64, 64, 2, 1, 2, 0}, {0, 256, 64, 3, 3, 9, 0}, {0, 64, 192, 8, 4, 40, 10}, {0, 128, 128, 2, 2, 150, 0},
			{4, 64, 256, 33, 8, 12, 3}, {4, 128, 64, 4, 2, 70, 10}, {6, 128, 192, 2, 1, 170, 8},
			{3, 64, 128, 3, 2, 140, 5}, {12, 128, 64, 3, 2, 150, 5}, {14, 64, 64, 2, 2, 64, 5}, {10, 64, 128, 3, 2, 100, 9},
			{8, 192, 64, 200, 4, 64, 5},
		} {
			if testmodel.Race && e.T > 20 {
				continue
			}
			src := expertSources[e.src]
			t.Run(fmt.Sprintf("%s %d %d, %d of %d, %d tokens", src.name, e.hidden, e.intermediate, e.topK, e.experts, e.T), func(t *testing.T) {
				x := newExpertTest(t, c, expertShape(e.hidden, e.intermediate, e.experts, e.topK))
				gu, dn := x.weights(src, e.experts, 2*e.intermediate, e.hidden, true), x.weights(src, e.experts, e.hidden, e.intermediate, false)
				x.batch(gu, dn, x.layer(gu, dn), e.T, e.crowd)
			})
		}
	})
}
