package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"hearth/internal/dtype"
)

// selfTest runs every kernel once on a small input and compares it with the portable one. It is what decides whether a
// processor may use a level; the package's tests run the same comparisons on many shapes.
func selfTest(k *kernels) error {
	c := newChecker(k, 1)
	for _, f := range checkedFormats() {
		p := c.plane(f, 7, 128, 0)
		for _, batch := range []int{2, 5, 8, 29} { // sizes for which levels have other loops
			if err := c.product(&p, batch); err != nil {
				return fmt.Errorf("%v: %w", f, err)
			}
		}
	}
	for _, f := range integerFormats() {
		p := c.plane(f, 7, 128, 0)
		if err := c.roundedProduct(&p, 15); err != nil {
			return fmt.Errorf("%v: %w", f, err)
		}
	}
	for _, f := range pairFormats() {
		if k.pairs == nil {
			break
		}
		p := c.plane(f, 7, 192, 0)
		if p.Quant != nil {
			p.Quant.Round = dtype.BF16
		}
		if err := c.pairProduct(&p, 18); err != nil {
			return fmt.Errorf("%v: %w", f, err)
		}
	}
	if err := c.attention(5, 11, 64); err != nil {
		return err
	}
	return c.elementwise(37)
}

// checkedFormats are those that checkpoints of GPT-OSS come in.
func checkedFormats() []dtype.Format {
	return []dtype.Format{dtype.MXFP4, dtype.MXFP4GGML, dtype.MXFP4Ollama, dtype.BF16, dtype.F16, dtype.F32, dtype.Q8_0, dtype.NF4, dtype.FP4}
}

// unit is the rounding error of float32, relative to a result.
const unit = 1.0 / (1 << 24)

// sumTolerance bounds what float32 may lose in a sum of n products taken in eight lanes: each product meets n/8 and
// three more additions, so the sum is off by at most that many units of the sum of the magnitudes (Higham, Accuracy and
// Stability, 3.1). Portable sums in two lanes: n/2 and one more.
// Scores and mixed values are added up in one lane, where the worst case is n: random data is held to half of that.
func sumTolerance(n int) float64 { return float64(n/2+5) * unit }

// checker compares kernels with exact results on random data. What lies around an operand is poisoned: a kernel that
// reads past an end meets NaN, one that writes past it is seen.
type checker struct {
	k *kernels
	w *worker
	r *rand.Rand
}

func newChecker(k *kernels, seed uint64) *checker {
	w := &worker{
		k: k, tile: make([]float32, tileRows*maxCheckCols), raw: make([]float32, tileRows*maxCheckCols), y: make([]float32, maxCheckBatch*tileRows), odd: make([]float32, maxCheckBatch*tileRows),
		sums: make([]float32, panelRows*tileRows*k.order.lanes()), at: make([]int, maxCheckBatch), scales: make([]float32, tileRows*maxCheckCols/64), tables: make([][32]byte, tileRows*maxCheckCols/64),
		codes: make([]int8, maxCheckCols), codeScales: make([]float32, maxCheckCols/int8Block),
		tiles: newTileScratch(maxCheckCols),
	}
	return &checker{k: k, w: w, r: rand.New(rand.NewPCG(seed, 11))}
}

const (
	maxCheckCols  = 2048
	maxCheckBatch = 128
)

var poison = float32(math.NaN())

// floats gives n random values that start offset elements into their memory, poison on both sides.
func (c *checker) floats(n, offset int) []float32 {
	b := make([]float32, offset+n+16)
	for i := range b {
		b[i] = poison
	}
	v := b[offset : offset+n : offset+n]
	for i := range v {
		v[i] = float32(c.r.NormFloat64())
	}
	return v
}

// bytes gives n random bytes that start offset bytes into their memory, 0xFF on both sides: a NaN in every format.
func (c *checker) bytes(n, offset int) []byte {
	b := make([]byte, offset+n+64)
	for i := range b {
		b[i] = 0xFF
	}
	v := b[offset : offset+n : offset+n]
	for i := range v {
		v[i] = byte(c.r.Uint32())
	}
	return v
}

// plane gives a random matrix of the format, its bytes offset from the start of their memory.
func (c *checker) plane(f dtype.Format, rows, cols, offset int) dtype.Plane {
	p := dtype.Plane{Format: f, Rows: rows, Cols: cols}
	n := rows * cols
	switch f {
	case dtype.MXFP4:
		p.Data, p.Scales = c.bytes(n/2, offset), c.bytes(n/32, offset)
		for i := range p.Scales {
			p.Scales[i] = 115 + p.Scales[i]%8
		}
	case dtype.NF4, dtype.FP4:
		p.Data, p.Quant = c.bytes(n/2, offset), c.quant(n, offset)
	case dtype.BF16, dtype.F16, dtype.F32:
		p.Data = c.bytes(n*f.BlockBytes(), offset)
		for i := range n {
			putFloat(f, p.Data[i*f.BlockBytes():], float32(c.r.NormFloat64()/8))
		}
	default: // blocks of 32 with their scale in front
		p.Data = c.bytes(n/32*f.BlockBytes(), offset)
		for at := 0; at < len(p.Data); at += f.BlockBytes() {
			if f == dtype.Q8_0 {
				putFloat(dtype.F16, p.Data[at:], float32(c.r.NormFloat64()))
			} else {
				p.Data[at] = 115 + p.Data[at]%8
			}
		}
	}
	return p
}

// quant gives scales for n codes: nested or not, with each rounding, the plane not always first in its arrays.
func (c *checker) quant(n, offset int) *dtype.Quant {
	q := &dtype.Quant{Block: 64, First: c.r.IntN(3), Round: [...]dtype.Format{dtype.F32, dtype.BF16, dtype.F16}[c.r.IntN(3)]}
	blocks := q.First + (n+63)/64
	if c.r.IntN(2) == 0 {
		q.Absmax = c.scales(blocks, offset)
		return q
	}
	q.Codes, q.Map, q.NestedBlock, q.Offset = c.bytes(blocks, offset), &dtype.NestedMap, 16, 0.7
	q.Nested = c.scales((blocks+15)/16, offset)
	return q
}

func (c *checker) scales(n, offset int) []byte {
	b := c.bytes(4*n, offset)
	for i := range n {
		putFloat(dtype.F32, b[4*i:], float32(math.Abs(c.r.NormFloat64())))
	}
	return b
}

func putFloat(f dtype.Format, b []byte, v float32) {
	switch f {
	case dtype.BF16:
		binary.LittleEndian.PutUint16(b, dtype.ToBF16(v))
	case dtype.F16:
		binary.LittleEndian.PutUint16(b, dtype.ToF16(v))
	default:
		binary.LittleEndian.PutUint32(b, math.Float32bits(v))
	}
}

// product checks decoding bit by bit, and products of the plane's last rows with batches of one to batch rows: within
// the tolerance, and the same bits for every size of batch.
func (c *checker) product(p *dtype.Plane, batch int) error {
	r := min(tileRows, p.Rows)
	first := p.Rows - r
	want := make([]float32, r*p.Cols)
	p.DecodeRows(want, first, r)
	if err := c.decoded(p, want, first, r); err != nil {
		return err
	}
	o := c.k.order
	width, at := o.width(p.Cols), o.places(p.Cols)
	x, arranged := c.floats(batch*p.Cols, 1+c.r.IntN(8)), c.floats(batch*width, 1+c.r.IntN(8))
	clear(arranged)
	alone := make([]float32, batch*r)
	for i := range batch {
		xi, ai := x[i*p.Cols:(i+1)*p.Cols], arranged[i*width:(i+1)*width]
		arrange(ai, xi, at)
		c.w.product(p, first, r, ai, nil, 1)
		copy(alone[i*r:], c.w.y[:r])
		for j := range r {
			if err := nearSum(alone[i*r+j], xi, want[j*p.Cols:(j+1)*p.Cols]); err != nil {
				return fmt.Errorf("product with row %d: %w", first+j, err)
			}
		}
	}
	rows := make([]int32, batch) // the batch backwards
	for i := range rows {
		rows[i] = int32(batch - 1 - i)
	}
	c.w.product(p, first, r, arranged, rows, batch)
	for i := range rows {
		for j := range r {
			if a, b := c.w.y[i*tileRows+j], alone[int(rows[i])*r+j]; a != b {
				return fmt.Errorf("product of row %d with row %d in a batch of %d is %v, alone %v", rows[i], first+j, batch, a, b)
			}
		}
	}
	return nil
}

// decoded checks the decoding of r rows: the wanted values at their places in the level's order, zeros elsewhere.
func (c *checker) decoded(p *dtype.Plane, want []float32, first, r int) error {
	o := c.k.order
	width, at := o.width(p.Cols), o.places(p.Cols)
	got, row := c.floats(r*width, 3), make([]float32, width)
	c.k.decode(c.w, got, p, first, r)
	for i := range r {
		arrange(row, want[i*p.Cols:(i+1)*p.Cols], at)
		for j, v := range row {
			if g := got[i*width+j]; math.Float32bits(g) != math.Float32bits(v) && (g == g || v == v) {
				return fmt.Errorf("decoding of row %d gives %v at place %d, want %v", first+i, g, j, v)
			}
		}
	}
	return nil
}

// nearSum compares a sum of products with the exact one.
func nearSum(got float32, x, w []float32) error {
	var sum, magnitude float64
	for i := range x {
		v := float64(x[i]) * float64(w[i])
		sum += v
		magnitude += math.Abs(v)
	}
	if d := math.Abs(float64(got) - sum); !(d <= sumTolerance(len(x))*magnitude) {
		return fmt.Errorf("sum of %d products is %v, want %v within %v", len(x), got, sum, sumTolerance(len(x))*magnitude)
	}
	return nil
}

// attention checks scores and the sums of values for the given numbers of heads and keys, of runs that vector kernels take
// at once and of others.
func (c *checker) attention(heads, keys, d int) error {
	for _, size := range []int{runKeys, keys + 2} {
		if err := c.scores(heads, keys, d, size); err != nil {
			return fmt.Errorf("run of %d keys: %w", size, err)
		}
	}
	return c.mix(heads, keys, d)
}

func (c *checker) scores(heads, keys, d, size int) error {
	q, k, stride, first := c.floats(heads*d, 1), c.floats(keys*d, 2), keys+3, c.r.IntN(size-keys+1)
	run := c.floats(d*size, 3)
	for i := range run {
		run[i] = poison
	}
	for i := range keys {
		for j := range d {
			run[j*size+first+i] = k[i*d+j]
		}
	}
	s := c.floats(heads*stride, 1)
	before := append([]float32(nil), s...)
	c.k.scores(s, stride, q, heads, run, size, first, keys, d)
	for h := range heads {
		for i := range keys {
			if err := nearSum(s[h*stride+i], q[h*d:(h+1)*d], k[i*d:(i+1)*d]); err != nil {
				return fmt.Errorf("score of head %d and key %d: %w", h, i, err)
			}
		}
		for i := h*stride + keys; i < (h+1)*stride; i++ {
			if s[i] != before[i] {
				return fmt.Errorf("behind the scores of head %d lies %v instead of %v", h, s[i], before[i])
			}
		}
	}
	return nil
}

func (c *checker) mix(heads, keys, d int) error {
	stride := keys + 2
	a, v, weights := c.floats(heads*d, 3), c.floats(keys*d, 2), c.floats(heads*stride, 5)
	before, column := append([]float32(nil), a...), make([]float32, keys+1)
	c.k.mix(a, v, weights, stride, heads, keys, d)
	for h := range heads {
		ones := append([]float32{1}, weights[h*stride:][:keys]...)
		for j := range d {
			column[0] = before[h*d+j]
			for i := range keys {
				column[i+1] = v[i*d+j]
			}
			if err := nearSum(a[h*d+j], ones, column); err != nil {
				return fmt.Errorf("mixed value %d of head %d: %w", j, h, err)
			}
		}
	}
	return nil
}
