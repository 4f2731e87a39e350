package cuda

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/testgpu"
)

// testPools are small: what a unit of 16 bytes was taken from can be looked up.
func testPools(seed uint64) *device.Pools {
	r := rand.New(rand.NewPCG(seed, 1))
	p := &device.Pools{Values: make([]byte, 1<<12)}
	v := make([]float32, 1<<11)
	for i := range v {
		v[i] = float32(r.NormFloat64() / 20)
	}
	dtype.EncodeBF16(p.Values, v)
	for range 1 << 10 {
		p.Codes = append(p.Codes, byte(r.Uint32()), byte(r.Uint32()))
		p.Exponents = append(p.Exponents, byte(118+r.IntN(3)))
		p.Nested = append(p.Nested, byte(100+r.IntN(60)))
		b := make([]byte, 4)
		bits := math.Float32bits(float32(0.02 + 0.02*r.Float64()))
		for i := range b {
			b[i] = byte(bits >> (8 * i))
		}
		p.Absmax = append(p.Absmax, b...)
	}
	return p
}

// madeLayer has outlines for large weights, of the experts' format.
func madeLayer(r randomModel, s *device.Spec, format string) *device.Layer {
	w := r.layer(s)
	for _, p := range []*dtype.Plane{&w.Q.Weight, &w.K.Weight, &w.V.Weight, &w.O.Weight} {
		p.Data = nil
		if format == "gguf" {
			p.Format = dtype.Q8_0
		}
	}
	for _, x := range []*device.Experts{&w.GateUp, &w.Down} {
		for e := range x.Weight.Even {
			p := &x.Weight.Even[e]
			*p = dtype.Plane{Format: dtype.NF4, Rows: p.Rows, Cols: p.Cols}
			switch format {
			case "mxfp4":
				p.Format = dtype.MXFP4
			case "gguf":
				p.Format = dtype.MXFP4GGML
			case "bf16":
				p.Format = dtype.BF16
			case "nf4":
				p.Quant = &dtype.Quant{Block: 64, Round: dtype.BF16}
			case "nf4-dq":
				p.Quant = &dtype.Quant{Block: 64, Round: dtype.BF16, Codes: []byte{}, Map: &dtype.NestedMap, NestedBlock: 256, Offset: 0.02}
			}
		}
	}
	return w
}

// Weights that are made up on the GPU consist of the pools' values, in every format, each part where the kernels look for
// it; steps on both paths give numbers.
func TestMadeUpWeights(t *testing.T) {
	for name, c := range parityContexts(t) {
		for _, format := range []string{"mxfp4", "nf4", "nf4-dq", "bf16", "gguf"} {
			t.Run(name+"/"+format, func(t *testing.T) { testMadeUp(t, c, format, format == "nf4") })
		}
	}
}

func testMadeUp(t *testing.T, c *context, format string, int8 bool) {
	spec, lim, _ := layersShape(false)
	spec.Vocab = 512
	into, back := testPools(1), testPools(2)
	x, err := (&Device{c: c, options: Options{Int8Dense: int8}}).NewMadeSession(spec, lim, into, back)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}()
	s := x.(*session)
	r := randomModel{rand.New(rand.NewPCG(7, 8))}
	if err := s.LoadEmbedding(r.dense(spec.Vocab, spec.Hidden)); err != nil {
		t.Fatal(err)
	}
	for l := range spec.Layers {
		if err := s.LoadLayer(l, madeLayer(r, &spec, format)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.LoadHead(r.floats(spec.Hidden, 1), dtype.Plane{Format: dtype.BF16, Rows: spec.Vocab, Cols: spec.Hidden}); err != nil {
		t.Fatal(err)
	}
	if n := c.memory.taken[useStaging]; n != 0 {
		t.Errorf("%d bytes of pools are still there", n)
	}
	checkMade(t, s, into, back, format)
	madeSteps(t, s, &spec)
}

// checkMade finds every unit of the weights in its pool.
func checkMade(t *testing.T, s *session, into, back *device.Pools, format string) {
	t.Helper()
	units := func(b []byte) map[string]bool {
		set := map[string]bool{}
		for ; len(b) > 0; b = b[unitBytes:] {
			set[string(b[:unitBytes])] = true
		}
		return set
	}
	get := func(p devptr, n int64) []byte {
		b := make([]byte, n)
		s.c.queue.download(b, p)
		if err := s.c.queue.sync(); err != nil {
			t.Fatal(err)
		}
		return b
	}
	w := &s.layers[1]
	if w.o.format == denseQ8 {
		if scales := get(w.o.scales, denseQ8.scaleBytes(w.o.rows*w.o.cols)); len(units(scales)) < 8 {
			t.Errorf("only %d different scales", len(units(scales)))
		}
	} else if all := get(w.o.data, 2*int64(w.o.rows*w.o.cols)); !subset(units(all), units(back.Values)) || len(units(all)) < 100 {
		t.Error("Wo is not made of the values that add to the residual stream")
	}
	for i, x := range []*expertWeight{&w.gateUp, &w.down} {
		p := []*device.Pools{into, back}[i]
		n, codes := x.format.chunkBytes(), 512
		source, scales := units(p.Codes), map[string]map[string]bool{"mxfp4": units(p.Exponents), "gguf": units(p.Exponents), "nf4": units(p.Absmax), "nf4-dq": units(p.Nested)}[format]
		if format == "bf16" {
			codes, source = n, units(p.Values)
		}
		chunks := x.experts * (x.rows / 16) * (x.cols / 64)
		data := get(x.data, int64(chunks*n))
		if x.format == expertNested { // scales apart: as if they were not
			apart, behind := data, get(x.scaleCodes(0, 0), int64(chunks*scaleCodeBytes))
			data = nil
			for i := range chunks {
				data = append(append(data, apart[i*codes:][:codes]...), behind[i*scaleCodeBytes:][:scaleCodeBytes]...)
			}
		}
		seen := map[string]bool{}
		for ; len(data) > 0; data = data[n:] {
			if !subset(units(data[:codes]), source) || !subset(units(data[codes:n]), scales) {
				t.Fatalf("projection %d has a chunk that is not of its pools", i)
			}
			seen[string(data[:n])] = true
		}
		if len(seen) < chunks {
			t.Errorf("projection %d has equal chunks", i)
		}
	}
}

func subset(a, b map[string]bool) bool {
	for k := range a {
		if !b[k] {
			return false
		}
	}
	return true
}

func madeSteps(t *testing.T, s *session, spec *device.Spec) {
	t.Helper()
	table := make([]int32, 20)
	for i := range table {
		table[i] = int32(i)
	}
	at := 0
	for _, n := range []int{1, 1, 9} {
		b := &device.Batch{Seqs: []device.Seq{{Count: n, Full: table, Window: table}}, Logits: []device.LogitRow{{Row: n - 1, Target: -1, Top: 3, Sample: &device.Sampling{}}}}
		for range n {
			b.Tokens, b.Positions = append(b.Tokens, int32(31*at)), append(b.Positions, int32(at))
			at++
		}
		out := make([]device.Output, 1)
		step(t, s, spec, b, out)
		if o := out[0]; o.Err != nil || !(o.LogProb < 0) || o.Top[0].LogProb < o.Top[2].LogProb {
			t.Errorf("%d tokens: %+v", n, o)
		}
	}
}

// An outline is refused where nothing makes it up, and pools that are none are.
func TestOutlinesAreRefused(t *testing.T) {
	_, c := simContext(t, testgpu.Config{SMs: 6})
	spec, lim, _ := layersShape(false)
	r := randomModel{rand.New(rand.NewPCG(7, 8))}
	for _, dense := range []bool{false, true} {
		s, err := (&Device{c: c}).NewSession(spec, lim)
		if err != nil {
			t.Fatal(err)
		}
		w, want := madeLayer(r, &spec, "mxfp4"), "has 0 bytes of data"
		if !dense {
			w = r.layer(&spec)
			w.Down = madeLayer(r, &spec, "mxfp4").Down
			want = "expert weights have a shape and no content"
		}
		if err := s.LoadLayer(0, w); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	bad := testPools(1)
	bad.Codes = bad.Codes[:48]
	if _, err := (&Device{c: c}).NewMadeSession(spec, lim, testPools(1), bad); err == nil || !strings.Contains(err.Error(), "a pool of 48 bytes") {
		t.Errorf("error %v", err)
	}
}
