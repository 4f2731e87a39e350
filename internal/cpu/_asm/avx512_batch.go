package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// batchSizes are how many rows of activations share the decoding of weights in registers: eight where all of a model but its
// experts may come in the format, since a step of eight sequences has as many rows there.
func (f format) batchSizes() []int {
	switch f.name {
	case "BF16", "F16", "Q8_0":
		return []int{4, 6, 8}
	}
	return []int{4, 6}
}

// batchKernels16 emit one chain of x[i] · w[j] for a few rows of activations and rows of weights as they are stored. What
// many rows would gain by weights that are decoded once and for all, they lose by writing these to the second-level cache
// and reading them back: here the chain of the activations stays in the first-level cache, and weights come through once
// for each chain.
func batchKernels16(all []format) {
	for _, f := range all {
		for _, n := range f.batchSizes() {
			batchKernel16(f, n)
		}
	}
}

// pairs of rows of weights share the loading of activations.
const pair = 2

func batchKernel16(f format, n int) {
	name := f.kernel(fmt.Sprintf("batch%d", n))
	TEXT(name, NOSPLIT, "func(y *[128]float32, sums *float32, x *float32, at *[8]int, data *byte, stride int, scales *byte, scaleStride int, pairs int, steps int, part int, ahead *byte, line int, table *[16]float32)")
	Doc(fmt.Sprintf("%s multiplies a chain of %d rows of activations, at[i] bytes from x, by pairs of rows of weights, stride and", name, n),
		fmt.Sprintf("scaleStride bytes apart: of each %d weights those of a chain, which are the even ones of the half that data and", step),
		"scales begin with or, with part&1, the odd ones. With part&2, sums are added; with part&4, results go to y, sixteen for",
		"each row of activations, otherwise to sums. Each step asks for a line of memory, from ahead on, line bytes apart.")
	Pragma("noescape")
	in := stored{f: f, data: Mem{Base: Load(Param("data"), GP64())}}
	stride := Load(Param("stride"), GP64())
	second := func(m Mem, stride Register) Mem { m.Index, m.Scale = stride, 1; return m }
	var scaleStride Register
	if f.scales > 0 {
		in.scale.Base = Load(Param("scales"), GP64())
		scaleStride = Load(Param("scaleStride"), GP64())
	}
	left, x := GP64(), make([]Register, n)
	Load(Param("steps"), left)
	SHLQ(Imm(6), left)
	ADDQ(left, param("x"))
	at := Load(Param("at"), GP64())
	for i := range x {
		x[i] = GP64()
		MOVQ(Mem{Base: at, Disp: 8 * i}, x[i])
		ADDQ(param("x"), x[i])
	}
	odd, decode := f.quarter()
	TESTQ(U32(1), param("part"))
	JZ(LabelRef("even"))
	odd()
	Label("even")
	ahead := Load(Param("ahead"), GP64())

	Label("pair")
	Load(Param("steps"), left)
	SHLQ(Imm(6), left)
	NEGQ(left)
	acc := zeroed16(pair * n)
	Label("step")
	PREFETCHT1(Mem{Base: ahead})
	ADDQ(param("line"), ahead)
	w := [pair]VecVirtual{decode(in.data, in.scale), decode(second(in.data, stride), second(in.scale, scaleStride))}
	for i := range x {
		v := ZMM()
		VMOVUPS(Mem{Base: x[i], Index: left, Scale: 1}, v)
		for j := range w {
			VFMADD231PS(w[j], v, acc[pair*i+j])
		}
	}
	in.next()
	ADDQ(Imm(64), left)
	JNZ(LabelRef("step"))
	ADDQ(stride, in.data.Base)
	if f.scales > 0 {
		ADDQ(scaleStride, in.scale.Base)
	}

	TESTQ(U32(2), param("part"))
	JZ(LabelRef("first"))
	Load(Param("sums"), left)
	for i, a := range acc {
		VADDPS(Mem{Base: left, Disp: 64 * i}, a, a)
	}
	Label("first")
	TESTQ(U32(4), param("part"))
	JZ(LabelRef("store"))
	Load(Param("y"), left)
	for i := 0; i < n; i += 2 {
		two := reduce16x4(acc[pair*i : pair*(i+2)])
		VMOVLPS(two, Mem{Base: left, Disp: 64 * i})
		VMOVHPS(two, Mem{Base: left, Disp: 64 * (i + 1)})
	}
	ADDQ(Imm(4*pair), param("y"))
	JMP(LabelRef("next"))
	Label("store")
	Load(Param("sums"), left)
	for i, a := range acc {
		VMOVUPS(a, Mem{Base: left, Disp: 64 * i})
	}
	Label("next")
	ADDQ(U32(uint32(64*pair*n)), param("sums"))
	DECQ(param("pairs"))
	JNZ(LabelRef("pair"))
	VZEROUPPER()
	RET()
}

// A quarterOf loads the constants for the even weights of half a step; odd those for the odd ones instead. decode emits a
// step's sixteen.
type quarterOf = func() (odd func(), decode func(data, scale Mem) VecVirtual)

// either loads a constant for each lane, of the even weights, and later of the odd ones.
func either(even, odd string, lane func(l int, k uint32) uint32) (v VecVirtual, load func()) {
	of := func(k uint32) func(int) uint32 { return func(l int) uint32 { return lane(l, k) } }
	return lanes16(even, of(0)), func() { VMOVDQU32(lanes16At(odd, of(1)), v) }
}

// upperWords is a mask of the upper words of 32 bits.
func upperWords() Register {
	bits, k := GP32(), K()
	MOVL(U32(0xAAAAAAAA), bits)
	KMOVD(bits, k)
	return k
}

func quarterBF16() (odd func(), decode func(data, scale Mem) VecVirtual) {
	words := upperWords()
	place, odd := either("even_words", "odd_words", func(l int, k uint32) uint32 { return (2*pairOf(l) + k) << 16 })
	return odd, func(data, _ Mem) VecVirtual {
		v := ZMM()
		VPERMW_Z(data, place, words, v)
		return v
	}
}

func quarterPairs(load func(src Mem, at int, v VecVirtual)) quarterOf {
	return func() (func(), func(data, scale Mem) VecVirtual) {
		place, odd := either("evens", "odds", func(l int, k uint32) uint32 { return 2*pairOf(l) + k })
		return odd, func(data, _ Mem) VecVirtual {
			low, high := ZMM(), ZMM()
			load(data, 0, low)
			load(data, 16, high)
			VPERMT2PS(high, place, low)
			return low
		}
	}
}

// quarterQ8: as halfQ8.
func quarterQ8() (odd func(), decode func(data, scale Mem) VecVirtual) {
	c := q8Constants()
	up, odd := either("up_8", "up_0", func(_ int, k uint32) uint32 { return 8 - 8*k })
	return odd, func(block, _ Mem) VecVirtual {
		i, scale, v := GP64(), ZMM(), ZMM()
		MOVWQZX(block, i)
		VBROADCASTSS(Mem{Base: c.tables, Index: i, Scale: 4}, scale)
		VMOVDQU32(block.Offset(2), v.AsY())
		VPERMW_Z(v, c.place[0], c.words, v)
		VPSLLVD(up, v, v)
		VPANDD(c.upper, v, v)
		VCVTDQ2PS(v, v)
		VMULPS(scale, v, v)
		return v
	}
}

// quarterCodes looks codes up in the table that scaled gives, after words have been put in place.
func quarterCodes(shift func(l int, k uint32) uint32, names [2]string, words func(v VecVirtual), table func(data, scale Mem) VecVirtual, at int) (odd func(), decode func(data, scale Mem) VecVirtual) {
	count, odd := either(names[0], names[1], shift)
	return odd, func(data, scale Mem) VecVirtual {
		t, v := table(data, scale), ZMM()
		VBROADCASTI32X4(data.Offset(at), v)
		words(v)
		VPSRLVD(count, v, v)
		VPERMPS(t, v, v)
		return v
	}
}

func asTheyAre(VecVirtual) {}

// lowFirst: the even weight of a byte is in its lower nibble; highFirst: in its higher one.
func lowFirst(l int, k uint32) uint32  { return uint32(l/4*8) + 4*k }
func highFirst(l int, k uint32) uint32 { return uint32(l/4*8) + 4 - 4*k }

var nibbles = [2]string{"low_nibble", "high_nibble"}

func quarterMXFP4() (func(), func(data, scale Mem) VecVirtual) {
	c := scaledTables()
	return quarterCodes(lowFirst, nibbles, asTheyAre, func(_, scale Mem) VecVirtual { return c.scaled(scale) }, 0)
}

func quarterOllama() (func(), func(data, scale Mem) VecVirtual) {
	c := scaledTables()
	return quarterCodes(lowFirst, nibbles, asTheyAre, func(block, _ Mem) VecVirtual { return c.scaled(block) }, 1)
}

func quarterGGML() (func(), func(data, scale Mem) VecVirtual) {
	c := scaledTables()
	place := lanes16("ggml_words", ggmlWord)
	shift := func(l int, k uint32) uint32 { return ggmlShift(l) + 8*k }
	return quarterCodes(shift, [2]string{"ggml_even", "ggml_odd"}, func(v VecVirtual) { VPERMD(v, place, v) },
		func(block, _ Mem) VecVirtual { return c.scaled(block) }, 1)
}
