package cuda

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/testgpu"
)

// read brings a weight back from the device as float32.
func (t *denseTest) read(w *denseWeight) []float32 {
	t.Helper()
	n := w.rows * w.cols
	codes := t.get(w.data, int(w.format.codeBytes(n)))
	f := dtype.BF16
	switch w.format {
	case denseF16:
		f = dtype.F16
	case denseQ8:
		scales, err := dtype.DecodeVector(dtype.F16, t.get(w.scales, n/16))
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(int8(codes[i&^31+placeQ8(i&31)])) * scales[i/32]
		}
		return v
	}
	v, err := dtype.DecodeVector(f, codes)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func values(p dtype.Plane) []float32 {
	v := make([]float32, p.Rows*p.Cols)
	p.DecodeRows(v, 0, p.Rows)
	return v
}

func rounded(p dtype.Plane, round func(float32) float32) []float32 {
	v := values(p)
	for i := range v {
		v[i] = round(v[i])
	}
	return v
}

func bf16(v float32) float32 { return dtype.FromBF16(dtype.ToBF16(v)) }

// requantised is what Q8_0 makes of a plane.
func requantised(t *denseTest, p dtype.Plane) []float32 {
	q := dtype.Plane{Format: dtype.Q8_0, Rows: p.Rows, Cols: p.Cols, Data: make([]byte, p.Rows*p.Cols/32*34)}
	if err := dtype.QuantizeQ8_0(q.Data, values(p)); err != nil {
		t.Fatal(err)
	}
	return values(q)
}

// transposed stores a BF16 plane the other way round.
func transposed(p dtype.Plane) dtype.Plane {
	q := dtype.Plane{Format: p.Format, Rows: p.Rows, Cols: p.Cols, Transposed: true, Data: make([]byte, len(p.Data))}
	for r := range p.Rows {
		for c := range p.Cols {
			copy(q.Data[2*(c*p.Rows+r):], p.Data[2*(r*p.Cols+c):][:2])
		}
	}
	return q
}

func TestDenseLoad(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		d := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: 64, Heads: 1}, sms: 2})
		b, f, q, w := d.plane(dtype.BF16, 9, 192), d.plane(dtype.F16, 4, 192), d.plane(dtype.Q8_0, 5, 192), d.plane(dtype.F32, 3, 192)
		four := dtype.Plane{Format: dtype.Q4_0, Rows: 3, Cols: 192, Data: make([]byte, 3*6*18)}
		for i := range four.Data {
			four.Data[i] = byte(i * 7 & 0x3f)
		}
		join := func(vs ...[]float32) (all []float32) {
			for _, v := range vs {
				all = append(all, v...)
			}
			return all
		}
		for _, k := range []struct {
			name   string
			planes []dtype.Plane
			int8   bool
			format denseFormat
			want   []float32
			note   string
		}{
			{"BF16", []dtype.Plane{b, b}, false, denseBF16, join(values(b), values(b)), ""},
			{"F16", []dtype.Plane{f}, false, denseF16, values(f), ""},
			{"Q8_0", []dtype.Plane{q, q, q}, false, denseQ8, join(values(q), values(q), values(q)), ""},
			{"F32", []dtype.Plane{w}, false, denseBF16, rounded(w, bf16), "F32 rounded to BF16"},
			{"Q4_0", []dtype.Plane{four}, false, denseBF16, rounded(four, bf16), "Q4_0 rounded to BF16"},
			{"transposed", []dtype.Plane{transposed(b)}, false, denseBF16, values(b), ""},
			{"mixed", []dtype.Plane{b, f}, false, denseBF16, join(values(b), rounded(f, bf16)), "F16 rounded to BF16"},
			{"int8 of BF16", []dtype.Plane{b}, true, denseQ8, requantised(d, b), "BF16 quantised to 8 bits in blocks of 32"},
			{"int8 of Q8_0", []dtype.Plane{q}, true, denseQ8, values(q), ""},
			{"int8, mixed", []dtype.Plane{q, f}, true, denseQ8, join(values(q), requantised(d, f)), "F16 quantised to 8 bits in blocks of 32"},
		} {
			o := denseOptions{int8: k.int8}
			got, note, err := d.d.load(d.u, k.planes, nil, o)
			if err != nil {
				t.Fatalf("%s: %v", k.name, err)
			}
			if got.format != k.format || note != k.note || got.bias != 0 {
				t.Errorf("%s: format %v, note %q, bias %v", k.name, got.format, note, got.bias)
			}
			if diff := cmp.Diff(k.want, d.read(&got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", k.name, diff)
			}
			n := len(k.want)
			if have, need := d.d.bytes(k.planes, o), k.format.codeBytes(n)+k.format.scaleBytes(n); have < need || have > need+2048 {
				t.Errorf("%s: planned %d bytes for %d", k.name, have, need)
			}
		}
	})
}

// TestDenseLoadBands loads more rows than one goroutine takes at a time.
func TestDenseLoadBands(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	d := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: 64, Heads: 1}, sms: 2})
	p := d.plane(dtype.F32, 3*recodeValues/4096+5, 4096)
	w, _, err := d.d.load(d.u, []dtype.Plane{p}, nil, denseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(rounded(p, bf16), d.read(&w)) {
		t.Error("values differ")
	}
}

func TestDenseLoadBias(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	d := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: 64, Heads: 1}, sms: 2})
	planes := []dtype.Plane{d.plane(dtype.BF16, 2, 64), d.plane(dtype.BF16, 3, 64), d.plane(dtype.BF16, 1, 64)}
	w, _, err := d.d.load(d.u, planes, [][]float32{{1, 2}, nil, {6}}, denseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float32{1, 2, 0, 0, 0, 6}, d.getFloats(w.bias, 6)); diff != "" {
		t.Error(diff)
	}
}

func TestDenseLoadRefuses(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	d := newDenseTest(t, c, shape{Spec: device.Spec{Hidden: 64, Heads: 1}, sms: 2})
	nan := d.plane(dtype.F32, 40, 64)
	dtype.EncodeF32(nan.Data[4*(33*64+1):], []float32{float32(math.NaN())})
	short := d.plane(dtype.BF16, 2, 64)
	short.Data = short.Data[1:]
	for _, k := range []struct {
		planes      []dtype.Plane
		bias        [][]float32
		int8        bool
		want        string
		unsupported bool
	}{
		{[]dtype.Plane{d.plane(dtype.BF16, 2, 96)}, nil, false, "96 inputs, want a multiple of 64", true},
		{[]dtype.Plane{d.plane(dtype.BF16, 2, maxDenseCols+64)}, nil, false, "want a multiple of 64 up to 16384", true},
		{[]dtype.Plane{d.plane(dtype.BF16, 2, 64), d.plane(dtype.BF16, 2, 128)}, nil, false, "64 and 128 inputs", false},
		{[]dtype.Plane{d.plane(dtype.BF16, 2, 64)}, [][]float32{{1}}, false, "bias has 1 values for 2 rows", false},
		{[]dtype.Plane{nan}, nil, true, "rows 0 to 39: value 1 is NaN", false},
		{[]dtype.Plane{short}, nil, false, "255 bytes of data, needs 256", false},
	} {
		_, _, err := d.d.load(d.u, k.planes, k.bias, denseOptions{int8: k.int8})
		if err == nil || !strings.Contains(err.Error(), k.want) || errors.Is(err, device.ErrNotSupported) != k.unsupported {
			t.Errorf("got %v, want %q", err, k.want)
		}
	}
}

// TestDensePlan checks what the kernels and planeFloats take for granted of every plan.
func TestDensePlan(t *testing.T) {
	cards := []gemmCard{
		newGemmCard(&deviceInfo{major: 8, minor: 6, sms: 82, sharedMax: 99 << 10}),
		newGemmCard(&deviceInfo{major: 8, minor: 0, sms: 108, sharedMax: 163 << 10}),
		newGemmCard(&deviceInfo{major: 9, minor: 0, sms: 132, sharedMax: 227 << 10}),
	}
	rapid.Check(t, func(t *rapid.T) {
		g := rapid.SampledFrom(cards).Draw(t, "card")
		f := denseFormat(rapid.IntRange(0, denseFormats-1).Draw(t, "format"))
		T, rows, cols := rapid.IntRange(1, 5000).Draw(t, "tokens"), rapid.IntRange(1, 300000).Draw(t, "rows"), 64*rapid.IntRange(1, 256).Draw(t, "steps")
		p := g.plan(f, T, rows, cols, splitLimit(T))
		tile := gemmTiles[f][p.tile]
		switch {
		case p.split < 1 || p.split > maxSplit || p.split*T > max(T, min(maxSplit*T, 1024)):
			t.Errorf("%d splits of %d tokens", p.split, T)
		case p.steps*p.split < cols/64 || p.steps*(p.split-1) >= cols/64:
			t.Errorf("%d splits of %d steps for %d columns: one is empty or some are left over", p.split, p.steps, cols)
		case tile.m < min(T, 128):
			t.Errorf("%s for %d tokens reads the weights more than once", tile.name, T)
		case tile.shared(f) > 99<<10:
			t.Errorf("%s takes %d bytes of shared memory", tile.name, tile.shared(f))
		}
	})
}
