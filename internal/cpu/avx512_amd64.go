//go:build !noasm

package cpu

import (
	"golang.org/x/sys/cpu"

	"hearth/internal/dtype"
)

//go:generate go -C _asm run . -level avx512 -out ../avx512_amd64.s -stubs ../avx512_stubs_amd64.go -pkg cpu

// avx512Level has loops of its own where weights are decoded and multiplied and where keys and values are. The rest are the
// AVX2 kernels: softmax, SwiGLU and the logits' sum are less than a hundredth of a step.
func avx512Level() level {
	k := avx2Level().kernels
	k.order, k.direct, k.decode, k.mul = woven16, avx512Loops.direct, avx512Loops.decode, avx512Loops.mul
	k.scores, k.mix = avx512Loops.scores, avx512Mix
	return level{name: "avx512", title: "AVX-512", kernels: k, missing: missing(avx512Features())}
}

func avx512Features() []feature {
	return append(avx2Features(),
		feature{"AVX512F", cpu.X86.HasAVX512F}, feature{"AVX512BW", cpu.X86.HasAVX512BW},
		feature{"AVX512DQ", cpu.X86.HasAVX512DQ}, feature{"AVX512VL", cpu.X86.HasAVX512VL})
}

var avx512Loops = loops{
	order: woven16,
	few:   4,
	rows: []rowKernel{
		dtype.MXFP4:       {32, 2, zmmDotMXFP4, zmmDotTwoMXFP4, zmmDecodeMXFP4},
		dtype.MXFP4GGML:   {34, 0, zmmDotMXFP4GGML, zmmDotTwoMXFP4GGML, zmmDecodeMXFP4GGML},
		dtype.MXFP4Ollama: {34, 0, zmmDotMXFP4Ollama, zmmDotTwoMXFP4Ollama, zmmDecodeMXFP4Ollama},
		dtype.BF16:        {128, 0, zmmDotBF16, zmmDotTwoBF16, zmmDecodeBF16},
		dtype.F16:         {128, 0, zmmDotF16, zmmDotTwoF16, zmmDecodeF16},
		dtype.F32:         {256, 0, zmmDotF32, zmmDotTwoF32, zmmDecodeF32},
		dtype.Q8_0:        {68, 0, zmmDotQ8_0, zmmDotTwoQ8_0, zmmDecodeQ8_0},
	},
	codes: []codeKernel{
		dtype.F32:  {zmmDotCodesF32, zmmDotTwoCodesF32, zmmDecodeCodesF32},
		dtype.F16:  {zmmDotCodesF16, zmmDotTwoCodesF16, zmmDecodeCodesF16},
		dtype.BF16: {zmmDotCodesBF16, zmmDotTwoCodesBF16, zmmDecodeCodesBF16},
	},
	// Each group of a batch decodes the weights again: for BF16 an eighth to a quarter of the multiply-adds, so that many
	// groups still beat a decoded tile; for Q8_0 and codes as much as these.
	batches: []batchLoops{
		dtype.MXFP4:       {16, [3]batchKernel{zmmBatch4MXFP4, zmmBatch6MXFP4}},
		dtype.MXFP4GGML:   {16, [3]batchKernel{zmmBatch4MXFP4GGML, zmmBatch6MXFP4GGML}},
		dtype.MXFP4Ollama: {16, [3]batchKernel{zmmBatch4MXFP4Ollama, zmmBatch6MXFP4Ollama}},
		dtype.BF16:        {24, [3]batchKernel{zmmBatch4BF16, zmmBatch6BF16, zmmBatch8BF16}},
		dtype.F16:         {16, [3]batchKernel{zmmBatch4F16, zmmBatch6F16, zmmBatch8F16}},
		dtype.F32:         {16, [3]batchKernel{zmmBatch4F32, zmmBatch6F32}},
		dtype.Q8_0:        {8, [3]batchKernel{zmmBatch4Q8_0, zmmBatch6Q8_0, zmmBatch8Q8_0}},
	},
	codeBatches: []batchLoops{
		dtype.F32:  {8, [3]batchKernel{zmmBatch4CodesF32, zmmBatch6CodesF32}},
		dtype.F16:  {6, [3]batchKernel{zmmBatch4CodesF16, zmmBatch6CodesF16}},
		dtype.BF16: {6, [3]batchKernel{zmmBatch4CodesBF16, zmmBatch6CodesBF16}},
	},
}

// mxfp4Floats holds the sixteen values under every scale. Read only.
var mxfp4Floats = func() (t [256][16]float32) {
	for e := range t {
		for c, v := range dtype.E2M1 {
			t[e][c] = v * dtype.FromE8M0(uint8(e))
		}
	}
	return t
}()

// q8Scales holds what every scale of Q8_0 is, divided by 2^24. Read only.
var q8Scales = func() (t [1 << 16]float32) {
	for h := range t {
		t[h] = dtype.FromF16(uint16(h)) / (1 << 24)
	}
	return t
}()

// zmmMul are the loops for so many rows of activations.
var zmmMul = [...]func(sums, x *float32, at *int, times int, w *float32, stride, bytes int, add bool, ahead *byte, line int){
	1: zmmMul1x4, 2: zmmMul2x4, 3: zmmMul3x4, 4: zmmMul4x4, 5: zmmMul5x4, 6: zmmMul6x4,
}

// rows16 takes up to six rows of activations at a time, as evenly as it goes: seven are four and three.
func (m *tileMul) rows16(sums, x *float32, at []int, wt *float32, add bool) {
	passes := (len(at) + len(zmmMul) - 2) / (len(zmmMul) - 1)
	few, more, done := len(at)/passes, len(at)%passes, 0
	for _, part := range [2]struct{ rows, times int }{{few + 1, more}, {few, passes - more}} {
		if part.times > 0 {
			ahead, line := m.ask(part.times)
			zmmMul[part.rows](at4(sums, done*4*16), x, &at[done], part.times, wt, m.stride, 64*m.lines, add, ahead, line)
			done += part.rows * part.times
		}
	}
}

func avx512Mix(a, v, weights []float32, stride, heads, keys, d int) {
	if d%64 != 0 {
		portableMix(a, v, weights, stride, heads, keys, d)
		return
	}
	a, v, _ = a[:heads*d], v[:keys*d], weights[(heads-1)*stride+keys-1]
	fours := heads &^ 3
	for h := 0; h < fours; h += 4 {
		for c := 0; c < d; c += 64 {
			zmmMix4x64(&a[h*d+c], 4*d, &v[c], 4*d, &weights[h*stride], 4*stride, keys)
		}
	}
	if fours < heads {
		avx2Mix(a[fours*d:], v, weights[fours*stride:], stride, heads-fours, keys, d)
	}
}
