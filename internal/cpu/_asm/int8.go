package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Products of rounded activations with weights that are integers (package cpu, int8.go). A step is two blocks of 32 weights
// and as many activations, a block in each lane: VPMADDUBSW adds pairs of products of bytes in 16 bits, VPMADDWD pairs
// of these in 32, so four lanes hold a block's sum, exactly. It is made a float32, which loses nothing below 2^24, and
// joins one of eight running sums, times the product of both scales. These are added as reduce does, one order for any
// number of rows.

// Places in package cpu's int8Step.
const (
	stepLow   = 0
	stepHigh  = 32
	stepBias  = 64
	stepScale = 96
	stepBytes = 128
)

// int8Bias is package cpu's.
const int8Bias = 16

// integers is a format whose weights are integers times a scale for every 32.
type integers struct {
	name          string
	bytes, scales int // of a step, as in format
	setup         func() intConstants
	// decode loads a step's weights: the first 16 of either block, the last 16, and the scales, one in each lane.
	decode func(c intConstants, data, scale Mem) intWeights
	// sums gives the sums of pairs of products with the activations at x, four of 32 bits in a lane.
	sums func(c intConstants, w intWeights, x func(at int) Mem) VecVirtual
}

type intConstants struct {
	nibble, table, ones VecVirtual
	halves              Register
}

type intWeights struct{ low, high, scale VecVirtual }

func int8Kernels() {
	for _, f := range []integers{
		int8MXFP4("MXFP4", 32, 2, apart), int8MXFP4("MXFP4GGML", 34, 0, blocks17), int8MXFP4("MXFP4Ollama", 34, 0, blocks17), int8Q8(),
	} {
		for _, rows := range []int{1, 2, 4} {
			int8Kernel(f, rows)
		}
	}
}

func int8Kernel(f integers, rows int) {
	x, params := make([]Register, rows), ""
	for i := range x {
		params += fmt.Sprintf("x%d *byte, ", i)
	}
	TEXT(fmt.Sprintf("int8%sx%d", f.name, rows), NOSPLIT, "func(y *float32, stride int, "+params+"data *byte, scales *byte, rows int, steps int)")
	Doc(fmt.Sprintf("int8%sx%d multiplies rows of %d*steps weights, one after another in memory, by %d of rounded activations, and writes the", f.name, rows, step, rows),
		"results of each of these stride bytes behind those of the one before. rows and steps are at least 1.")
	Pragma("noescape")
	y, weights := Load(Param("y"), GP64()), Load(Param("rows"), GP64())
	for i := range x {
		x[i] = Load(Param(fmt.Sprintf("x%d", i)), GP64())
	}
	data, scale, steps, at := Mem{Base: Load(Param("data"), GP64())}, Mem{}, GP64(), GP64()
	if f.scales > 0 {
		scale.Base = Load(Param("scales"), GP64())
	}
	c := f.setup()

	Label("row")
	acc := zeroed(rows)
	Load(Param("steps"), steps)
	XORQ(at, at)
	Label("step")
	for p := 0; p < f.bytes; p += 64 {
		PREFETCHT0(data.Offset(ahead + p))
	}
	w := f.decode(c, data, scale)
	for i := range x {
		part := func(disp int) Mem { return Mem{Base: x[i], Index: at, Scale: 1, Disp: disp} }
		sum, s := f.sums(c, w, part), YMM()
		VCVTDQ2PS(sum, sum)
		VMULPS(part(stepScale), w.scale, s)
		VFMADD231PS(sum, s, acc[i])
	}
	ADDQ(U32(stepBytes), at)
	ADDQ(U32(uint32(f.bytes)), data.Base)
	if f.scales > 0 {
		ADDQ(Imm(uint64(f.scales)), scale.Base)
	}
	DECQ(steps)
	JNZ(LabelRef("step"))

	stride, to := Load(Param("stride"), GP64()), GP64()
	MOVQ(y, to)
	for i, a := range acc {
		VMOVSS(format{}.reduce([]VecVirtual{a}), Mem{Base: to})
		if i+1 < rows {
			ADDQ(stride, to)
		}
	}
	ADDQ(Imm(4), y)
	DECQ(weights)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// int8MXFP4: one VPSHUFB finds 32 weights, as twice their value, with int8Bias added: 4 to 28, bytes without a sign, as
// VPMADDUBSW wants its first operand. What was added is taken back by the step's bias, in 32 bits. No sum leaves 16 before: a
// pair of products is at most 2*28*127 = 7112, two of them 14224; 32767 is far.
func int8MXFP4(name string, bytes, scales int, codes func(data, scale Mem) (load func(v VecVirtual), first, second Mem)) integers {
	setup := func() intConstants {
		c := intConstants{nibble: load(global("nibble", fill(0x0F))), ones: load(global("int16_ones", fill(1, 0))), halves: GP64()}
		c.table = load(global("e2m1_above", fill(biasedE2M1()...)))
		LEAQ(NewDataAddr(Symbol{Name: "·halfE8M0"}, 0), c.halves)
		return c
	}
	decode := func(c intConstants, data, scale Mem) intWeights {
		read, first, second := codes(data, scale)
		w := intWeights{YMM(), YMM(), YMM()}
		i, other := GP64(), YMM()
		MOVBQZX(first, i)
		VBROADCASTSS(Mem{Base: c.halves, Index: i, Scale: 4}, w.scale)
		MOVBQZX(second, i)
		VBROADCASTSS(Mem{Base: c.halves, Index: i, Scale: 4}, other)
		VPBLENDD(Imm(0xF0), other, w.scale, w.scale)
		read(w.low)
		VPSRLW(Imm(4), w.low, w.high)
		VPAND(c.nibble, w.low, w.low)
		VPAND(c.nibble, w.high, w.high)
		if name != "MXFP4GGML" { // there a byte holds neighbours, not weights that are 16 apart
			VPUNPCKLBW(w.high, w.low, other)
			VPUNPCKHBW(w.high, w.low, w.high)
			w.low = other
		}
		VPSHUFB(w.low, c.table, w.low)
		VPSHUFB(w.high, c.table, w.high)
		return w
	}
	sums := func(c intConstants, w intWeights, x func(at int) Mem) VecVirtual {
		a, b := YMM(), YMM()
		VPMADDUBSW(x(stepLow), w.low, a)
		VPMADDUBSW(x(stepHigh), w.high, b)
		VPADDW(b, a, a)
		VPMADDWD(c.ones, a, a)
		VPADDD(x(stepBias), a, a)
		return a
	}
	return integers{name: name, bytes: bytes, scales: scales, setup: setup, decode: decode, sums: sums}
}

// biasedE2M1 are the codes' values, doubled, above int8Bias.
func biasedE2M1() (b []byte) {
	for _, v := range []int{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12} {
		b = append(b, byte(int8Bias+v))
	}
	return b
}

// int8Q8: the sign of a weight is given to its activation, since VPMADDUBSW wants one operand without. A pair of products is
// at most 2*128*127 = 32512, below 32768: alone it fits into 16 bits, and nothing may be added to it there.
func int8Q8() integers {
	setup := func() intConstants { return intConstants{ones: load(global("int16_ones", fill(1, 0)))} }
	decode := func(_ intConstants, data, _ Mem) intWeights {
		scale, second := YMM(), XMM()
		VPBROADCASTW(data, scale.AsX())
		VPBROADCASTW(data.Offset(34), second)
		VPUNPCKLQDQ(second, scale.AsX(), second)
		VCVTPH2PS(second, scale)
		return intWeights{lanes(data, 2, 36), lanes(data, 18, 52), scale}
	}
	sums := func(c intConstants, w intWeights, x func(at int) Mem) VecVirtual {
		var half [2]VecVirtual
		for i, weights := range []VecVirtual{w.low, w.high} {
			magnitude := YMM()
			half[i] = YMM()
			VMOVDQU(x(32*i), half[i])
			VPSIGNB(weights, half[i], half[i])
			VPABSB(weights, magnitude)
			VPMADDUBSW(half[i], magnitude, half[i])
			VPMADDWD(c.ones, half[i], half[i])
		}
		VPADDD(half[1], half[0], half[0])
		return half[0]
	}
	return integers{name: "Q8_0", bytes: 68, setup: setup, decode: decode, sums: sums}
}
