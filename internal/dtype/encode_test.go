package dtype

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestQuantizeGGUFFixture(t *testing.T) {
	x := readFixture(t, "gguf")
	in := x.floats(t, "Q8_0.quantize.input")
	for _, c := range []struct {
		name     string
		quantize func([]byte, []float32) error
	}{
		{"Q8_0", QuantizeQ8_0},
		{"MXFP4", QuantizeMXFP4GGML},
	} {
		want := x.get(t, c.name+".quantize.blocks").data
		got := make([]byte, len(want))
		if err := c.quantize(got, in); err != nil {
			t.Fatal(err)
		}
		if i := firstDifference(got, want); i >= 0 {
			t.Errorf("%s: byte %d is %#x, want %#x", c.name, i, got[i], want[i])
		}
	}
}

// firstDifference is the place of the first unequal byte of two equally long slices, -1 if there is none.
func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

func TestQuantizeBitsandbytesFixture(t *testing.T) {
	x := readFixture(t, "bitsandbytes")
	nested := 0
	for _, c := range bnbCases(t, x) {
		t.Run(c.name, func(t *testing.T) {
			in := x.floats(t, c.name+".input")
			quantize := QuantizeNF4
			if c.plane.Format == FP4 {
				quantize = QuantizeFP4
			}
			codes, absmax := make([]byte, len(c.plane.Data)), make([]float32, ceil(len(in), c.state.Block))
			if err := quantize(codes, absmax, in, c.state.Block); err != nil {
				t.Fatal(err)
			}
			if i := firstDifference(codes, c.plane.Data); i >= 0 {
				t.Errorf("codes: byte %d is %#x, want %#x", i, codes[i], c.plane.Data[i])
			}
			q := c.plane.Quant
			if q.Codes == nil {
				if err := sameBits(absmax, x.floats(t, c.name+".weight.absmax")); err != nil {
					t.Errorf("absmax: %v", err)
				}
				return
			}
			nested++
			codes8, scales, offset, err := QuantizeScales(absmax, q.NestedBlock)
			if err != nil {
				t.Fatal(err)
			}
			if err := sameBits(NestedMap[:], q.Map[:]); err != nil {
				t.Errorf("map: %v", err)
			}
			if err := sameBits([]float32{offset}, []float32{q.Offset}); err != nil {
				t.Errorf("offset: %v", err)
			}
			if err := sameBits(scales, x.floats(t, c.name+".weight.nested_absmax")); err != nil {
				t.Errorf("nested absmax: %v", err)
			}
			if i := firstDifference(codes8, q.Codes); i >= 0 {
				t.Errorf("nested code %d is %d, want %d", i, codes8[i], q.Codes[i])
			}
		})
	}
	if nested == 0 {
		t.Error("no double-quantised case")
	}
}

// TestFuseExperts is section 10.3 of the format notes in miniature: three experts of one and a half nested blocks each,
// with different statistics. Their codes concatenate, and so do their un-nested scales; the nested scales do not.
func TestFuseExperts(t *testing.T) {
	const experts, rows, cols, block = 3, 128, 192, 64
	const blocks = rows * cols / block // 384 = 1.5 * 256
	r := rand.New(rand.NewPCG(7, 8))
	fused := Plane{Format: NF4, Rows: experts * rows, Cols: cols, Quant: &Quant{Block: block, Round: BF16}}
	naive := Quant{Block: block, Round: BF16, Map: &NestedMap, NestedBlock: 256}
	var apart []float32
	for e := range experts {
		src := make([]float32, rows*cols)
		for i := range src {
			src[i] = float32(r.NormFloat64()) * 0.02 * float32(e+1) * (1 + r.Float32())
		}
		codes, absmax := make([]byte, len(src)/2), make([]float32, blocks)
		if err := QuantizeNF4(codes, absmax, src, block); err != nil {
			t.Fatal(err)
		}
		codes8, nested, offset, err := QuantizeScales(absmax, 256)
		if err != nil {
			t.Fatal(err)
		}
		own := &Quant{Block: block, Round: BF16, Codes: codes8, Map: &NestedMap, Nested: f32bytes(nested), NestedBlock: 256, Offset: offset}
		apart = append(apart, decode(t, &Plane{Format: NF4, Rows: rows, Cols: cols, Data: codes, Quant: own})...)
		fused.Data = append(fused.Data, codes...)
		for b := range blocks {
			fused.Quant.Absmax = append(fused.Quant.Absmax, f32bytes([]float32{own.Scale(b)})...)
		}
		naive.Codes = append(naive.Codes, codes8...)
		naive.Nested = append(naive.Nested, own.Nested...)
		naive.Offset = offset
	}
	if err := sameBits(decode(t, &fused), apart); err != nil {
		t.Errorf("un-nested and fused: %v", err)
	}
	for e := range experts { // the same bytes, as one expert's part of a fused tensor
		p := fused
		q := *fused.Quant
		q.First = e * blocks
		p.Rows, p.Quant, p.Data = rows, &q, fused.Data[e*rows*cols/2:][:rows*cols/2]
		if err := sameBits(decode(t, &p), apart[e*rows*cols:][:rows*cols]); err != nil {
			t.Errorf("expert %d of the fused tensor: %v", e, err)
		}
	}
	wrong := 0
	for b := range experts * blocks {
		if naive.Scale(b) != fused.Quant.Scale(b) {
			wrong++
		}
	}
	if wrong < blocks {
		t.Errorf("nested scales concatenated as they are give %d wrong scales of %d: this test has lost its point", wrong, experts*blocks)
	}
}

// TestQuantizeMXFP4Rule compares with the rule said in other words: the nearest of the fifteen values, ties to the even
// code.
func TestQuantizeMXFP4Rule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src := make([]float32, 32)
		steps := rapid.Bool().Draw(t, "steps") // quarters hit the ties
		size := math.Ldexp(1, rapid.IntRange(-100, 100).Draw(t, "exponent"))
		for i := range src {
			if steps {
				src[i] = float32(float64(rapid.IntRange(-24, 24).Draw(t, "quarters")) / 4 * size)
			} else {
				src[i] = float32(rapid.Float64Range(-6, 6).Draw(t, "value") * size)
			}
		}
		p := Plane{Format: MXFP4, Rows: 1, Cols: 32, Data: make([]byte, 16), Scales: make([]byte, 1)}
		if err := QuantizeMXFP4(p.Data, p.Scales, src); err != nil {
			t.Fatal(err)
		}
		amax := 0.0
		for _, v := range src {
			amax = max(amax, math.Abs(float64(v)))
		}
		scale := math.Ldexp(1, int(p.Scales[0])-127)
		if amax > 0 && (scale < float64(float32(amax)/6) || scale/2 >= float64(float32(amax)/6)) {
			t.Fatalf("scale %v for %v", scale, amax)
		}
		for i, v := range src {
			code := p.Data[i/2] >> (4 * (i % 2)) & 15
			if got, want := math.Abs(float64(E2M1[code]))*scale, slowE2M1(math.Abs(float64(v))/scale)*scale; got != want && amax > 0 {
				t.Fatalf("%v becomes %v, want %v", v, got, want)
			}
			if (code >= 8) != math.Signbit(float64(v)) {
				t.Fatalf("%v becomes code %d", v, code)
			}
		}
	})
}

func slowE2M1(x float64) float64 {
	best := 0
	for c := 1; c < 8; c++ {
		d, least := math.Abs(float64(E2M1[c])-x), math.Abs(float64(E2M1[best])-x)
		if d < least || d == least && c%2 == 0 {
			best = c
		}
	}
	return float64(E2M1[best])
}

// What MXFP4 can hold, both quantisers hold, whatever scale they choose; and packing moves codes without changing them.
func TestMXFP4RoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const rows, cols = 2, 64
		p := Plane{Format: MXFP4, Rows: rows, Cols: cols}
		p.Data = rapid.SliceOfN(rapid.Byte(), rows*cols/2, rows*cols/2).Draw(t, "codes")
		p.Scales = rapid.SliceOfN(rapid.ByteRange(4, 252), rows*cols/32, rows*cols/32).Draw(t, "scales")
		want := make([]float32, rows*cols)
		p.DecodeRows(want, 0, rows)

		ggml := Plane{Format: MXFP4GGML, Rows: rows, Cols: cols, Data: make([]byte, 17*len(p.Scales))}
		if err := PackMXFP4GGML(ggml.Data, p.Data, p.Scales); err != nil {
			t.Fatal(err)
		}
		got := make([]float32, rows*cols)
		ggml.DecodeRows(got, 0, rows)
		if err := sameBits(got, want); err != nil {
			t.Fatalf("packed for GGUF: %v", err)
		}
		back := Plane{Format: MXFP4, Rows: rows, Cols: cols, Data: make([]byte, len(p.Data)), Scales: make([]byte, len(p.Scales))}
		if err := UnpackMXFP4GGML(back.Data, back.Scales, ggml.Data); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Data, p.Data) || !bytes.Equal(back.Scales, p.Scales) {
			t.Fatal("packing and unpacking changed codes or scales")
		}

		if err := QuantizeMXFP4(back.Data, back.Scales, want); err != nil {
			t.Fatal(err)
		}
		back.DecodeRows(got, 0, rows)
		if err := sameBits(got, want); err != nil {
			t.Fatalf("quantised again: %v", err)
		}
		if err := QuantizeMXFP4GGML(ggml.Data, want); err != nil {
			t.Fatal(err)
		}
		ggml.DecodeRows(got, 0, rows)
		for i := range got {
			if got[i] != want[i] { // zeros lose their sign: ggml takes the lowest code
				t.Fatalf("quantised again by ggml's rule: value %d is %v, want %v", i, got[i], want[i])
			}
		}
	})
}

func TestUnpackOllama(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	p := randomPlane(r, MXFP4Ollama, 2, 64, false, 0)
	q := Plane{Format: MXFP4, Rows: 2, Cols: 64, Data: make([]byte, 64), Scales: make([]byte, 4)}
	if err := UnpackMXFP4Ollama(q.Data, q.Scales, p.Data); err != nil {
		t.Fatal(err)
	}
	if err := sameBits(decode(t, &q), decode(t, &p)); err != nil {
		t.Error(err)
	}
}

func TestEncodeScalars(t *testing.T) {
	src := []float32{0, -1, 1.0009765625 + 0.00048828125, 70000, float32(math.NaN()), 1e-8}
	for _, c := range []struct {
		format Format
		encode func([]byte, []float32)
		round  func(float32) float32
	}{
		{F32, EncodeF32, func(f float32) float32 { return f }},
		{F16, EncodeF16, func(f float32) float32 { return FromF16(ToF16(f)) }},
		{BF16, EncodeBF16, func(f float32) float32 { return FromBF16(ToBF16(f)) }},
	} {
		b := make([]byte, len(src)*c.format.BlockBytes())
		c.encode(b, src)
		got, err := DecodeVector(c.format, b)
		if err != nil {
			t.Fatal(err)
		}
		var want []float32
		for _, f := range src {
			want = append(want, c.round(f))
		}
		if err := sameBits(got, want); err != nil {
			t.Errorf("%v: %v", c.format, err)
		}
	}
}

func TestEncodersRefuse(t *testing.T) {
	values := func(v float32) []float32 {
		s := make([]float32, 32)
		s[3] = v
		return s
	}
	inf, nan := float32(math.Inf(-1)), float32(math.NaN())
	q8 := func(n int, src []float32) error { return QuantizeQ8_0(make([]byte, n), src) }
	ggml := func(n int, src []float32) error { return QuantizeMXFP4GGML(make([]byte, n), src) }
	openai := func(codes, scales int, src []float32) error {
		return QuantizeMXFP4(make([]byte, codes), make([]byte, scales), src)
	}
	nf4 := func(codes, absmax int, src []float32, block int) error {
		return QuantizeNF4(make([]byte, codes), make([]float32, absmax), src, block)
	}
	scales := func(s []float32, block int) error {
		_, _, _, err := QuantizeScales(s, block)
		return err
	}
	vector := func(f Format, n int) error {
		_, err := DecodeVector(f, make([]byte, n))
		return err
	}
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"Q8_0 length", q8(33, values(1)), "32 values do not make 33 bytes of Q8_0"},
		{"Q8_0 partial block", q8(34, values(1)[:31]), "31 values do not make"},
		{"Q8_0 NaN", q8(34, values(nan)), "value 3 is NaN"},
		{"Q8_0 overflow", q8(34, values(1e7)), "does not fit F16"},
		{"GGML infinity", ggml(17, values(inf)), "value 3 is -Inf"},
		{"GGML too large", ggml(17, values(math.MaxFloat32)), "MXFP4 ends at"},
		{"GGML length", ggml(16, values(1)), "do not make 16 bytes of MXFP4 (GGUF)"},
		{"MXFP4 NaN", openai(16, 1, values(nan)), "value 3 is NaN"},
		{"MXFP4 too large", openai(16, 1, values(3e38)), "MXFP4 ends at"},
		{"MXFP4 codes", openai(15, 1, values(1)), "15 bytes of MXFP4 codes"},
		{"MXFP4 scales", openai(16, 2, values(1)), "2 scales"},
		{"NF4 NaN", nf4(16, 1, values(nan), 64), "value 3 is NaN"},
		{"NF4 codes", nf4(15, 1, values(1), 64), "15 bytes of codes"},
		{"NF4 scales", nf4(16, 1, values(1), 16), "1 scales of 16 values"},
		{"NF4 block", nf4(16, 1, values(1), 0), "scales of 0 values"},
		{"scales NaN", scales(values(nan), 256), "mean of the scales is NaN"},
		{"scales too far apart", scales([]float32{3e38, -3e38, -3e38}, 256), "value 0 is +Inf"},
		{"scales overflow", scales([]float32{3e38, 3e38}, 256), "mean of the scales is +Inf"},
		{"scales block", scales(values(1), 0), "blocks of 0"},
		{"no scales", scales(nil, 256), "0 scales"},
		{"pack", PackMXFP4GGML(make([]byte, 16), make([]byte, 16), make([]byte, 1)), "do not hold 1 blocks"},
		{"unpack", UnpackMXFP4GGML(make([]byte, 15), make([]byte, 1), make([]byte, 17)), "15 bytes of MXFP4 codes"},
		{"unpack Ollama", UnpackMXFP4Ollama(make([]byte, 16), make([]byte, 1), make([]byte, 18)), "18 bytes of MXFP4 (Ollama)"},
		{"vector of codes", vector(NF4, 16), "NF4 bytes alone hold no numbers"},
		{"vector of bytes", vector(U8, 16), "U8 bytes alone hold no numbers"},
		{"vector of nothing known", vector(Format(99), 16), "Format(99) bytes"},
		{"ragged vector", vector(BF16, 15), "15 bytes, not a multiple of 2"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", c.name, c.err, c.want)
		}
	}
}

func TestCheckScales(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, f := range []Format{MXFP4, MXFP4GGML, MXFP4Ollama} {
		p := randomPlane(r, f, 3, 64, false, 0)
		scale := func(i int) *byte {
			if f == MXFP4 {
				return &p.Scales[i]
			}
			return &p.Data[17*i]
		}
		for i := range 6 {
			*scale(i) = 252
		}
		if err := p.CheckScales(); err != nil {
			t.Errorf("%v: %v", f, err)
		}
		*scale(5) = 253
		if err := p.CheckScales(); err == nil || !strings.Contains(err.Error(), "scale byte 253 at row 2, column 32") {
			t.Errorf("%v: error is %v", f, err)
		}
	}
	if err := (&Plane{Format: BF16}).CheckScales(); err != nil {
		t.Error(err)
	}
}

func TestCheckMaps(t *testing.T) {
	changed := func(s []float32, i int, v float32) []float32 {
		s = append([]float32(nil), s...)
		s[i] = v
		return s
	}
	for _, c := range []struct {
		name string
		err  error
		want string // "" is accepted
	}{
		{"NF4", CheckCodeMap(NF4, NF4Table[:]), ""},
		{"FP4", CheckCodeMap(FP4, FP4Table[:]), ""},
		{"FP4 for NF4", CheckCodeMap(NF4, FP4Table[:]), "gives code 0 the value 0"},
		{"short", CheckCodeMap(NF4, NF4Table[:15]), "15 entries"},
		{"one bit off", CheckCodeMap(NF4, changed(NF4Table[:], 3, math.Nextafter32(NF4Table[3], 0))), "code 3"},
		{"other format", CheckCodeMap(BF16, NF4Table[:]), "BF16 has no quant_map"},
		{"nested", CheckNestedMap(NestedMap[:]), ""},
		{"nested short", CheckNestedMap(NestedMap[:255]), "255 entries"},
		{"nested NaN", CheckNestedMap(changed(NestedMap[:], 9, float32(math.NaN()))), "ascend at entry 9"},
		{"nested infinite", CheckNestedMap(changed(NestedMap[:], 0, float32(math.Inf(-1)))), "begins with -Inf"},
		{"nested order", CheckNestedMap(changed(NestedMap[:], 100, 0)), "ascend at entry 101"},
		{"nested zero", CheckNestedMap(changed(NestedMap[:], 127, 1e-9)), "at entry 127"},
		{"nested one", CheckNestedMap(changed(NestedMap[:], 255, 1.5)), "1.5 at entry 255"},
	} {
		if c.want == "" && c.err != nil || c.want != "" && (c.err == nil || !strings.Contains(c.err.Error(), c.want)) {
			t.Errorf("%s: error is %v, want %q", c.name, c.err, c.want)
		}
	}
}

// TestNearestCode compares the buckets with a plain count, on and around every threshold and every bucket's edge.
func TestNearestCode(t *testing.T) {
	for name, s := range map[string]*steps4{"NF4": &nf4Steps, "FP4": &fp4Steps} {
		check := func(x float32) {
			n := 0
			for _, threshold := range s.threshold {
				if x > threshold {
					n++
				}
			}
			if got := s.nearest(x); got != s.code[n] {
				t.Errorf("%s: %v is code %d, want %d", name, x, got, s.code[n])
			}
		}
		points := slices.Clone(s.threshold[:15])
		for b := range buckets + 1 {
			points = append(points, float32(b)/(buckets/2)-1)
		}
		for _, x := range points {
			check(x)
			check(math.Nextafter32(x, -2)) // amax times its rounded reciprocal may leave [-1, 1] by a bit
			check(math.Nextafter32(x, 2))
		}
	}
}

// Blocks of zeros have no scale to divide by.
func TestQuantizeZeros(t *testing.T) {
	src := make([]float32, 64)
	planes := map[Format]Plane{}
	for _, f := range []Format{Q8_0, MXFP4GGML} {
		p := Plane{Format: f, Rows: 1, Cols: 64, Data: make([]byte, 2*f.BlockBytes())}
		quantize := QuantizeQ8_0
		if f == MXFP4GGML {
			quantize = QuantizeMXFP4GGML
		}
		if err := quantize(p.Data, src); err != nil {
			t.Fatal(err)
		}
		planes[f] = p
	}
	p := Plane{Format: MXFP4, Rows: 1, Cols: 64, Data: make([]byte, 32), Scales: make([]byte, 2)}
	if err := QuantizeMXFP4(p.Data, p.Scales, src); err != nil {
		t.Fatal(err)
	}
	planes[MXFP4] = p
	for f, p := range planes {
		if err := sameBits(decode(t, &p), src); err != nil {
			t.Errorf("%v: %v", f, err)
		}
	}
}

// Equal scales leave nothing but the offset.
func TestQuantizeEqualScales(t *testing.T) {
	absmax := make([]float32, 300)
	for i := range absmax {
		absmax[i] = 0.5
	}
	codes, nested, offset, err := QuantizeScales(absmax, 256)
	if err != nil {
		t.Fatal(err)
	}
	q := Quant{Codes: codes, Map: &NestedMap, Nested: f32bytes(nested), NestedBlock: 256, Offset: offset}
	for i := range absmax {
		if got := q.Scale(i); got != 0.5 || codes[i] != 0 {
			t.Fatalf("scale %d is %v, code %d", i, got, codes[i])
		}
	}
}

func TestPairwiseSumCountsAll(t *testing.T) {
	for n := range 700 {
		s := make([]float32, n)
		for i := range s {
			s[i] = float32(i + 1) // exact in any order
		}
		if got, want := pairwiseSum(s), float32(n*(n+1)/2); got != want {
			t.Fatalf("1 to %d is %v, want %v", n, got, want)
		}
	}
}

// BenchmarkQuantize reports the rate at which float32 values are read.
func BenchmarkQuantize(b *testing.B) {
	const n = 1 << 16
	r := rand.New(rand.NewPCG(13, 14))
	src := make([]float32, n)
	for i := range src {
		src[i] = float32(r.NormFloat64())
	}
	half, wide, blocks, absmax := make([]byte, n/2), make([]byte, 2*n), make([]byte, n/32*34), make([]float32, n/64)
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"NF4", func() error { return QuantizeNF4(half, absmax, src, 64) }},
		{"Q8_0", func() error { return QuantizeQ8_0(blocks, src) }},
		{"MXFP4", func() error { return QuantizeMXFP4(half, blocks[:n/32], src) }},
		{"MXFP4 (GGUF)", func() error { return QuantizeMXFP4GGML(blocks[:n/32*17], src) }},
		{"BF16", func() error { EncodeBF16(wide, src); return nil }},
		{"scales", func() error { _, _, _, err := QuantizeScales(src, 256); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(4 * n)
			for b.Loop() {
				if err := c.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
