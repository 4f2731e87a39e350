package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// bitsandbytes' NF4 and FP4: a table of sixteen float32 times a block's scale, rounded to the tensor's own type, is the
// table of the block. Rounded to bfloat16, the usual case, it becomes two tables of bytes, as for MXFP4. Otherwise it
// fills two registers of float32: a code's lower three bits pick in both, its fourth chooses between them.

// A rounding is how products of table and scale are rounded, and how codes are looked up in what results.
type rounding struct {
	name  string
	setup func() constants
	// table makes the block's table from the sixteen products.
	table func(c constants, low, high VecVirtual) (VecVirtual, VecVirtual)
	// lookUp decodes the 32 codes of 16 bytes.
	lookUp func(c constants, codes Mem, low, high VecVirtual, emit func(group int, v VecVirtual))
}

func roundings() []rounding {
	wide := func() constants { return constants{shifts: codeShifts()} }
	return []rounding{
		{"F32", wide, func(_ constants, low, high VecVirtual) (VecVirtual, VecVirtual) { return low, high }, lookUpWide},
		{"F16", wide, roundF16, lookUpWide},
		{"BF16", byteConstants, roundBF16, func(c constants, codes Mem, low, high VecVirtual, emit func(int, VecVirtual)) {
			a, b := YMM(), YMM() // unpack uses its tables up
			VMOVDQA(low, a)
			VMOVDQA(high, b)
			unpack(c, highFirst, codes, a, b, emit)
		}},
	}
}

func roundF16(_ constants, low, high VecVirtual) (VecVirtual, VecVirtual) {
	for _, v := range []VecVirtual{low, high} {
		h := XMM()
		VCVTPS2PH(Imm(0), v, h) // to nearest, ties to even
		VCVTPH2PS(h, v)
	}
	return low, high
}

// highFirst is the order of pairs with the high nibble in front.
var highFirst = nibbles{pairs.name, pairs.spread, 0x55}

func byteConstants() constants {
	return constants{
		spread: load(global("spread_pairs", pairs.spread[:])),
		nibble: load(global("nibble", fill(0x0F))),
		upper:  load(global("upper", fill(0, 0, 0xFF, 0xFF))),
	}
}

// roundBF16 rounds to the nearest bfloat16, ties to even, and splits the sixteen results into low and high bytes, both
// lanes alike. The table comes with its even entries first, so that its halves interleave into their order. A NaN has
// an empty payload, to which half a unit may be added.
func roundBF16(_ constants, even, odd VecVirtual) (VecVirtual, VecVirtual) {
	for _, v := range []VecVirtual{even, odd} {
		last := YMM()
		VPSRLD(Imm(16), v, last)
		VPAND(global32("one", 1), last, last)
		VPADDD(last, v, v)
		VPADDD(global32("below_half", 0x7FFF), v, v)
	}
	VPSRLD(Imm(16), even, even)
	VPBLENDW(Imm(0xAA), odd, even, even) // entries 0-7 in the lower lane, 8-15 in the upper one
	VPSRLW(Imm(8), even, odd)
	VPAND(global("low_bytes", fill(0xFF, 0)), even, even)
	VPACKUSWB(odd, even, even)
	low, high := YMM(), YMM()
	VPERMQ(Imm(0x88), even, low)
	VPERMQ(Imm(0xDD), even, high)
	return low, high
}

func global32(name string, bits uint32) Mem {
	return global(name, fill(byte(bits), byte(bits>>8), byte(bits>>16), byte(bits>>24)))
}

// codeShifts bring the codes of a 32-bit word to the lower end: high nibble first.
func codeShifts() VecVirtual {
	var b []byte
	for _, s := range []byte{4, 0, 12, 8, 20, 16, 28, 24} {
		b = append(b, s, 0, 0, 0)
	}
	return load(global("code_shifts", b))
}

// blockTable is the table under the scale that lies at scale.
func blockTable(r rounding, c constants, table Register, scale Mem) (low, high VecVirtual) {
	s := YMM()
	low, high = YMM(), YMM()
	VBROADCASTSS(scale, s)
	VMULPS(Mem{Base: table}, s, low)
	VMULPS(Mem{Base: table, Disp: 32}, s, high)
	return r.table(c, low, high)
}

func lookUpWide(c constants, codes Mem, low, high VecVirtual, emit func(int, VecVirtual)) {
	for g := range 4 {
		v, pick, a, b := YMM(), YMM(), YMM(), YMM()
		VPBROADCASTD(codes.Offset(4*g), v)
		VPSRLVD(c.shifts, v, v)
		VPSLLD(Imm(28), v, pick)
		VPERMPS(low, v, a)
		VPERMPS(high, v, b)
		VBLENDVPS(pick, b, a, a)
		emit(g, a)
	}
}

func dotCodes(r rounding) {
	TEXT("dotCodes"+r.name, NOSPLIT, "func(y *float32, x *float32, table *[16]float32, data *byte, stride int, scales *float32, scaleStride int, blocks int, eights int, ahead int)")
	Doc("dotCodes"+r.name+" multiplies four rows of blocks of 8*eights codes of four bits each by x. Scales are float32, scaleStride",
		"bytes from row to row, a NaN among them the plain one; table times scale is rounded to "+r.name+". For BF16 the even",
		"entries of the table come first.")
	Pragma("noescape")
	x, table := Load(Param("x"), GP64()), Load(Param("table"), GP64())
	data, stride, stride3 := Load(Param("data"), GP64()), Load(Param("stride"), GP64()), GP64()
	scale := Load(Param("scales"), GP64())
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	ahead, blocks := Load(Param("ahead"), GP64()), Load(Param("blocks"), GP64())
	ADDQ(data, ahead)
	c, acc := r.setup(), zeroed(4)

	Label("block")
	at := GP64()
	MOVQ(scale, at)
	left := GP64()
	for i := range 4 {
		low, high := blockTable(r, c, table, Mem{Base: at})
		if i < 3 {
			t := Load(Param("scaleStride"), GP64())
			ADDQ(t, at)
		}
		p, xp := GP64(), GP64()
		LEAQ(row(data, stride, stride3, i), p)
		MOVQ(x, xp)
		Load(Param("eights"), left)
		loop := r.name + string(rune('a'+i))
		Label(loop)
		r.lookUp(c, Mem{Base: p}, low, high, func(g int, v VecVirtual) {
			VFMADD231PS(Mem{Base: xp, Disp: 32 * g}, v, acc[i])
		})
		ADDQ(Imm(16), p)
		ADDQ(U32(128), xp)
		SUBQ(Imm(4), left)
		JNZ(LabelRef(loop))
		if i == 3 {
			MOVQ(p, data)
			SUBQ(stride3, data)
			MOVQ(xp, x)
		}
	}
	// Two lines ahead serve the 128 bytes that four rows of a usual block of 64 have.
	PREFETCHT0(Mem{Base: ahead})
	PREFETCHT0(Mem{Base: ahead, Disp: 64})
	ADDQ(U32(128), ahead)
	ADDQ(Imm(4), scale)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VMOVUPS(reduce4(acc), Mem{Base: Load(Param("y"), GP64())})
	VZEROUPPER()
	RET()
}

func decodeCodes(r rounding) {
	TEXT("decodeCodes"+r.name, NOSPLIT, "func(dst *float32, table *[16]float32, data *byte, scales *float32, blocks int, eights int)")
	Doc("decodeCodes" + r.name + " writes consecutive blocks of 8*eights codes of four bits as float32; table times scale is rounded to " + r.name + ".")
	Pragma("noescape")
	dst, table, data := Load(Param("dst"), GP64()), Load(Param("table"), GP64()), Load(Param("data"), GP64())
	scale, blocks := Load(Param("scales"), GP64()), Load(Param("blocks"), GP64())
	left, c := GP64(), r.setup()
	Label("block")
	low, high := blockTable(r, c, table, Mem{Base: scale})
	Load(Param("eights"), left)
	Label("word")
	r.lookUp(c, Mem{Base: data}, low, high, func(g int, v VecVirtual) {
		VMOVUPS(v, Mem{Base: dst, Disp: 32 * g})
	})
	ADDQ(Imm(16), data)
	ADDQ(U32(128), dst)
	SUBQ(Imm(4), left)
	JNZ(LabelRef("word"))
	ADDQ(Imm(4), scale)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// scaleKernels bring a block's scales into the form that the loops above want.
func scaleKernels() {
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
