package cuda

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"hearth/internal/dtype"
)

// Every format's rows arrive as they decode, to the last bit: those of a few tokens, and of more than one goroutine takes.
func TestEmbedding(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		r := rand.New(rand.NewPCG(5, 6))
		for _, cols := range []int{64, 192, 2880} {
			for _, x := range []struct {
				format     dtype.Format
				transposed bool
			}{{dtype.BF16, false}, {dtype.F16, false}, {dtype.F32, false}, {dtype.Q8_0, false}, {dtype.BF16, true}} {
				p := randomPlane(t, r, x.format, 50, cols)
				p.Transposed = x.transposed
				e, err := newEmbedding(c)
				if err != nil {
					t.Fatal(err)
				}
				if err := e.load(p, 40); err != nil {
					t.Fatal(err)
				}
				for _, n := range []int{1, 40, 33} {
					ids := make([]int32, n)
					for i := range ids {
						ids[i] = int32(r.IntN(p.Rows))
					}
					checkRows(t, c, e, &p, ids)
				}
				e.close()
			}
		}
	})
}

// randomPlane has finite values.
func randomPlane(t testing.TB, r *rand.Rand, f dtype.Format, rows, cols int) dtype.Plane {
	t.Helper()
	v := make([]float32, rows*cols)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	p := dtype.Plane{Format: f, Rows: rows, Cols: cols}
	switch f {
	case dtype.BF16:
		p.Data = make([]byte, 2*len(v))
		dtype.EncodeBF16(p.Data, v)
	case dtype.F16:
		p.Data = make([]byte, 2*len(v))
		dtype.EncodeF16(p.Data, v)
	case dtype.F32:
		for _, x := range v {
			p.Data = binary.LittleEndian.AppendUint32(p.Data, math.Float32bits(x))
		}
	case dtype.Q8_0:
		var block [34]byte
		for i := 0; i < len(v); i += 32 {
			if err := dtype.QuantizeQ8_0(block[:], v[i:i+32]); err != nil {
				t.Fatal(err)
			}
			p.Data = append(p.Data, block[:]...)
		}
	}
	return p
}

func checkRows(t *testing.T, c *context, e *embedding, p *dtype.Plane, ids []int32) {
	t.Helper()
	n := len(ids) * p.Cols
	b, err := c.alloc(int64(4*n), useActivation)
	if err != nil {
		t.Fatal(err)
	}
	defer c.free(b)
	c.queue.set(b.ptr, 0xff, b.size)
	if err := e.gather(ids); err != nil {
		t.Fatal(err)
	}
	e.run(c.queue, len(ids), b.ptr)
	got, want := make([]float32, n), make([]float32, p.Cols)
	c.queue.download(bytesOf(got), b.ptr)
	if err := c.queue.sync(); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		p.DecodeRows(want, int(id), 1)
		if !slices.Equal(want, got[i*p.Cols:(i+1)*p.Cols]) {
			t.Fatalf("%v, transposed %v, %d columns: row %d of %d, token %d, differs", p.Format, p.Transposed, p.Cols, i, len(ids), id)
		}
	}
}
