package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// bitsandbytes' NF4 and FP4: a table of sixteen float32 times a block's scale, rounded to the tensor's own type, is the
// table of the block. It fills two registers; a code's lower three bits pick in both, its fourth chooses between them.

// A rounding is how a product of table and scale is rounded.
type rounding struct {
	name  string
	round func(v VecVirtual)
}

func roundings() []rounding {
	return []rounding{
		{"F32", func(VecVirtual) {}},
		{"BF16", roundBF16},
		{"F16", func(v VecVirtual) {
			h := XMM()
			VCVTPS2PH(Imm(0), v, h) // to nearest, ties to even
			VCVTPH2PS(h, v)
		}},
	}
}

// roundBF16 rounds to the nearest bfloat16, ties to even, and keeps NaN a NaN.
func roundBF16(v VecVirtual) {
	odd, nan := YMM(), YMM()
	VCMPPS(Imm(3), v, v, nan) // unordered
	VPSRLD(Imm(16), v, odd)
	VPAND(global32("one", 1), odd, odd)
	VPADDD(odd, v, v)
	VPADDD(global32("below_half", 0x7FFF), v, v)
	VPAND(global32("upper", 0xFFFF0000), v, v)
	VPOR(nan, v, v)
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
func blockTable(r rounding, table Register, scale Mem) (low, high VecVirtual) {
	s := YMM()
	low, high = YMM(), YMM()
	VBROADCASTSS(scale, s)
	VMULPS(Mem{Base: table}, s, low)
	VMULPS(Mem{Base: table, Disp: 32}, s, high)
	r.round(low)
	r.round(high)
	return low, high
}

// lookUp decodes the eight codes of the 32-bit word at codes.
func lookUp(codes Mem, shifts, low, high VecVirtual) VecVirtual {
	v, pick := YMM(), YMM()
	VPBROADCASTD(codes, v)
	VPSRLVD(shifts, v, v)
	VPSLLD(Imm(28), v, pick)
	a, b := YMM(), YMM()
	VPERMPS(low, v, a)
	VPERMPS(high, v, b)
	VBLENDVPS(pick, b, a, a)
	return a
}

func dotCodes(r rounding) {
	TEXT("dotCodes"+r.name, NOSPLIT, "func(y *float32, x *float32, table *[16]float32, data *byte, stride int, scales *byte, scaleStride int, blocks int, eights int, ahead int)")
	Doc("dotCodes"+r.name+" multiplies four rows of blocks of 8*eights codes of four bits each by x. Scales are float32, scaleStride",
		"bytes from row to row; table times scale is rounded to "+r.name+".")
	Pragma("noescape")
	x, table := Load(Param("x"), GP64()), Load(Param("table"), GP64())
	data, stride, stride3 := Load(Param("data"), GP64()), Load(Param("stride"), GP64()), GP64()
	scale := Load(Param("scales"), GP64())
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	ahead, blocks := Load(Param("ahead"), GP64()), Load(Param("blocks"), GP64())
	ADDQ(data, ahead)
	shifts, acc := codeShifts(), zeroed(4)

	Label("block")
	at := GP64()
	MOVQ(scale, at)
	left := GP64()
	for i := range 4 {
		low, high := blockTable(r, table, Mem{Base: at})
		if i < 3 {
			t := Load(Param("scaleStride"), GP64())
			ADDQ(t, at)
		}
		// Pairs of words: one line of memory to come for every 64 bytes of four rows.
		p, xp := GP64(), GP64()
		LEAQ(row(data, stride, stride3, i), p)
		MOVQ(x, xp)
		Load(Param("eights"), left)
		loop := r.name + string(rune('a'+i))
		Label(loop)
		for g := range 4 {
			v := lookUp(Mem{Base: p, Disp: 4 * g}, shifts, low, high)
			VFMADD231PS(Mem{Base: xp, Disp: 32 * g}, v, acc[i])
		}
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
	TEXT("decodeCodes"+r.name, NOSPLIT, "func(dst *float32, table *[16]float32, data *byte, scales *byte, blocks int, eights int)")
	Doc("decodeCodes" + r.name + " writes consecutive blocks of 8*eights codes of four bits as float32; table times scale is rounded to " + r.name + ".")
	Pragma("noescape")
	dst, table, data := Load(Param("dst"), GP64()), Load(Param("table"), GP64()), Load(Param("data"), GP64())
	scale, blocks := Load(Param("scales"), GP64()), Load(Param("blocks"), GP64())
	left, shifts := GP64(), codeShifts()
	Label("block")
	low, high := blockTable(r, table, Mem{Base: scale})
	Load(Param("eights"), left)
	Label("word")
	VMOVUPS(lookUp(Mem{Base: data}, shifts, low, high), Mem{Base: dst})
	ADDQ(Imm(4), data)
	ADDQ(Imm(32), dst)
	DECQ(left)
	JNZ(LabelRef("word"))
	ADDQ(Imm(4), scale)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}
