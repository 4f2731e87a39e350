package cpu

import (
	"math"
	"slices"
	"strings"
	"testing"

	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

func TestPairTerms(t *testing.T) {
	const cols = 5
	perRow := pairsOf(cols)
	r := newRand(4)
	for _, n := range []int{1, 16, 17, 40} {
		for _, terms := range []int{1, 3} {
			x, dst := r.floats(n*cols), make([]uint32, n*terms*perRow)
			x[0], x[n*cols-1] = 0x1.fffffep60, -0x1.234566p-90
			for i := range dst {
				dst[i] = 0x7FC0_7FC0
			}
			for i := range n {
				columns := make([]pairColumn, terms)
				for c := range columns {
					columns[c] = column(dst, i*terms+c, n*terms, perRow)
				}
				pairTerms(columns, x[i*cols:(i+1)*cols], []int32{0, 1, 2, 3, 4}, cols)
			}
			for i := range n {
				for j := range stepCols {
					var sum, want float32
					for c := range terms {
						row := i*terms + c
						block, rows := row/pairRows*pairRows, min(pairRows, n*terms-row/pairRows*pairRows)
						pair := dst[block*perRow+j/2*rows+row-block]
						sum += dtype.FromBF16(uint16(pair >> (16 * (j % 2))))
					}
					if j < cols {
						want = x[i*cols+j]
						if terms == 1 {
							want = math.Float32frombits(math.Float32bits(want) &^ 0xFFFF)
						}
					}
					if sum != want {
						t.Fatalf("%d rows of %d terms: value %d of row %d is %v, want %v", n, terms, j, i, sum, want)
					}
				}
			}
		}
	}
}

func TestAddTerms(t *testing.T) {
	y := make([]float32, 6*tileRows)
	for i := range y {
		y[i] = float32(i/tileRows*100 + i%tileRows)
	}
	addTerms(y, 2, 3)
	for j := range tileRows {
		if y[j] != float32(300+3*j) || y[tileRows+j] != float32(1200+3*j) {
			t.Fatalf("sums %v and %v", y[j], y[tileRows+j])
		}
	}
}

// Odd numbers of rows, whole blocks and less of activations, widths that are no whole steps, bytes that start anywhere.
func TestPairProducts(t *testing.T) {
	eachLevel(t, func(t *testing.T, l *level) {
		if l.kernels.pairs == nil {
			t.Skip("this level does not multiply BF16")
		}
		for _, f := range pairFormats() {
			c := newChecker(&l.kernels, uint64(f))
			widths := []int{32, 64, 96, 128, 192, 544, 1088, 2048}
			if f == dtype.BF16 {
				widths = append(widths, 1, 7, 50, 519)
			}
			batches := []int{1, 2, 3, 15, 16, 17, 33, 50}
			if testmodel.Race {
				widths, batches = widths[:3], []int{1, 18}
			}
			for _, cols := range widths {
				for _, batch := range batches {
					rows, offset := 1+c.r.IntN(20), c.r.IntN(32)
					p := c.plane(f, rows, cols, offset)
					if p.Quant != nil {
						p.Quant.Round = dtype.BF16
					}
					if err := c.pairProduct(&p, batch); err != nil {
						t.Fatalf("%v [%d, %d] at offset %d, batch %d: %v", f, rows, cols, offset, batch, err)
					}
				}
			}
		}
	})
}

func TestEveryMXFP4ScaleInPairs(t *testing.T) {
	eachLevel(t, func(t *testing.T, l *level) {
		if l.kernels.pairs == nil {
			t.Skip("this level does not multiply BF16")
		}
		c := newChecker(&l.kernels, 5)
		one := make([]float32, 64)
		for _, f := range []dtype.Format{dtype.MXFP4, dtype.MXFP4GGML, dtype.MXFP4Ollama} {
			for e := range 256 {
				p := c.plane(f, 1, 64, 0)
				if f == dtype.MXFP4 {
					p.Scales[0], p.Scales[1] = byte(e), byte(255-e)
				} else {
					p.Data[0], p.Data[17] = byte(e), byte(255-e)
				}
				var weights [64]float32
				p.DecodeRows(weights[:], 0, 1)
				for i, want := range weights {
					clear(one)
					one[i] = 1
					l.kernels.pairs(c.w, c.paired(one, 1, 64), 1, &p, 0, 1)
					got := c.w.y[0]
					broken := slices.ContainsFunc(weights[:], func(v float32) bool { return v-v != 0 }) // times zero is no number
					if math.Abs(float64(want)) < 1.0/(1<<126) {
						want = 0 // BF16 products take numbers below the normal ones for zero
					}
					if got != want && !(broken && got != got) {
						t.Fatalf("%v scale %d: weight %d is %v, want %v", f, e, i, got, want)
					}
				}
			}
		}
	})
}

func bf16Shapes() map[string]shape {
	m := blockShape()
	all := map[string]shape{"mxfp4": m, "apart": m.apart(), "float32": tinyShape()}
	m.experts = func(r random, rows, cols int) dtype.Plane {
		c := checker{r: r.Rand}
		p := c.plane(dtype.NF4, rows, cols, 0)
		p.Quant.Round = dtype.BF16
		return p
	}
	m.spec.Intermediate = 128
	all["nf4"] = m
	m = blockShape()
	m.spec.Hidden, m.spec.Intermediate = 96, 32 // no whole steps
	all["odd"] = m
	return all
}

// The same bits however many threads run, and, but for AMX, however prompts are cut and batched; near the float32 run, and
// not equal to it; near what portable Go gives for the same rounding.
func TestBF16Session(t *testing.T) {
	prompts := [][]int32{{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4}, {100, 0, 17}}
	for name, m := range bf16Shapes() {
		s, sp, _ := m.open(t, 2, "portable")
		exact := run(t, s, sp, prompts, 4)
		m.round = BFloat16
		s, sp, _ = m.open(t, 2, "portable")
		portable := run(t, s, sp, prompts, 4)
		if worst := worstDifference(exact, portable); worst == 0 || worst > 0.5 {
			t.Errorf("%s: log-probabilities differ from float32's by %v", name, worst)
		}
		eachLevel(t, func(t *testing.T, l *level) {
			s, sp, _ = m.open(t, 1, l.name)
			want := run(t, s, sp, prompts, 20)
			// Sums in another order round some activation the other way, by 2^-8 of it: 0.05 seen.
			if worst := worstDifference(portable, want); worst > 0.2 {
				t.Errorf("%s: log-probabilities differ from portable Go's by %v", name, worst)
			}
			s, sp, _ = m.open(t, 3, l.name)
			if got := run(t, s, sp, prompts, 20); worstDifference(got, want) != 0 {
				t.Fatalf("%s, three threads: %v, want %v", name, got, want)
			}
			tolerance := 0.0
			if l.kernels.pairs != nil {
				tolerance = 0.2
			}
			for _, chunk := range []int{1, 3} {
				for i, p := range prompts {
					got := run(t, s, sp, [][]int32{p}, chunk)
					if worst := worstDifference(got, want[i:i+1]); !(worst <= tolerance) {
						t.Fatalf("%s, chunks of %d: log-probabilities differ by %v", name, chunk, worst)
					}
				}
			}
		})
	}
}

// Three terms are a float32: where they are multiplied so, only the sums' order differs.
func TestBF16x3Session(t *testing.T) {
	prompts := [][]int32{{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4}, {100, 0, 17}}
	for name, m := range bf16Shapes() {
		eachLevel(t, func(t *testing.T, l *level) {
			s, sp, _ := m.open(t, 2, l.name)
			exact := run(t, s, sp, prompts, 20)
			m := m
			m.round = BF16x3
			s, sp, _ = m.open(t, 3, l.name)
			tolerance := 0.0
			if l.kernels.pairs != nil {
				tolerance = 2e-5 // float32's own error in these sums; BF16 is off by a thousand times that
			}
			for _, chunk := range []int{3, 20} {
				if worst := worstDifference(exact, run(t, s, sp, prompts, chunk)); !(worst <= tolerance) {
					t.Errorf("%s, chunks of %d: log-probabilities differ by %v", name, chunk, worst)
				}
			}
		})
	}
}

func worstDifference(a, b [][]float32) (worst float64) {
	for i := range a {
		for j := range a[i] {
			worst = max(worst, math.Abs(float64(a[i][j]-b[i][j])))
		}
	}
	return worst
}

func TestBF16StepAllocatesNothing(t *testing.T) {
	b := &device.Batch{
		Tokens: []int32{5, 6, 7}, Positions: []int32{3, 0, 1},
		Seqs:   []device.Seq{{Count: 1, Full: pages(0, 4), Window: pages(0, 4)}, {First: 1, Count: 2, Full: pages(1, 4), Window: pages(1, 4)}},
		Logits: []device.LogitRow{{Row: 0, Target: -1, Sample: &device.Sampling{}}, {Row: 2, Target: 4}},
	}
	out := make([]device.Output, 2)
	eachLevel(t, func(t *testing.T, l *level) {
		for name, m := range bf16Shapes() {
			for _, m.round = range []Activations{BFloat16, BF16x3} {
				s, sp, _ := m.open(t, 2, l.name)
				if n := testing.AllocsPerRun(20, func() { step(t, s, sp, b, out) }); n != 0 {
					t.Errorf("a step of %s allocates %v times", name, n)
				}
			}
		}
	})
}

func TestBF16Notes(t *testing.T) {
	for round, want := range map[Activations]string{
		BFloat16: "activations: bfloat16 but for the router's, multiplied as float32, ",
		BF16x3:   "activations: float32, since this processor has no AMX: ",
	} {
		m := blockShape()
		m.round = round
		s, _, _ := m.open(t, 1, "portable")
		if got := s.(device.Noter).Notes(); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("notes %q, want %q...", got, want)
		}
	}
}
