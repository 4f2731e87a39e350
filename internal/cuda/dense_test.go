package cuda

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/testgpu"
	"hearth/internal/testmodel"
)

// denseTest is a session's worth of dense operations with random data.
type denseTest struct {
	*testing.T
	c   *context
	s   *shape
	d   *denseOps
	u   *uploader
	rng *rand.Rand
}

func newDenseTest(t *testing.T, c *context, s shape) *denseTest {
	t.Helper()
	s.Eps = 1e-5
	d, err := newDense(c, &s)
	if err != nil {
		t.Fatal(err)
	}
	u, err := newUploader(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.close()
		if err := u.close(); err != nil {
			t.Error(err)
		}
	})
	return &denseTest{T: t, c: c, s: &s, d: d, u: u, rng: rand.New(rand.NewPCG(1, uint64(s.Hidden)))}
}

// room is n bytes of the device's memory that hold NaNs.
func (t *denseTest) room(n int) devptr {
	t.Helper()
	b, err := t.c.alloc(int64(n), useActivation)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { t.c.free(b) })
	t.c.queue.set(b.ptr, 0xff, int64(n))
	return b.ptr
}

func (t *denseTest) put(b []byte) devptr {
	t.Helper()
	p := t.room(len(b))
	t.c.queue.upload(p, b)
	return p
}

func (t *denseTest) floats(v []float32) devptr {
	t.Helper()
	b := make([]byte, 4*len(v))
	dtype.EncodeF32(b, v)
	return t.put(b)
}

func (t *denseTest) ints(v []int32) devptr {
	t.Helper()
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		t.Fatal(err)
	}
	return t.put(b)
}

func (t *denseTest) get(p devptr, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	t.c.queue.download(b, p)
	if err := t.c.queue.sync(); err != nil {
		t.Fatal(err)
	}
	return b
}

func (t *denseTest) getFloats(p devptr, n int) []float32 {
	t.Helper()
	v, err := dtype.DecodeVector(dtype.F32, t.get(p, 4*n))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (t *denseTest) normal(n int, scale float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(t.rng.NormFloat64() * scale)
	}
	return v
}

// plane is a random weight as a checkpoint holds it.
func (t *denseTest) plane(f dtype.Format, rows, cols int) dtype.Plane {
	p := dtype.Plane{Format: f, Rows: rows, Cols: cols, Data: make([]byte, rows*cols/f.BlockElems()*f.BlockBytes())}
	v := t.normal(rows*cols, 0.05)
	switch f {
	case dtype.BF16:
		dtype.EncodeBF16(p.Data, v)
	case dtype.F16: // some are subnormal, some large
		for i := range v {
			v[i] *= []float32{1, 1, 1, 1e-4, 1e3}[t.rng.IntN(5)]
		}
		dtype.EncodeF16(p.Data, v)
	case dtype.F32:
		dtype.EncodeF32(p.Data, v)
	case dtype.Q8_0: // every code, also -128
		for i := range p.Data {
			p.Data[i] = byte(t.rng.Uint32())
		}
		for i := 0; i < len(p.Data); i += 34 {
			binary.LittleEndian.PutUint16(p.Data[i:], dtype.ToF16(float32(math.Ldexp(1+t.rng.Float64(), -t.rng.IntN(12)-5))))
		}
	}
	return p
}

// weight is a random weight on the device, and its values.
func (t *denseTest) weight(f dtype.Format, rows, cols int, bias []float32) (denseWeight, []float32) {
	t.Helper()
	p := t.plane(f, rows, cols)
	w, note, err := t.d.load(t.u, []dtype.Plane{p}, [][]float32{bias}, denseOptions{})
	if err != nil || note != "" {
		t.Fatalf("%v: note %q, error %v", f, note, err)
	}
	if err := t.u.flush(); err != nil {
		t.Fatal(err)
	}
	v := make([]float32, rows*cols)
	p.DecodeRows(v, 0, rows)
	return w, v
}

// sum is a number with the sum of the magnitudes that went into it, for its tolerance.
type sum struct{ v, size float64 }

func (s *sum) add(v float64) { s.v += v; s.size += math.Abs(v) }

func dot(w, x []float32) (s sum) {
	for i := range w {
		s.add(float64(w[i]) * float64(x[i]))
	}
	return s
}

// near compares with tolerance 2^-bits of what was summed.
func (t *denseTest) near(what string, got []float32, want []sum, bits float64) {
	t.Helper()
	bad := 0
	for i, g := range got {
		if d := math.Abs(float64(g) - want[i].v); d > want[i].size*math.Exp2(-bits) || math.IsNaN(float64(g)) {
			if bad++; bad < 4 {
				t.Errorf("%s [%d] = %v, want %v, off by %.3g of %.3g", what, i, g, want[i].v, d, want[i].size)
			}
		}
	}
	if bad >= 4 {
		t.Errorf("%s: %d of %d wrong", what, bad, len(got))
	}
}

// residual adds planes to x, in float64 as nothing else is rounded.
func residual(x, planes []float32, nplanes int) []float64 {
	r := make([]float64, len(x))
	for i := range x {
		r[i] = float64(x[i])
		for k := range nplanes {
			r[i] += float64(planes[k*len(x)+i])
		}
	}
	return r
}

func normed(r []float64, g []float32) []float64 {
	s := 0.0
	for _, v := range r {
		s += v * v
	}
	t := make([]float64, len(r))
	for i, v := range r {
		t[i] = v / math.Sqrt(s/float64(len(r))+1e-5) * float64(g[i])
	}
	return t
}

// denseFormatsOnDisk lists what kernels exist for; under the race detector, where the interpreter takes twenty times as
// long, only one of them.
func denseFormatsOnDisk() []dtype.Format {
	if testmodel.Race {
		return []dtype.Format{dtype.Q8_0}
	}
	return []dtype.Format{dtype.BF16, dtype.F16, dtype.Q8_0}
}

// TestDenseNormRow covers every row kernel: the widths need 1 to 17 chunks a lane of BF16.
func TestDenseNormRow(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for i, cols := range []int{64, 192, 320, 576, 960, 1344, 1856, 2880, 3136, 4096, 4160} {
			d := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: cols, Heads: 1}, sms: []int{3, 1, 50}[i%3]})
			for _, f := range denseFormatsOnDisk() {
				rows, nplanes := 29+i, i%2*2
				if i%2 == 0 {
					d.normRowCase(fmt.Sprintf("%v %dx%d", f, rows, cols), f, rows, nplanes, d.normal(rows, 1))
				} else {
					d.normRowCase(fmt.Sprintf("%v %dx%d, no bias", f, rows, cols), f, rows, nplanes, nil)
				}
			}
		}
	})
}

// TestDenseRowLimits runs the largest sizes: 16,384 inputs, and more rows than one block can hold biases for.
func TestDenseRowLimits(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		d := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: maxDenseCols, Heads: 1}, sms: 1})
		narrow := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: 64, Heads: maxDenseCols / headDim, Experts: 256}, sms: 1})
		for _, f := range denseFormatsOnDisk() {
			d.normRowCase(fmt.Sprintf("%v wide", f), f, 3, 2, nil)
			narrow.normRowCase(fmt.Sprintf("%v long", f), f, 530, 0, narrow.normal(530, 1))
			narrow.outRowCase(fmt.Sprintf("%v output", f), f, 2)
		}
	})
}

func (t *denseTest) normRowCase(name string, f dtype.Format, rows, nplanes int, bias []float32) {
	t.Helper()
	cols := t.s.Hidden
	w, values := t.weight(f, rows, cols, bias)
	x, planes, g := t.normal(cols, 2), t.normal(2*cols, 1), t.normal(cols, 1)
	out := t.room(4 * rows)
	norm, px, pp := t.floats(g), t.floats(x), t.floats(planes)
	if nplanes == 0 {
		pp = 0
	}
	if bias == nil {
		t.d.headRow(t.c.queue, norm, &w, px, pp, nplanes, out)
	} else {
		t.d.qkvRow(t.c.queue, &layerWeights{attnNorm: norm, qkv: w}, px, pp, nplanes, out)
	}
	v := normed(residual(x, planes, nplanes), g)
	want := make([]sum, rows)
	for r := range want {
		for i, x := range v {
			want[r].add(float64(values[r*cols+i]) * x)
		}
		if bias != nil {
			want[r].add(float64(bias[r]))
		}
	}
	// Rounding of 2^-24 a step, in chains of up to 60 steps.
	t.near(name, t.getFloats(out, rows), want, 20)
}

func TestDenseOutRow(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for i, k := range []struct{ heads, hidden, experts, sms int }{
			{1, 64, 4, 3}, {3, 192, 5, 7}, {5, 64, 32, 2}, {9, 128, 33, 9}, {15, 64, 128, 1}, {21, 64, 256, 4},
			{2, 320, 200, 1}, {29, 128, 32, 5}, {45, 64, 1, 3}, {64, 192, 32, 20}, {65, 64, 3, 8},
		} {
			d := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: k.hidden, Heads: k.heads, Experts: k.experts}, sms: k.sms})
			for _, f := range denseFormatsOnDisk() {
				d.outRowCase(fmt.Sprintf("%v %+v", f, k), f, i%2*2)
			}
		}
	})
}

func (t *denseTest) outRowCase(name string, f dtype.Format, nplanes int) {
	t.Helper()
	rows, cols, experts := t.s.Hidden, t.s.Heads*headDim, t.s.Experts
	bias := t.normal(rows, 1)
	w, values := t.weight(f, rows, cols, bias)
	a, x, planes, norm, router := t.normal(cols, 1), t.normal(rows, 3), t.normal(2*rows, 1), t.normal(rows, 1), t.normal(rows*experts, 1)
	l := &layerWeights{o: w, mlpNorm: t.floats(norm), router: t.floats(router)}
	out, acc := t.room(4*rows), t.room(8*(experts+1))
	t.c.queue.zero(acc, int64(8*(experts+1)))
	t.d.outRow(t.c.queue, l, t.floats(a), t.floats(x), t.floats(planes), nplanes, out, acc)

	want, logits, square := make([]sum, rows), make([]sum, experts+1), sum{}
	r := residual(x, planes, nplanes)
	for i := range want {
		want[i] = dot(values[i*cols:(i+1)*cols], a)
		want[i].add(r[i])
		want[i].add(float64(bias[i]))
		for e := range experts {
			v := float64(norm[i]) * float64(router[i*experts+e])
			logits[e].v += want[i].v * v
			logits[e].size += want[i].size * math.Abs(v)
		}
		square.v += want[i].v * want[i].v
		square.size += want[i].size * want[i].size
	}
	logits[experts] = square
	t.near(name+" residual", t.getFloats(out, rows), want, 20)
	got := make([]float32, experts+1)
	for e, raw := 0, t.get(acc, 8*(experts+1)); e <= experts; e++ {
		scale := 0x1p24
		if e == experts {
			scale = 0x1p16
		}
		got[e] = float32(float64(int64(binary.LittleEndian.Uint64(raw[8*e:]))) / scale)
		logits[e].size += float64(t.s.sms + rows) // half a unit a block: far below 2^-19 of this
	}
	t.near(name+" router", got, logits, 19)
}

func TestDenseNorm(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for _, cols := range []int{64, 192, 2880, 4160} {
			d := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: cols, Heads: 1}, sms: 82})
			x, g := d.normal(3*cols, 2), d.normal(cols, 1)
			rows := []int32{2, 0}
			px, pg := d.floats(x), d.floats(g)
			for name, n := range map[string]int{"all": 3, "listed": 2} {
				out, list := d.room(2*n*cols), devptr(0)
				if name == "listed" {
					list = d.ints(rows)
					d.d.gatherNorm(c.queue, pg, px, list, out, n)
				} else {
					d.d.norm(c.queue, pg, px, out, n)
				}
				got, err := dtype.DecodeVector(dtype.BF16, d.get(out, 2*n*cols))
				if err != nil {
					t.Fatal(err)
				}
				for r := range n {
					from := r
					if list != 0 {
						from = int(rows[r])
					}
					want := make([]sum, cols)
					for i, v := range normed(residual(x[from*cols:(from+1)*cols], nil, 0), g) {
						want[i] = sum{v, math.Abs(v)}
					}
					d.near(fmt.Sprintf("%s, %d, row %d", name, cols, r), got[r*cols:(r+1)*cols], want, 7.99) // rounded once to 8 bits
				}
			}
		}
	})
}

// bf16s gives random BF16 activations and their bytes.
func (t *denseTest) bf16s(n int) ([]float32, []byte) {
	b := make([]byte, 2*n)
	dtype.EncodeBF16(b, t.normal(n, 1))
	v, err := dtype.DecodeVector(dtype.BF16, b)
	if err != nil {
		t.Fatal(err)
	}
	return v, b
}

// TestDenseGemm runs every variant on ragged sizes, with every way to split.
func TestDenseGemm(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		d := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: 64, Heads: 1}, sms: 82})
		for _, f := range denseFormatsOnDisk() {
			for _, k := range []struct{ tile, T, rows, cols, steps int }{
				{0, 2, 33, 64, 1}, {0, 16, 64, 576, 3}, {0, 17, 45, 640, 10}, {1, 18, 31, 192, 1}, {1, 40, 100, 448, 4},
				{2, 33, 65, 320, 2}, {2, 64, 64, 192, 3}, {2, 70, 130, 64, 1}, {3, 65, 97, 128, 1}, {3, 130, 40, 320, 3},
				{4, 129, 131, 192, 2}, {4, 100, 128, 64, 1}, {4, 128, 256, 320, 5},
			} {
				d.gemmCase(fmt.Sprintf("%v %+v", f, k), f, k.T, k.rows, k.cols, gemmPlan{k.tile, (k.cols/64 + k.steps - 1) / k.steps, k.steps})
			}
		}
	})
}

// gemmCase runs a product as planned, or as the operation plans where steps is 0.
func (t *denseTest) gemmCase(name string, f dtype.Format, T, rows, cols int, plan gemmPlan) {
	t.Helper()
	w, values := t.weight(f, rows, cols, nil)
	a, raw := t.bf16s(T * cols)
	out := t.room(4 * int(t.d.planeFloats(T)) * ((rows + 63) / 64))
	if plan.steps > 0 {
		t.d.runGemm(t.c.queue, plan, t.put(raw), T, &w, out)
	} else {
		plan.split = t.d.gemm(t.c.queue, t.put(raw), T, &w, out)
	}
	planes := t.getFloats(out, plan.split*T*rows)
	got, want := make([]float32, T*rows), make([]sum, T*rows)
	for i := range got {
		for s := range plan.split {
			got[i] += planes[s*T*rows+i]
		}
		want[i] = dot(values[i%rows*cols:][:cols], a[i/rows*cols:][:cols])
	}
	// A tensor core may cut off where it aligns products: a few 2^-23 of the largest in each of cols/16 steps.
	t.near(name, got, want, 18)
}

func TestDenseGemmPlanned(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		d := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: 192, Heads: 1}, sms: 82})
		for _, T := range []int{2, 7, 16, 31, 40, 130} {
			for _, f := range denseFormatsOnDisk() {
				d.gemmCase(fmt.Sprintf("%v T=%d", f, T), f, T, 192, 320, gemmPlan{})
			}
		}
	})
}

// TestDenseShuffled changes the order of blocks and warps: nothing may depend on it.
func TestDenseShuffled(t *testing.T) {
	for seed := range uint64(2) {
		_, c := simContext(t, testgpu.Config{Shuffle: seed + 1})
		d := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: 192, Heads: 5, Experts: 32}, sms: 6})
		for _, f := range denseFormatsOnDisk() {
			d.normRowCase(fmt.Sprintf("%v norm", f), f, 61, 2, nil)
			d.outRowCase(fmt.Sprintf("%v out", f), f, 2)
			d.gemmCase(fmt.Sprintf("%v gemm", f), f, 20, 70, 320, gemmPlan{1, 2, 3})
		}
	}
}

// TestDenseHeadRows also checks an odd vocabulary and that rows are gathered.
func TestDenseHeadRows(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		const hidden, vocab = 192, 131
		d := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: hidden, Heads: 1}, sms: 82})
		x, g := d.normal(5*hidden, 2), d.normal(hidden, 1)
		px, pg := d.floats(x), d.floats(g)
		for _, f := range denseFormatsOnDisk() {
			w, values := d.weight(f, vocab, hidden, nil)
			for _, rows := range [][]int32{{4}, {0, 2, 3}} {
				R := len(rows)
				tmp, logits := d.room(2*R*hidden), d.room(4*R*vocab)
				d.d.headRows(c.queue, pg, &w, px, &stepBuffers{logitRows: d.ints(rows)}, R, tmp, logits)
				want := make([]sum, R*vocab)
				for r, from := range rows {
					v := normed(residual(x[int(from)*hidden:][:hidden], nil, 0), g)
					for n := range vocab {
						s := &want[r*vocab+n]
						for i := range v {
							s.add(float64(values[n*hidden+i]) * v[i])
						}
					}
				}
				// Activations are rounded to BF16: 2^-8 each at most.
				d.near(fmt.Sprintf("%v, %d rows", f, R), d.getFloats(logits, R*vocab), want, 8)
			}
		}
	})
}
