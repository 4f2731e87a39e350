package cuda

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/testgpu"
)

// attendTest is a session's worth of attention with random data.
type attendTest struct {
	*denseTest
	a *attendOps
}

// attendSizes are the sizes that matter to attention.
type attendSizes struct {
	heads, kvHeads    int
	pageSize, blocks  int // blocks: of a sequence's table
	tokens, sequences int
	sms               int // 0: 82
	int8              bool
}

func newAttendTest(t *testing.T, c *context, z attendSizes) *attendTest {
	t.Helper()
	spec := device.Spec{
		Layers: 1, Hidden: 64, Intermediate: 64, Heads: z.heads, KVHeads: z.kvHeads, HeadDim: headDim, Experts: 5, TopK: 1, Vocab: 1,
		Windows: []int{0}, InvFreq: make([]float32, headDim/2), RopeScale: 1.3465736,
	}
	for i := range spec.InvFreq {
		spec.InvFreq[i] = float32(math.Pow(150000, -float64(i)/32))
	}
	limits := device.Limits{MaxTokens: max(z.tokens, 1), MaxSeqs: max(z.sequences, 1), MaxLogits: 1, PageSize: z.pageSize, FullPages: z.blocks, WindowPages: z.blocks}
	s, err := newShape(spec, limits, cmp.Or(z.sms, 82))
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAttend(c, s, z.int8)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	d := &denseTest{T: t, c: c, s: s, rng: rand.New(rand.NewPCG(uint64(z.heads), uint64(z.blocks)))}
	return &attendTest{denseTest: d, a: a}
}

// testCache is a cache on the device with a copy of it here. What no query may see is NaN, or no page at all.
type testCache struct {
	kv             kvLayer
	tables         [][]int32
	image          [4][]byte // k, v, kScale, vScale
	at             [4]devptr
	keys, values   []float32 // by row, as decoded
	pageSize, wide int       // wide: KV heads
}

// visible is a range of positions of a sequence.
type visible struct{ first, end int }

// cache makes a cache in which the given positions of each sequence are filled. Pages are drawn at random; where only so
// many are given (0: enough), all but a sequence's last are used again and again.
func (t *attendTest) cache(window, pages int, seqs []visible) *testCache {
	t.Helper()
	s := t.s
	c := &testCache{pageSize: s.PageSize, wide: s.KVHeads}
	var free []int
	if pages == 0 {
		pages = len(seqs)*s.maxBlocks + 1
		free = t.rng.Perm(pages)
	}
	rows := pages * s.KVHeads * s.PageSize
	c.keys, c.values = make([]float32, rows*headDim), make([]float32, rows*headDim)
	for i, bytes := range []int{2 * headDim, 2 * headDim, 0, 0} {
		if t.a.int8 {
			bytes = []int{headDim, headDim, 4, 4}[i]
		}
		c.image[i] = slices.Repeat([]byte{0xff}, rows*bytes)
	}
	flat := slices.Repeat([]int32{1 << 25}, s.MaxSeqs*s.maxBlocks) // a page far outside
	for q, v := range seqs {
		table := flat[q*s.maxBlocks : (q+1)*s.maxBlocks]
		for b := range (v.end + s.PageSize - 1) / s.PageSize {
			switch {
			case (b+1)*s.PageSize <= v.first:
				table[b] = -1
			case free != nil:
				table[b], free = int32(free[0]), free[1:]
			case (b+1)*s.PageSize >= v.end: // may be written to
				table[b] = int32(pages - 1 - q)
			default:
				table[b] = int32((b*7 + q) % (pages - len(seqs)))
			}
		}
		c.tables = append(c.tables, table)
		for p := v.first; p < v.end; p++ {
			for h := range s.KVHeads {
				if r := c.row(q, p, h); c.keys[r*headDim] == 0 {
					t.fill(c, r)
				}
			}
		}
	}
	for i, to := range []*devptr{&c.kv.k, &c.kv.v, &c.kv.kScale, &c.kv.vScale} {
		if len(c.image[i]) > 0 {
			*to = t.put(c.image[i])
			c.at[i] = *to
		}
	}
	c.kv.table, c.kv.window = t.ints(flat), window
	return c
}

func (c *testCache) row(seq, position, head int) int {
	page := int(c.tables[seq][position/c.pageSize])
	return (page*c.wide+head)*c.pageSize + position%c.pageSize
}

// fill draws a row's key and value.
func (t *attendTest) fill(c *testCache, row int) {
	for i, to := range [][]float32{c.keys, c.values} {
		v := to[row*headDim : (row+1)*headDim]
		for d := range v {
			v[d] = float32(t.rng.NormFloat64() * []float64{1.5, 1}[i])
		}
		t.encode(c, i, row, v)
	}
}

// encode puts v into the image of keys (0) or values (1), and what it decodes to back into v.
func (t *attendTest) encode(c *testCache, which, row int, v []float32) {
	if !t.a.int8 {
		dtype.EncodeBF16(c.image[which][row*2*headDim:], v)
		copy(v, decodeVector(t, dtype.BF16, c.image[which][row*2*headDim:(row+1)*2*headDim]))
		return
	}
	codes, scale := int8Row(v)
	binary.LittleEndian.PutUint32(c.image[2+which][4*row:], math.Float32bits(scale))
	for d, q := range codes {
		c.image[which][row*headDim+d] = byte(q)
		v[d] = float32(q) * scale
	}
}

func int8Row(v []float32) (codes [headDim]int8, scale float32) {
	var most float32
	for _, x := range v {
		most = max(most, float32(math.Abs(float64(x))))
	}
	if most > 0 {
		for d, x := range v {
			codes[d] = int8(math.RoundToEven(float64(x * (127 / most))))
		}
	}
	return codes, most / 127
}

// attention is the reference: one head's query at a position.
func (t *attendTest) attention(c *testCache, seq, position, head int, query []float32, sink float32) []sum {
	first := 0
	if c.kv.window > 0 {
		first = max(0, position-c.kv.window+1)
	}
	kvHead := head / t.s.group
	weights, most := make([]float64, position+1), float64(sink)
	for p := first; p <= position; p++ {
		k := c.keys[c.row(seq, p, kvHead)*headDim:][:headDim]
		for d, x := range query {
			weights[p] += float64(x) * float64(k[d]) / 8
		}
		most = max(most, weights[p])
	}
	total := math.Exp(float64(sink) - most)
	for p := first; p <= position; p++ {
		weights[p] = math.Exp(weights[p] - most)
		total += weights[p]
	}
	out := make([]sum, headDim)
	for p := first; p <= position; p++ {
		v := c.values[c.row(seq, p, kvHead)*headDim:][:headDim]
		for d := range out {
			out[d].add(weights[p] / total * float64(v[d]))
		}
	}
	return out
}

// unchanged compares the cache with its copy, except in the given rows.
func (t *attendTest) unchanged(what string, c *testCache, except ...int) {
	t.Helper()
	rows := len(c.keys) / headDim
	for i, image := range c.image {
		if len(image) == 0 {
			continue
		}
		got, width := t.get(c.at[i], len(image)), len(image)/rows
		for r := range rows {
			if !slices.Equal(got[r*width:(r+1)*width], image[r*width:(r+1)*width]) && !slices.Contains(except, r) {
				t.Fatalf("%s: row %d of the cache's part %d has changed", what, r, i)
			}
		}
	}
}

// stored checks that a row of the cache holds key and value, up to one step of rounding, and takes it over.
func (t *attendTest) stored(what string, c *testCache, row int, key, value []float64) {
	t.Helper()
	for i, want := range [][]float64{key, value} {
		width := len(c.image[i]) / (len(c.keys) / headDim)
		got := t.get(c.at[i]+devptr(row*width), width)
		v := [][]float32{c.keys, c.values}[i][row*headDim:][:headDim]
		step := func(x float64) float64 { return math.Abs(x)*0x1p-8 + 1e-30 }
		if t.a.int8 {
			most, scale := 0.0, t.getFloats(c.at[2+i]+devptr(4*row), 1)[0]
			for d, x := range want {
				most = max(most, math.Abs(x))
				v[d] = float32(int8(got[d])) * scale
			}
			step = func(float64) float64 { return most / 127 * 0.50001 }
			if math.Abs(float64(scale)-most/127) > most*0x1p-22 {
				t.Errorf("%s: scale %v, want %v", what, scale, most/127)
			}
		} else {
			copy(v, decodeVector(t, dtype.BF16, got))
		}
		for d, x := range want {
			if !(math.Abs(float64(v[d])-x) <= step(x)) {
				t.Errorf("%s: part %d, dim %d: %v, want %v", what, i, d, v[d], x)
			}
		}
	}
}

// angles are cosines and sines as the reference has them.
func (t *attendTest) angles(position int32) (cos, sin []float32) {
	for _, f := range t.s.InvFreq {
		angle := float64(float32(position) * f)
		cos = append(cos, float32(math.Cos(angle))*t.s.RopeScale)
		sin = append(sin, float32(math.Sin(angle))*t.s.RopeScale)
	}
	return cos, sin
}

func (t *attendTest) rotated(v []float32, position int32) []float64 {
	cos, sin := t.angles(position)
	out := make([]float64, headDim)
	for i := range cos {
		a, b, c, s := float64(v[i]), float64(v[32+i]), float64(cos[i]), float64(sin[i])
		out[i], out[32+i] = a*c-b*s, b*c+a*s
	}
	return out
}

func TestRopeTable(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		positions := []int32{0, 1, 2, 100, 4095, 4096, 65535, 131071}
		a := newAttendTest(t, c, attendSizes{heads: 1, kvHeads: 1, pageSize: 16, blocks: 1, tokens: 400})
		for len(positions) < 333 {
			positions = append(positions, a.rng.Int32N(131072))
		}
		st := stepBuffers{positions: a.ints(positions), rope: a.room(400 * 4 * headDim)}
		a.a.ropeTable(c.queue, &st, len(positions))
		got, differ := a.getFloats(st.rope, 400*headDim), 0
		for i, p := range positions {
			cos, sin := a.angles(p)
			for d, want := range append(cos, sin...) {
				switch v := got[i*headDim+d]; {
				case math.Abs(float64(v-want)) > 0x1p-23*math.Abs(float64(want)):
					t.Errorf("position %d, value %d: %v, want %v", p, d, v, want)
				case v != want:
					differ++
				}
			}
		}
		if differ > 2 { // where the last bit of float64 decides
			t.Errorf("%d of %d values are not the reference's", differ, headDim*len(positions))
		}
		for _, v := range got[headDim*len(positions):] {
			if v == v {
				t.Fatal("it writes past the last token")
			}
		}
	})
}

func TestRopeKV(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for i, z := range []attendSizes{
			{heads: 1, kvHeads: 1, pageSize: 16, blocks: 4}, {heads: 8, kvHeads: 1, pageSize: 48, blocks: 3, int8: true},
			{heads: 6, kvHeads: 3, pageSize: 16, blocks: 7, int8: true}, {heads: 10, kvHeads: 5, pageSize: 32, blocks: 3},
		} {
			z.tokens, z.sequences = 9, 3
			newAttendTest(t, c, z).ropeKVCase(fmt.Sprintf("%+v", z), i+1)
		}
	})
}

func (t *attendTest) ropeKVCase(name string, split int) {
	t.Helper()
	s, T := t.s, 9
	last := int32(s.maxBlocks * s.PageSize)
	seqOf := []int32{2, 0, 0, 0, 1, 1, 1, 1, 1}
	positions := []int32{last - 1, 0, 1, 2, 14, 15, 16, 17, 18}
	cache := t.cache(0, 0, []visible{{3, 3}, {19, 19}, {int(last), int(last)}})
	for i := range cache.tables { // no position is filled yet
		for b := range cache.tables[i] {
			cache.tables[i][b] = int32(i*s.maxBlocks + b)
		}
	}
	cache.kv.table = t.ints(slices.Concat(cache.tables...))
	planes, bias := t.normal(split*T*s.qkvRows, 1), t.normal(s.qkvRows, 1)
	zero := s.Heads * headDim // the first token's first key
	for d := range headDim {
		bias[zero+d] = 0
		for k := range split {
			planes[k*T*s.qkvRows+zero+d] = 0
		}
	}
	st := stepBuffers{positions: t.ints(positions), seqOf: t.ints(seqOf), rope: t.room(T * 4 * headDim)}
	t.a.ropeTable(t.c.queue, &st, T)
	out := t.room((T + 1) * s.Heads * 2 * headDim)
	t.a.ropeKV(t.c.queue, &st, T, t.floats(planes), split, t.floats(bias), &cache.kv, out)
	q := decodeVector(t, dtype.BF16, t.get(out, (T+1)*s.Heads*2*headDim))
	var written []int
	for i := range T {
		row := func(head int) []float32 {
			v := slices.Clone(bias[head*headDim:][:headDim])
			for k := range split {
				for d, x := range planes[(k*T+i)*s.qkvRows+head*headDim:][:headDim] {
					v[d] += x
				}
			}
			return v
		}
		for h := range s.Heads {
			var want []sum
			for _, v := range t.rotated(row(h), positions[i]) {
				want = append(want, sum{v, math.Abs(v) + 1e-4})
			}
			t.near(fmt.Sprintf("%s: token %d head %d", name, i, h), q[(i*s.Heads+h)*headDim:][:headDim], want, 8)
		}
		for h := range s.KVHeads {
			r := cache.row(int(seqOf[i]), int(positions[i]), h)
			written = append(written, r)
			var value []float64
			for _, v := range row(s.Heads + s.KVHeads + h) {
				value = append(value, float64(v))
			}
			t.stored(fmt.Sprintf("%s: token %d KV head %d", name, i, h), cache, r, t.rotated(row(s.Heads+h), positions[i]), value)
		}
	}
	for _, v := range q[T*s.Heads*headDim:] {
		if v == v {
			t.Fatalf("%s: it writes past the last token", name)
		}
	}
	t.unchanged(name, cache, written...)
}

// A NaN in a row stays visible in an int8 cache, and an infinity becomes one.
func TestInt8CacheKeepsNaN(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	a := newAttendTest(t, c, attendSizes{heads: 1, kvHeads: 1, pageSize: 16, blocks: 1, tokens: 2, sequences: 1, int8: true})
	cache := a.cache(0, 0, []visible{{2, 2}})
	planes := a.normal(2*a.s.qkvRows, 1)
	planes[headDim+40] = float32(math.NaN())
	planes[a.s.qkvRows+2*headDim+7] = float32(math.Inf(1))
	st := stepBuffers{positions: a.ints([]int32{0, 1}), seqOf: a.ints([]int32{0, 0}), rope: a.room(2 * 4 * headDim)}
	a.a.ropeTable(c.queue, &st, 2)
	a.a.ropeKV(c.queue, &st, 2, a.floats(planes), 1, a.floats(make([]float32, a.s.qkvRows)), &cache.kv, a.room(2*2*headDim))
	for p, part := range []devptr{cache.kv.kScale, cache.kv.vScale} {
		r := cache.row(0, p, 0)
		scale := float64(a.getFloats(part, r+1)[r])
		if p == 0 && !math.IsNaN(scale) || p == 1 && !math.IsInf(scale, 1) {
			t.Errorf("scale %d is %v", p, scale)
		}
	}
}
