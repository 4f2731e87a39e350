package cpu

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

// eachLevel runs f for every level that the processor has; the others say what is missing.
func eachLevel(t *testing.T, f func(t *testing.T, l *level)) {
	for _, l := range levels() {
		t.Run(l.name, func(t *testing.T) {
			if l.missing != "" {
				t.Skipf("this processor lacks %s", l.missing)
			}
			f(t, &l)
		})
	}
}

func TestSelfTest(t *testing.T) {
	eachLevel(t, func(t *testing.T, l *level) {
		if err := selfTest(&l.kernels); err != nil {
			t.Error(err)
		}
	})
}

// Odd numbers of rows, batches that every level cuts into blocks of each of its sizes, bytes that start anywhere.
func TestProducts(t *testing.T) {
	eachLevel(t, func(t *testing.T, l *level) {
		for _, f := range checkedFormats() {
			c := newChecker(&l.kernels, uint64(f))
			widths := []int{32, 64, 96, 256, 544, 1088, 2016}
			if f.BlockElems() == 1 {
				widths = append(widths, 1, 5, 7, 8, 9, 31, 50, 519, 1025)
			}
			batches := []int{1, 2, 3, 4, 5, 6, 7, 8, 11, 14, 21, 49, 50}
			if testmodel.Race { // twenty times slower; the arithmetic has no goroutines
				widths, batches = widths[:3], []int{1, 50}
			}
			for i, cols := range widths {
				for _, batch := range batches {
					rows, offset := 1+c.r.IntN(20), c.r.IntN(32)
					if i == 0 {
						offset = 4 * batch % 32
					}
					p := c.plane(f, rows, cols, offset)
					if err := c.product(&p, batch); err != nil {
						t.Fatalf("%v [%d, %d] at offset %d, batch %d: %v", f, rows, cols, offset, batch, err)
					}
				}
			}
		}
	})
}

// Every scale that a checkpoint may hold, the last two of which overflow and 255, which is no number.
func TestEveryMXFP4Scale(t *testing.T) {
	eachLevel(t, func(t *testing.T, l *level) {
		c := newChecker(&l.kernels, 5)
		for _, f := range []dtype.Format{dtype.MXFP4, dtype.MXFP4GGML, dtype.MXFP4Ollama} {
			for e := range 256 {
				p := c.plane(f, 1, 64, 0)
				if f == dtype.MXFP4 {
					p.Scales[0], p.Scales[1] = byte(e), byte(255-e)
				} else {
					p.Data[0], p.Data[17] = byte(e), byte(255-e)
				}
				var want [64]float32
				p.DecodeRows(want[:], 0, 1)
				if err := c.decoded(&p, want[:], 0, 1); err != nil {
					t.Fatalf("%v scale %d: %v", f, e, err)
				}
			}
		}
	})
}

// A scale that is no number must not round to one.
func TestBrokenScaleStaysBroken(t *testing.T) {
	eachLevel(t, func(t *testing.T, l *level) {
		c := newChecker(&l.kernels, 5)
		for _, round := range []dtype.Format{dtype.F32, dtype.BF16, dtype.F16} {
			p := c.plane(dtype.NF4, 1, 64, 0)
			nan := []byte{0xFF, 0xFF, 0xFF, 0x7F}
			for _, q := range []dtype.Quant{
				{Absmax: nan}, {Codes: []byte{9}, Map: &dtype.NestedMap, Nested: nan, NestedBlock: 256},
				{Codes: []byte{9}, Map: &dtype.NestedMap, Nested: []byte{0, 0, 0x80, 0x3F}, NestedBlock: 256, Offset: poison},
			} {
				q.Block, q.Round = 64, round
				p.Quant = &q
				var got [64]float32
				l.kernels.decode(c.w, got[:], &p, 0, 1)
				for i, v := range got {
					if v == v {
						t.Fatalf("rounded to %v, element %d under a scale of NaN is %v", round, i, v)
					}
				}
			}
		}
	})
}

func TestAttentionKernels(t *testing.T) {
	eachLevel(t, func(t *testing.T, l *level) {
		c := newChecker(&l.kernels, 2)
		for _, heads := range []int{1, 2, 3, 4, 7, 8} {
			for _, keys := range []int{1, 2, 3, 4, 5, 15, 16} {
				for _, d := range []int{2, 10, 64, 72, 128} {
					if err := c.attention(heads, keys, d); err != nil {
						t.Fatalf("%d heads, %d keys of %d: %v", heads, keys, d, err)
					}
				}
			}
		}
	})
}

func TestElementwiseKernels(t *testing.T) {
	eachLevel(t, func(t *testing.T, l *level) {
		c := newChecker(&l.kernels, 3)
		for n := 1; n < 70; n++ {
			if err := c.elementwise(n); err != nil {
				t.Fatalf("%d values: %v", n, err)
			}
		}
	})
}

// The oracle decodes; what a faster level reads without decoding is listed, so that a loop cannot drop out unseen.
func TestFormatsReadAsStored(t *testing.T) {
	want := map[string][]dtype.Format{"portable": nil, "avx2": checkedFormats(), "avx512": checkedFormats(), "avx512vnni": checkedFormats(), "amx": checkedFormats(), "neon": checkedFormats(), "neondot": checkedFormats()}
	eachLevel(t, func(t *testing.T, l *level) {
		c := newChecker(&l.kernels, 4)
		var got []dtype.Format
		for _, f := range checkedFormats() {
			p := c.plane(f, 4, 128, 0)
			if l.kernels.direct(c.w, c.floats(128, 0), nil, 1, &p, 0, 4) {
				got = append(got, f)
			}
		}
		if !slices.Equal(got, want[l.name]) {
			t.Errorf("%s reads %v as they are stored, want %v", l.name, got, want[l.name])
		}
	})
}

func TestPickLevel(t *testing.T) {
	good, lacking, wrong := portableLevel(), portableLevel(), portableLevel()
	good.name = "good"
	lacking.name, lacking.missing = "lacking", "AVX9"
	wrong.name = "wrong"
	wrong.kernels.mix = func(a, v, weights []float32, stride, heads, keys, d int) {}
	all := []level{portableLevel(), good, wrong, lacking}
	for _, p := range []struct{ name, want, note, err string }{
		{"", "good", "wrong failed its self-test: mixed value 0 of head 0", ""},
		{"portable", "portable", "", ""},
		{"wrong", "wrong", "", "wrong failed its self-test"},
		{"lacking", "lacking", "", "lacking needs AVX9, which this processor lacks"},
		{"avx9", "", "", `"avx9" is no level of kernels for this processor: want portable or good or wrong or lacking`},
	} {
		l, note, err := pickLevel(p.name, all)
		if l.name != p.want || !strings.Contains(note, p.note) || (note == "") != (p.note == "") {
			t.Errorf("%q: level %q with note %q, want %q with %q", p.name, l.name, note, p.want, p.note)
		}
		if msg := fmt.Sprint(err); (err == nil) != (p.err == "") || err != nil && !strings.Contains(msg, p.err) {
			t.Errorf("%q: error %v, want %q", p.name, err, p.err)
		}
	}
	if _, _, err := pickLevel("lacking", all); !errors.Is(err, device.ErrNotSupported) {
		t.Errorf("a missing feature gives %v, want ErrNotSupported", err)
	}
}

func TestNewNamesTheVariable(t *testing.T) {
	t.Setenv("HEARTH_CPU", "fast")
	if _, err := New(Options{}); err == nil || !strings.HasPrefix(err.Error(), `HEARTH_CPU: "fast" is no level`) {
		t.Errorf("HEARTH_CPU=fast gives %v", err)
	}
	t.Setenv("HEARTH_CPU", "portable")
	d, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Info().Detail; !strings.HasSuffix(got, "portable Go, "+runtime.GOARCH) {
		t.Errorf("detail is %q", got)
	}
}

// The levels agree on a whole model as far as float32 sums allow.
func TestLevelsAgree(t *testing.T) {
	prompts := [][]int32{{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5}, {100, 0, 17}}
	for name, m := range map[string]shape{"tiny": tinyShape(), "blocks": blockShape()} {
		s, sp, _ := m.open(t, 2, "portable")
		want := run(t, s, sp, prompts, 4)
		eachLevel(t, func(t *testing.T, l *level) {
			s, sp, _ := m.open(t, 2, l.name)
			got := run(t, s, sp, prompts, 4)
			for i := range want {
				for j := range want[i] {
					if d := math.Abs(float64(got[i][j] - want[i][j])); !(d < 2e-5*max(1, math.Abs(float64(want[i][j])))) {
						t.Errorf("%s prompt %d position %d: %v, portable %v", name, i, j, got[i][j], want[i][j])
					}
				}
			}
		})
	}
}
