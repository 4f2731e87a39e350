package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// codeFormats are bitsandbytes' NF4 and FP4, the first element of a byte in its high nibble: a table of sixteen float32
// times a step's scale, rounded to the tensor's own type, is the table of the step. Rounded to bfloat16, the usual case,
// it becomes two tables of bytes, as for MXFP4; a kernel of its own makes those of many rows. Otherwise it fills two
// registers of float32: a code's lower three bits pick in both, its fourth chooses between them.
func codeFormats() []format {
	wide := func(name string, round func(VecVirtual)) format {
		setup := func() constants { return constants{tables: Load(Param("table"), GP64())} }
		return format{name: "Codes" + name, bytes: 32, scales: 4, table: true, setup: setup, decode: lookUpWide(round)}
	}
	return []format{
		wide("F32", func(VecVirtual) {}), wide("F16", roundF16),
		lookedUp(format{name: "CodesBF16", bytes: 32, scales: 32, setup: wordConstants, fetch: fetchCodes, widen: widenPairs(false)}),
	}
}

func roundF16(v VecVirtual) {
	h := XMM()
	VCVTPS2PH(Imm(0), v, h) // to nearest, ties to even
	VCVTPH2PS(h, v)
}

// fetchCodes finds the tables where tablesBF16 left them.
func fetchCodes(c constants, data, tables Mem, words []VecVirtual) []func() {
	v, low, high := YMM(), YMM(), YMM()
	return append([]func(){
		func() { VMOVDQU(data, v) },
		func() { VBROADCASTI128(tables, low) },
		func() { VBROADCASTI128(tables.Offset(16), high) },
	}, lookUp(c, v, low, high, words, true)...)
}

// tablesKernels round to the nearest bfloat16, ties to even. The table comes with its even entries first, so that its
// halves interleave into their order. A NaN has an empty payload, to which half a unit may be added.
func tablesKernels() {
	TEXT("tablesBF16", NOSPLIT, "func(dst *[32]byte, table *[16]float32, scales *float32, n int)")
	Doc("tablesBF16 writes the low and then the high bytes of table times each of n scales, rounded to bfloat16. The even",
		"entries of the table come first; a NaN among the scales is the plain one.")
	Pragma("noescape")
	scales := Load(Param("scales"), GP64())
	tablesLoop(func(s VecVirtual) {
		VBROADCASTSS(Mem{Base: scales}, s)
		ADDQ(Imm(4), scales)
	})

	TEXT("nestedTablesBF16", NOSPLIT, "func(dst *[32]byte, table *[16]float32, codes *byte, n int, values *[256]float32, nested float32, offset float32)")
	Doc("nestedTablesBF16 is tablesBF16 for the scales values[code]*nested + offset, rounded twice; nested and offset are finite.")
	Pragma("noescape")
	codes, values := Load(Param("codes"), GP64()), Load(Param("values"), GP64())
	nested, offset := broadcast("nested"), broadcast("offset")
	tablesLoop(func(s VecVirtual) {
		code := GP64()
		MOVBQZX(Mem{Base: codes}, code)
		INCQ(codes)
		VBROADCASTSS(Mem{Base: values, Index: code, Scale: 4}, s)
		VMULPS(nested, s, s)
		VADDPS(offset, s, s)
	})
}

func tablesLoop(next func(scale VecVirtual)) {
	dst, table, n := Load(Param("dst"), GP64()), Load(Param("table"), GP64()), Load(Param("n"), GP64())
	evens, odds := load(Mem{Base: table}), load(Mem{Base: table, Disp: 32})
	one, below := load(global32("one", 1)), load(global32("below_half", 0x7FFF))
	sortBytes := load(global("bytes_apart", apartBytes()))
	Label("table")
	s, even, odd := YMM(), YMM(), YMM()
	next(s)
	VMULPS(evens, s, even)
	VMULPS(odds, s, odd)
	for _, v := range []VecVirtual{even, odd} {
		last := YMM()
		VPSRLD(Imm(16), v, last)
		VPAND(one, last, last)
		VPADDD(below, v, v)
		VPADDD(last, v, v)
	}
	VPSRLD(Imm(16), even, even)
	VPBLENDW(Imm(0xAA), odd, even, even) // entries 0-7 in the lower lane, 8-15 in the upper one
	VPSHUFB(sortBytes, even, even)
	VPERMQ(Imm(0xD8), even, even)
	VMOVDQU(even, Mem{Base: dst})
	ADDQ(Imm(32), dst)
	DECQ(n)
	JNZ(LabelRef("table"))
	VZEROUPPER()
	RET()
}

// apartBytes brings the low bytes of eight words to the front of a lane.
func apartBytes() []byte {
	var lane []byte
	for i := range 16 {
		lane = append(lane, byte(2*(i%8)+i/8))
	}
	return fill(lane...)
}

func lookUpWide(round func(v VecVirtual)) func(constants, Mem, Mem, func(int, VecVirtual)) {
	return func(c constants, data, scale Mem, emit func(int, VecVirtual)) {
		s, low, high := YMM(), YMM(), YMM()
		VBROADCASTSS(scale, s)
		VMULPS(Mem{Base: c.tables}, s, low)
		VMULPS(Mem{Base: c.tables, Disp: 32}, s, high)
		round(low)
		round(high)
		for u := range 2 {
			codes, w := YMM(), YMM() // two bytes of codes in each word of 32 bits
			VPXOR(codes, codes, codes)
			if u == 0 {
				VPUNPCKLWD(data, codes, w)
			} else {
				VPUNPCKHWD(data, codes, w)
			}
			for i := range 4 {
				p, k := i/2, i%2
				shift := uint64(16 + 8*p + 4*(1-k))
				pick, a, b := YMM(), YMM(), YMM()
				VPSRLD(Imm(shift), w, a)
				VPSLLD(Imm(28-shift), w, pick)
				VPERMPS(high, a, b)
				VPERMPS(low, a, a)
				VBLENDVPS(pick, b, a, a)
				emit(group(k, u, p), a)
			}
		}
	}
}

// scaleKernels bring a block's scales into the form that the loops above want.
func scaleKernels() {
	tablesKernels()

	TEXT("unnest", NOSPLIT, "func(dst *float32, codes *byte, values *[256]float32, nested float32, offset float32, eights int)")
	Doc("unnest writes values[code]*nested + offset, rounded twice, for 8*eights codes; a NaN becomes the plain one.")
	Pragma("noescape")
	dst, codes, values := Load(Param("dst"), GP64()), Load(Param("codes"), GP64()), Load(Param("values"), GP64())
	nested, offset, eights := broadcast("nested"), broadcast("offset"), Load(Param("eights"), GP64())
	plain := load(global32("nan", 0x7FC00000))
	Label("eight")
	at, v, all := YMM(), YMM(), YMM()
	VPMOVZXBD(Mem{Base: codes}, at)
	VPCMPEQD(all, all, all)
	VGATHERDPS(all, Mem{Base: values, Index: at, Scale: 4}, v)
	VMULPS(nested, v, v)
	VADDPS(offset, v, v)
	plainNaN(v, plain)
	VMOVUPS(v, Mem{Base: dst})
	ADDQ(Imm(8), codes)
	ADDQ(Imm(32), dst)
	DECQ(eights)
	JNZ(LabelRef("eight"))
	VZEROUPPER()
	RET()

	TEXT("copyScales", NOSPLIT, "func(dst *float32, src *byte, n int)")
	Doc("copyScales copies n float32; a NaN becomes the plain one.")
	Pragma("noescape")
	copyScales()
}

func copyScales() {
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	plain := load(global32("nan", 0x7FC00000))
	eights(n, func() {
		v := YMM()
		VMOVUPS(Mem{Base: src}, v)
		plainNaN(v, plain)
		VMOVUPS(v, Mem{Base: dst})
	}, func(mask VecVirtual) {
		v := YMM()
		VMASKMOVPS(Mem{Base: src}, mask, v)
		plainNaN(v, plain)
		VMASKMOVPS(v, mask, Mem{Base: dst})
	}, dst, src)
	VZEROUPPER()
	RET()
}

func plainNaN(v, plain VecVirtual) {
	nan := YMM()
	VCMPPS(Imm(3), v, v, nan) // unordered
	VBLENDVPS(nan, plain, v, v)
}
