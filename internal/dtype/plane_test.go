package dtype

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// randomPlane makes a plane of random bytes. Every pattern is a number (or NaN) in every format, so any bytes will do.
func randomPlane(r *rand.Rand, f Format, rows, cols int, transposed bool, block int) Plane {
	bytes := func(n int) []byte {
		b := make([]byte, n+1)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b[1:]
	}
	p := Plane{Format: f, Rows: rows, Cols: cols, Transposed: transposed}
	p.Data = bytes(p.dataBytes())
	switch f {
	case MXFP4:
		p.Scales = bytes(p.scaleBytes())
	case NF4, FP4:
		q := &Quant{Block: block, Round: [...]Format{F32, F16, BF16}[r.IntN(3)], First: r.IntN(300)}
		blocks := q.First + ceil(rows*cols, block)
		if r.IntN(2) == 0 {
			q.Absmax = randomFloats(r, blocks)
		} else {
			q.Map = new([256]float32)
			for i := range q.Map {
				q.Map[i] = r.Float32()
			}
			q.Codes, q.NestedBlock, q.Offset = bytes(blocks), 1+r.IntN(256), r.Float32()
			q.Nested = randomFloats(r, ceil(blocks, q.NestedBlock))
		}
		p.Quant = q
	}
	return p
}

func randomFloats(r *rand.Rand, n int) []byte {
	s := make([]float32, n)
	for i := range s {
		s[i] = r.Float32() - 0.5
	}
	return f32bytes(s)
}

// element is the slow definition of one matrix element: its place in the storage, then one decoded element or block.
func element(p *Plane, row, col int) float32 {
	at := row*p.Cols + col
	if p.Transposed {
		at = col*p.Rows + row
	}
	switch p.Format {
	case NF4, FP4:
		table, code := NF4Table, p.Data[at/2]>>4
		if p.Format == FP4 {
			table = FP4Table
		}
		if at%2 == 1 {
			code = p.Data[at/2] & 15
		}
		v := table[code] * p.Quant.Scale(at/p.Quant.Block)
		switch p.Quant.Round {
		case BF16:
			v = FromBF16(ToBF16(v))
		case F16:
			v = FromF16(ToF16(v))
		}
		return v
	case MXFP4:
		return E2M1[p.Data[at/2]>>(4*(at%2))&15] * FromE8M0(p.Scales[at/32])
	}
	elems, size := p.Format.BlockElems(), p.Format.BlockBytes()
	v, err := DecodeVector(p.Format, p.Data[at/elems*size:][:size])
	if err != nil {
		panic(err)
	}
	return v[at%elems]
}

func drawPlane(t *rapid.T) Plane {
	var all []Format
	for f := range formats {
		if f := Format(f); f != Invalid && f != U8 && f != I8 {
			all = append(all, f)
		}
	}
	f := rapid.SampledFrom(all).Draw(t, "format")
	rows, cols := rapid.IntRange(1, 150).Draw(t, "rows"), rapid.IntRange(1, 9).Draw(t, "cols")
	transposed := false
	if elems := f.BlockElems(); elems > 1 {
		cols = elems * (1 + cols%2)
		rows = 1 + rows%5
	} else {
		transposed = rapid.Bool().Draw(t, "transposed")
		if rapid.Bool().Draw(t, "wide") {
			rows, cols = cols, rows
		}
	}
	block := rapid.SampledFrom([]int{1, 3, 10, 64}).Draw(t, "block")
	seed := rapid.Uint64().Draw(t, "seed")
	return randomPlane(rand.New(rand.NewPCG(seed, 0)), f, rows, cols, transposed, block)
}

func TestDecodeAnyRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlane(t)
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		first := rapid.IntRange(0, p.Rows).Draw(t, "first")
		n := rapid.IntRange(0, p.Rows-first).Draw(t, "n")
		const guard = 12345
		got := make([]float32, n*p.Cols+1)
		got[n*p.Cols] = guard
		p.DecodeRows(got, first, n)
		if got[n*p.Cols] != guard {
			t.Fatal("wrote past the rows")
		}
		var want []float32
		for r := range n {
			for c := range p.Cols {
				want = append(want, element(&p, first+r, c))
			}
		}
		if err := sameBits(got[:n*p.Cols], want); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSlice(t *testing.T) {
	sliced := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlane(t)
		first := rapid.IntRange(0, p.Rows-1).Draw(t, "first")
		rows := rapid.IntRange(1, p.Rows-first).Draw(t, "n")
		s, ok := p.Slice(first, rows)
		sliced[ok]++
		if !ok {
			aligned := p.Quant == nil || first*p.Cols%p.Quant.Block == 0 && first*p.Cols%2 == 0
			if !p.Transposed && aligned {
				t.Fatal("refused")
			}
			return
		}
		want := make([]float32, rows*p.Cols)
		p.DecodeRows(want, first, rows)
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		got := make([]float32, rows*p.Cols)
		s.DecodeRows(got, 0, rows)
		if err := sameBits(got, want); err != nil {
			t.Fatal(err)
		}
		if _, ok := p.Slice(first, p.Rows-first+1); ok {
			t.Fatal("gave rows that are not there")
		}
	})
	if sliced[true] == 0 || sliced[false] == 0 {
		t.Errorf("slices given and refused: %v", sliced)
	}
}

func TestStackInterleaves(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := Stack{Even: []Plane{randomPlane(r, BF16, 3, 4, false, 0)}, Odd: []Plane{randomPlane(r, BF16, 3, 4, false, 0)}}
	got := make([]float32, 3*4)
	s.DecodeRows(got, 0, 1, 3)
	want := make([]float32, 3*4)
	s.Odd[0].DecodeRows(want, 0, 1)
	s.Even[0].DecodeRows(want[4:], 1, 1)
	s.Odd[0].DecodeRows(want[8:], 1, 1)
	if err := sameBits(got, want); err != nil {
		t.Error(err)
	}
	if rows, cols := s.Shape(); rows != 6 || cols != 4 || s.Experts() != 1 {
		t.Errorf("%d experts of %d x %d, want 1 of 6 x 4", s.Experts(), rows, cols)
	}
	s.Odd = nil
	s.DecodeRows(got, 0, 0, 3)
	if err := sameBits(got, decode(t, &s.Even[0])); err != nil {
		t.Errorf("not interleaved: %v", err)
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, p := range []Plane{
		randomPlane(r, MXFP4, 4, 64, false, 0),
		randomPlane(r, NF4, 64, 4, true, 64),
		randomPlane(r, Q6_K, 4, 256, false, 0),
	} {
		dst := make([]float32, p.Rows*p.Cols)
		if n := testing.AllocsPerRun(10, func() { p.DecodeRows(dst, 0, p.Rows) }); n != 0 {
			t.Errorf("%s: %v allocations", p.name(), n)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	absmax := make([]byte, 16) // four blocks
	nested := func(change func(*Quant)) *Quant {
		q := &Quant{Block: 64, Round: BF16, Codes: make([]byte, 4), Map: new([256]float32), Nested: make([]byte, 8), NestedBlock: 2}
		change(q)
		return q
	}
	data := make([]byte, 128) // of 4 x 64 codes
	for _, c := range []struct {
		plane Plane
		want  string // "" is accepted
	}{
		{Plane{}, "invalid plane has shape [0, 0]"},
		{Plane{Format: BF16, Rows: -1, Cols: 4}, "shape [-1, 4]"},
		{Plane{Format: BF16, Rows: 1 << 40, Cols: 1 << 40}, "shape [1099511627776, 1099511627776]"},
		{Plane{Format: Format(99), Rows: 1, Cols: 1, Data: data[:1]}, "Format(99) holds no numbers"},
		{Plane{Format: U8, Rows: 1, Cols: 1, Data: data[:1]}, "U8 holds no numbers"},
		{Plane{Format: I8, Rows: 1, Cols: 1, Data: data[:1]}, "int8 holds no numbers"},
		{Plane{Format: BF16, Rows: 2, Cols: 3, Data: data[:11]}, "BF16 plane [2, 3] has 11 bytes of data, needs 12"},
		{Plane{Format: BF16, Rows: 2, Cols: 3, Transposed: true, Data: data[:12]}, ""},
		{Plane{Format: BF16, Rows: 2, Cols: 3, Data: data[:12], Scales: data[:1]}, "has 1 E8M0 scales, needs 0"},
		{Plane{Format: BF16, Rows: 2, Cols: 3, Data: data[:12], Quant: &Quant{}}, "belong to NF4 and FP4"},
		{Plane{Format: MXFP4, Rows: 2, Cols: 48, Data: data[:48], Scales: data[:3]}, "no multiple of its 32-element blocks"},
		{Plane{Format: MXFP4, Rows: 32, Cols: 32, Transposed: true}, "stored transposed"},
		{Plane{Format: MXFP4, Rows: 2, Cols: 64, Data: data[:64], Scales: data[:3]}, "has 3 E8M0 scales, needs 4"},
		{Plane{Format: MXFP4, Rows: 2, Cols: 64, Data: data[:63], Scales: data[:4]}, "has 63 bytes of data, needs 64"},
		{Plane{Format: Q6_K, Rows: 1, Cols: 256, Data: data}, "has 128 bytes of data, needs 210"},
		{Plane{Format: NF4, Rows: 4, Cols: 64, Data: data}, "has no scales"},
		{Plane{Format: NF4, Rows: 4, Cols: 64, Data: data, Quant: &Quant{Block: 64, Round: BF16, Absmax: absmax}}, ""},
		{Plane{Format: NF4, Rows: 4, Cols: 64, Data: data, Quant: &Quant{Block: 0, Round: BF16, Absmax: absmax}}, "block size is 0"},
		{Plane{Format: NF4, Rows: 4, Cols: 64, Data: data, Quant: &Quant{Block: 64, Round: U8, Absmax: absmax}}, "rounded to U8"},
		{Plane{Format: NF4, Rows: 4, Cols: 64, Data: data, Quant: &Quant{Block: 64, Round: BF16}}, "either float32 or double-quantised"},
		{Plane{Format: NF4, Rows: 4, Cols: 64, Data: data, Quant: &Quant{Block: 64, Round: BF16, Absmax: absmax[:15]}}, "blocks 0 to 3 need 16"},
		{Plane{Format: NF4, Rows: 4, Cols: 64, Data: data, Quant: &Quant{Block: 64, First: 1, Round: BF16, Absmax: absmax}}, "blocks 1 to 4 need 20"},
		{Plane{Format: NF4, Rows: 4, Cols: 64, Data: data, Quant: &Quant{Block: 64, First: -1, Round: BF16, Absmax: absmax}}, "first block is -1"},
		{Plane{Format: FP4, Rows: 4, Cols: 64, Data: data, Quant: nested(func(q *Quant) {})}, ""},
		{Plane{Format: FP4, Rows: 4, Cols: 64, Data: data, Quant: nested(func(q *Quant) { q.Map = nil })}, "no nested_quant_map"},
		{Plane{Format: FP4, Rows: 4, Cols: 64, Data: data, Quant: nested(func(q *Quant) { q.NestedBlock = 0 })}, "nested block size is 0"},
		{Plane{Format: FP4, Rows: 4, Cols: 64, Data: data, Quant: nested(func(q *Quant) { q.Codes = q.Codes[:3] })}, "has 3 codes, blocks 0 to 3 need 4"},
		{Plane{Format: FP4, Rows: 4, Cols: 64, Data: data, Quant: nested(func(q *Quant) { q.Nested = q.Nested[:4] })}, "nested_absmax has 4 bytes, blocks 0 to 3 need 8"},
		{Plane{Format: FP4, Rows: 4, Cols: 64, Data: data[:127], Quant: nested(func(q *Quant) {})}, "has 127 bytes of data, needs 128"},
	} {
		err := c.plane.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v [%d, %d]: error is %v, want %q", c.plane.Format, c.plane.Rows, c.plane.Cols, err, c.want)
		}
	}
}

func TestBytes(t *testing.T) {
	nested := &Quant{Block: 64, Round: BF16, Codes: make([]byte, 600), Map: new([256]float32), Nested: make([]byte, 12), NestedBlock: 256}
	second := *nested
	second.First = 200 // blocks 200 to 299 touch nested blocks 0 and 1
	for _, c := range []struct {
		plane Plane
		want  int64
	}{
		{Plane{Format: BF16, Rows: 3, Cols: 5}, 30},
		{Plane{Format: MXFP4, Rows: 2, Cols: 64}, 64 + 4},
		{Plane{Format: Q8_0, Rows: 2, Cols: 64}, 4 * 34},
		{Plane{Format: NF4, Rows: 3, Cols: 50, Quant: &Quant{Block: 64, Absmax: make([]byte, 12)}}, 75 + 12},
		{Plane{Format: NF4, Rows: 3, Cols: 51, Quant: &Quant{Block: 64, Absmax: make([]byte, 12)}}, 77 + 12},
		{Plane{Format: NF4, Rows: 100, Cols: 64, Quant: nested}, 3200 + 100 + 4},
		{Plane{Format: NF4, Rows: 100, Cols: 64, Quant: &second}, 3200 + 100 + 8},
	} {
		if got := c.plane.Bytes(); got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.plane.name(), got, c.want)
		}
	}
}

// BenchmarkDecodeRows reports the rate at which stored bytes are read.
func BenchmarkDecodeRows(b *testing.B) {
	const rows, cols = 256, 2816 // 11 super-blocks, 44 blocks of 64
	r := rand.New(rand.NewPCG(5, 6))
	run := func(name string, p Plane, n int) {
		if p.Quant != nil {
			p.Quant.Round = BF16
		}
		if p.Format == F16 { // what weights look like: few subnormals
			for i := range rows * cols {
				binary.LittleEndian.PutUint16(p.Data[2*i:], ToF16(r.Float32()-0.5))
			}
		}
		b.Run(name, func(b *testing.B) {
			dst := make([]float32, n*cols)
			b.SetBytes(p.Bytes())
			for b.Loop() {
				for i := 0; i < rows; i += n {
					p.DecodeRows(dst, i, n)
				}
			}
			b.ReportMetric(float64(b.N)*rows*cols/1e6/b.Elapsed().Seconds(), "Mweights/s")
		})
	}
	for f := range formats {
		if f := Format(f); f != Invalid && f != U8 && f != I8 {
			run(f.String(), randomPlane(r, f, rows, cols, false, 64), 64)
		}
	}
	for _, f := range []Format{F32, F16, BF16, NF4, FP4} {
		p := randomPlane(r, f, rows, cols, true, 64)
		for _, n := range []int{16, 64} {
			run(fmt.Sprintf("%v transposed by %d", f, n), p, n)
		}
	}
}
