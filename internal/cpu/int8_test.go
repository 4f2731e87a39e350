package cpu

import (
	"math"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

// Kernels address the parts of a step by their places, and read none past its end.
func TestInt8StepLayout(t *testing.T) {
	var s int8Step
	for _, p := range []struct {
		name      string
		got, want uintptr
	}{
		{"low", unsafe.Offsetof(s.low), 0}, {"high", unsafe.Offsetof(s.high), 32}, {"bias", unsafe.Offsetof(s.bias), 64},
		{"scale", unsafe.Offsetof(s.scale), 96}, {"size", unsafe.Sizeof(s), int8StepBytes},
	} {
		if p.got != p.want {
			t.Errorf("%s is at %d, kernels expect %d", p.name, p.got, p.want)
		}
	}
}

func TestInt8Rounding(t *testing.T) {
	inf, nan := float32(math.Inf(1)), poison
	for _, p := range []struct {
		name  string
		in    []float32
		codes []int8
		scale float32
	}{
		{"ties to even", []float32{127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5}, []int8{127, 0, 2, 2, 0, -2, -2, 126}, 1},
		{"the largest is negative", []float32{-254, 254, 3, 5}, []int8{-127, 127, 2, 2}, 2},
		{"zeros", []float32{0, float32(math.Copysign(0, -1))}, []int8{0, 0}, 0},
		{"next to nothing", []float32{1e-40, -1e-31}, []int8{0, 0}, 0},
		{"small", []float32{127.0 / (1 << 100), -64.0 / (1 << 100)}, []int8{127, -64}, 1.0 / (1 << 100)},
		{"an infinity", []float32{1, inf}, []int8{0, 0}, nan},
		{"a negative infinity", []float32{-inf, 1}, []int8{0, 0}, nan},
		{"no number", []float32{1, nan, 2}, []int8{0, 0, 0}, nan},
	} {
		for _, at := range []int{0, 9, 32, 40} { // either half of either block
			var v [stepCols]float32
			copy(v[at:], p.in)
			var s int8Step
			s.round(&v)
			x := []int8Step{s}
			for i, want := range p.codes {
				code, scale := int8At(x, at+i)
				same := scale == p.scale || scale != scale && p.scale != p.scale
				if !same || p.scale == p.scale && code != want {
					t.Errorf("%s at %d: %v is %d times %v, want %d times %v", p.name, at, p.in[i], code, scale, want, p.scale)
				}
			}
			if _, other := int8At(x, 63-at); other != 0 && at/32 != (63-at)/32 {
				t.Errorf("%s at %d: the other block has scale %v", p.name, at, other)
			}
		}
	}
}

// Half a step from what went in, whatever the order that the row came in; zero past its end.
func TestInt8RoundRow(t *testing.T) {
	r := newRand(4)
	for _, o := range []order{natural, woven8} {
		for _, n := range []int{1, 31, 32, 50, 64, 96, 200} {
			row, in, steps := r.floats(n), newInput(o, n), int8Steps(n)
			x := make([]float32, in.width)
			arrange(x, row, in.at)
			got := make([]int8Step, steps)
			roundRow(got[:1], x, in.at, 0, n) // in two parts
			roundRow(got[1:], x, in.at, 1, n)
			for i := range steps * stepCols {
				code, scale := int8At(got, i)
				if i >= n {
					if code != 0 {
						t.Fatalf("order %d, %d values: code %d past the end", o, n, code)
					}
					continue
				}
				var most float32
				for _, v := range row[i&^31 : min(n, i&^31+32)] {
					most = max(most, float32(math.Abs(float64(v))))
				}
				if scale != most/127 {
					t.Fatalf("order %d, %d values: scale %v, want %v", o, n, scale, most/127)
				}
				if d := math.Abs(float64(code)*float64(scale) - float64(row[i])); d > float64(scale)*(0.5+1e-4) {
					t.Fatalf("order %d, %d values: %v became %d times %v", o, n, row[i], code, scale)
				}
			}
			for s := range got {
				checkBias(t, &got[s])
			}
		}
	}
}

func checkBias(t *testing.T, s *int8Step) {
	t.Helper()
	for i, b := range s.bias {
		if want := -int8Bias * (sumOf(s.low[4*i:4*i+4]) + sumOf(s.high[4*i:4*i+4])); int(b) != want {
			t.Fatalf("bias %d is %d, want %d", i, b, want)
		}
	}
}

func sumOf(codes []int8) (sum int) {
	for _, c := range codes {
		sum += int(c)
	}
	return sum
}

// The integers times their scale are the weights that dtype decodes.
func TestIntegerRow(t *testing.T) {
	c := newChecker(&kernels{}, 6)
	for _, f := range integerFormats() {
		p := c.plane(f, 5, 96, 3)
		var codes [96]int8
		var scales [3]float32
		want := make([]float32, 96)
		for j := range p.Rows {
			integerRow(codes[:], scales[:], &p, j)
			p.DecodeRows(want, j, 1)
			for i, v := range want {
				if got := float32(codes[i]) * scales[i/32]; got != v {
					t.Fatalf("%v row %d weight %d is %v, want %v", f, j, i, got, v)
				}
			}
		}
	}
}

func TestInt8Products(t *testing.T) {
	eachLevel(t, func(t *testing.T, l *level) {
		for _, f := range integerFormats() {
			c := newChecker(&l.kernels, uint64(f))
			widths, batches := []int{32, 64, 96, 192, 544, 1088}, []int{1, 2, 4, 15} // fifteen: a group of each size
			if testmodel.Race {
				widths, batches = widths[:3], []int{1, 15}
			}
			for _, cols := range widths {
				for _, batch := range batches {
					rows, offset := 1+c.r.IntN(20), c.r.IntN(32)
					p := c.plane(f, rows, cols, offset)
					if err := c.roundedProduct(&p, batch); err != nil {
						t.Fatalf("%v [%d, %d] at offset %d, batch %d: %v", f, rows, cols, offset, batch, err)
					}
				}
			}
		}
	})
}

// The largest integers on both sides, where sums of pairs come nearest to leaving 16 bits; every weight's code.
func TestInt8Extremes(t *testing.T) {
	eachLevel(t, func(t *testing.T, l *level) {
		c := newChecker(&l.kernels, 8)
		for _, f := range integerFormats() {
			for code := range 256 {
				p := c.plane(f, 2, 128, 1)
				size, head := f.BlockBytes(), 1
				switch f {
				case dtype.MXFP4:
					size, head = 16, 0
				case dtype.Q8_0:
					head = 2
				}
				for i := range p.Data {
					if i%size >= head {
						p.Data[i] = byte(code)
					}
				}
				x := c.rounded(3, 128) // the last has the largest codes
				for _, sign := range []int8{1, -1} {
					for i := range x[4:] {
						for k := range x[4+i].low {
							x[4+i].low[k], x[4+i].high[k] = 127*sign, 127*sign
						}
						for k := range x[4+i].bias {
							x[4+i].bias[k] = -int8Bias * 8 * 127 * int32(sign)
						}
					}
					l.kernels.int8(c.w, x, nil, 3, &p, 0, 2)
					var want [256]float32
					p.DecodeRows(want[:], 0, 2)
					for i := range 3 {
						for j := range 2 {
							if err := nearBlocks(c.w.y[i*tileRows+j], x[2*i:2*i+2], want[128*j:128*(j+1)]); err != nil {
								t.Fatalf("%v code %d: %v", f, code, err)
							}
						}
					}
				}
			}
		}
	})
}

// Scales at both ends; one that is no number, of a weight or of an activation, must not become one.
func TestInt8Scales(t *testing.T) {
	eachLevel(t, func(t *testing.T, l *level) {
		c := newChecker(&l.kernels, 5)
		for _, f := range []dtype.Format{dtype.MXFP4, dtype.MXFP4GGML, dtype.MXFP4Ollama} {
			for e := range 256 {
				p := c.plane(f, 1, 64, 0)
				if f == dtype.MXFP4 {
					p.Scales[0], p.Scales[1] = byte(e), byte(min(e, 254))
				} else {
					p.Data[0], p.Data[17] = byte(e), byte(min(e, 254))
				}
				x := c.rounded(1, 64)
				var w [64]float32
				p.DecodeRows(w[:], 0, 1)
				l.kernels.int8(c.w, x, nil, 1, &p, 0, 1)
				if y := c.w.y[0]; e == 255 {
					if y == y {
						t.Fatalf("%v: a scale of NaN gives %v", f, y)
					}
				} else if e > 24 && e < 250 { // outside of this float32 has fewer digits, or none
					if err := nearBlocks(y, x, w[:]); err != nil {
						t.Fatalf("%v scale %d: %v", f, e, err)
					}
				}
			}
		}
		for _, f := range integerFormats() {
			p := c.plane(f, 1, 64, 0)
			v := make([]float32, 64)
			v[40] = float32(math.Inf(1))
			x := make([]int8Step, 1)
			roundRow(x, v, nil, 0, 64)
			l.kernels.int8(c.w, x, nil, 1, &p, 0, 1)
			if y := c.w.y[0]; y == y {
				t.Errorf("%v: an infinite activation gives %v", f, y)
			}
		}
	})
}

func int8Shapes() map[string]shape {
	stored := func(f dtype.Format) func(random, int, int) dtype.Plane {
		return func(r random, rows, cols int) dtype.Plane {
			c := checker{r: r.Rand}
			p := c.plane(f, rows, cols, 0)
			if f == dtype.Q8_0 { // scales as small as real ones
				for at := 0; at < len(p.Data); at += 34 {
					putFloat(dtype.F16, p.Data[at:], float32(r.NormFloat64()/1024))
				}
			}
			return p
		}
	}
	m := blockShape()
	all := map[string]shape{"mxfp4": m, "apart": m.apart()}
	m.dense, m.experts = stored(dtype.Q8_0), stored(dtype.MXFP4GGML)
	all["q8_0"] = m
	return all
}

// The same bits however prompts are cut and batched and however many threads run; near the float32 run, and not equal to
// it; a step allocates nothing.
func TestInt8Session(t *testing.T) {
	prompts := [][]int32{{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5}, {100, 0, 17}}
	for name, m := range int8Shapes() {
		eachLevel(t, func(t *testing.T, l *level) {
			s, sp, _ := m.open(t, 2, l.name)
			exact := run(t, s, sp, prompts, 4)
			m := m
			m.round = Int8
			s, sp, _ = m.open(t, 1, l.name)
			want := run(t, s, sp, prompts, 11)
			var worst float64
			for i := range want {
				for j := range want[i] {
					worst = max(worst, math.Abs(float64(want[i][j]-exact[i][j])))
				}
			}
			if worst == 0 || worst > 0.5 {
				t.Errorf("%s: log-probabilities differ from float32's by %v", name, worst)
			}
			s, sp, _ = m.open(t, 3, l.name)
			for _, chunk := range []int{1, 3} {
				for i, p := range prompts {
					if got := run(t, s, sp, [][]int32{p}, chunk); !slices.Equal(got[0], want[i]) {
						t.Fatalf("%s, chunks of %d: %v, want %v", name, chunk, got[0], want[i])
					}
				}
			}
		})
	}
}

func TestInt8StepAllocatesNothing(t *testing.T) {
	b := &device.Batch{
		Tokens: []int32{5, 6, 7}, Positions: []int32{3, 0, 1},
		Seqs:   []device.Seq{{Count: 1, Full: pages(0, 4), Window: pages(0, 4)}, {First: 1, Count: 2, Full: pages(1, 4), Window: pages(1, 4)}},
		Logits: []device.LogitRow{{Row: 0, Target: -1, Sample: &device.Sampling{}}, {Row: 2, Target: 4}},
	}
	out := make([]device.Output, 2)
	eachLevel(t, func(t *testing.T, l *level) {
		for name, m := range int8Shapes() {
			m.round = Int8
			s, sp, _ := m.open(t, 2, l.name)
			if n := testing.AllocsPerRun(20, func() { step(t, s, sp, b, out) }); n != 0 {
				t.Errorf("a step of %s allocates %v times", name, n)
			}
		}
	})
}

func TestInt8Notes(t *testing.T) {
	for name, want := range map[string]string{
		"mxfp4": "activations: int8 for experts (MXFP4), float32 elsewhere; lossy: ",
		"q8_0":  "activations: int8 for experts (MXFP4 (GGUF)), attention (Q8_0), head (Q8_0), float32 elsewhere; lossy: ",
		"float": "activations: float32, since no weight is MXFP4 or Q8_0: ",
	} {
		m := tinyShape()
		if name != "float" {
			m = int8Shapes()[name]
		}
		if s, _, _ := m.open(t, 1, "portable"); s.(device.Noter).Notes() != nil {
			t.Errorf("%s: notes without being asked: %q", name, s.(device.Noter).Notes())
		}
		m.round = Int8
		s, _, _ := m.open(t, 1, "portable")
		if got := s.(device.Noter).Notes(); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%s: notes %q, want %q...", name, got, want)
		}
	}
}
