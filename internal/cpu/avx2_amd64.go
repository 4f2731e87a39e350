//go:build !noasm

package cpu

import (
	"strings"

	"golang.org/x/sys/cpu"

	"hearth/internal/dtype"
)

//go:generate go -C _asm run . -out ../avx2_amd64.s -stubs ../avx2_stubs_amd64.go -pkg cpu

// levels lists what can run here, the oracle first, the best last.
func levels() []level {
	return []level{portableLevel(), avx2Level(), avx512Level(), vnniLevel(), amxLevel()}
}

// feature is one that a processor may have. The flags include the system's consent to save the wide registers.
type feature struct {
	name string
	has  bool
}

// missing names the features that are not there.
func missing(all []feature) string {
	var names []string
	for _, f := range all {
		if !f.has {
			names = append(names, f.name)
		}
	}
	if last := len(names) - 1; last > 0 {
		return strings.Join(names[:last], ", ") + " and " + names[last]
	}
	return strings.Join(names, "")
}

func avx2Features() []feature {
	return []feature{{"AVX2", cpu.X86.HasAVX2}, {"FMA", cpu.X86.HasFMA}, {"F16C", cpu.X86.HasF16C}}
}

func avx2Level() level {
	return level{name: "avx2", title: "AVX2", missing: missing(avx2Features()), kernels: kernels{
		order: woven8, direct: avx2Loops.direct, decode: avx2Loops.decode, fours: 24, mul: avx2Loops.mul, int8: avx2Int8,
		scores: avx2Loops.scores, softmax: avx2Softmax, mix: avx2Mix, swiglu: avx2Swiglu, logSumExp: avx2LogSumExp,
	}}
}

var avx2Loops = loops{
	order: woven8,
	// For more it takes less to decode them once and to multiply by three rows at a time.
	few: 4,
	rows: []rowKernel{
		dtype.MXFP4:       {32, 2, dotMXFP4, dotTwoMXFP4, decodeMXFP4},
		dtype.MXFP4GGML:   {34, 0, dotMXFP4GGML, dotTwoMXFP4GGML, decodeMXFP4GGML},
		dtype.MXFP4Ollama: {34, 0, dotMXFP4Ollama, dotTwoMXFP4Ollama, decodeMXFP4Ollama},
		dtype.BF16:        {128, 0, dotBF16, dotTwoBF16, decodeBF16},
		dtype.F16:         {128, 0, dotF16, dotTwoF16, decodeF16},
		dtype.F32:         {256, 0, dotF32, dotTwoF32, decodeF32},
		dtype.Q8_0:        {68, 0, dotQ8_0, dotTwoQ8_0, decodeQ8_0},
	},
	tabled: &rowKernel{32, 32, dotCodesBF16, dotTwoCodesBF16, decodeCodesBF16},
	codes: []codeKernel{
		dtype.F32: {dotCodesF32, dotTwoCodesF32, decodeCodesF32},
		dtype.F16: {dotCodesF16, dotTwoCodesF16, decodeCodesF16},
	},
}

// The values of codes: even entries first, then the odd ones, as tablesBF16 wants them.
var nf4EvenFirst, fp4EvenFirst = evenFirst(&dtype.NF4Table), evenFirst(&dtype.FP4Table)

func evenFirst(t *[16]float32) *[16]float32 {
	var e [16]float32
	for i, v := range t {
		e[i%2*8+i/2] = v
	}
	return &e
}

// mxfp4Tables holds, for every scale, the low bytes of the sixteen values as bfloat16, twice, and then the high ones,
// twice: each value is one of E2M1's eight magnitudes times a power of two, and exact. Read only.
var mxfp4Tables = func() (t [256][64]byte) {
	for e := range t {
		for c, v := range dtype.E2M1 {
			b := dtype.ToBF16(v * dtype.FromE8M0(uint8(e)))
			t[e][c], t[e][16+c] = byte(b), byte(b)
			t[e][32+c], t[e][48+c] = byte(b>>8), byte(b>>8)
		}
	}
	return t
}()

// rows8 takes rows of activations three at a time, and the last two or four in pairs.
func (m *tileMul) rows8(sums, x *float32, at []int, wt *float32, add bool) {
	n := len(at)
	if n == 1 {
		ahead, line := m.ask(1)
		mul1x4(sums, x, &at[0], 1, wt, m.stride, 64*m.lines, add, ahead, line)
		return
	}
	pairs := [3]int{0, 2, 1}[n%3]
	triples := (n - 2*pairs) / 3
	if triples > 0 {
		ahead, line := m.ask(triples)
		mul3x4(sums, x, &at[0], triples, wt, m.stride, 64*m.lines, add, ahead, line)
	}
	if pairs > 0 {
		ahead, line := m.ask(pairs)
		mul2x4(at4(sums, 3*triples*4*8), x, &at[3*triples], pairs, wt, m.stride, 64*m.lines, add, ahead, line)
	}
}

func avx2Mix(a, v, weights []float32, stride, heads, keys, d int) {
	if d%32 != 0 {
		portableMix(a, v, weights, stride, heads, keys, d)
		return
	}
	a, v, _ = a[:heads*d], v[:keys*d], weights[(heads-1)*stride+keys-1]
	for c := 0; c < d; c += 32 {
		for h := 0; h+2 <= heads; h += 2 {
			mix2x32(&a[h*d+c], 4*d, &v[c], 4*d, &weights[h*stride], 4*stride, keys)
		}
		if h := heads - 1; heads%2 > 0 {
			mix1x32(&a[h*d+c], 4*d, &v[c], 4*d, &weights[h*stride], 4*stride, keys)
		}
	}
}
