package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Every sum of products is taken in one order, whichever kernel takes it: lane l of eight adds elements l, l+8, l+16, ...
// one fused multiply-add after the other, and reduce4 adds the lanes. So a result does not depend on how many rows a
// batch has.

// dotKernels emit y[j] = x · row j for four rows in the format of the checkpoint. Four rows keep four chains of
// multiply-adds in flight; their bytes are four streams of which the processor's prefetcher sees only starts, so the
// kernel itself asks for the four rows that come after, line by line.
func dotKernels() {
	for _, f := range formats() {
		dotKernel(f)
	}
	for _, r := range roundings() {
		dotCodes(r)
	}
}

func dotKernel(f format) {
	TEXT("dot"+f.name, NOSPLIT, "func(y *float32, x *float32, data *byte, stride int, scales *byte, scaleStride int, blocks int, ahead int)")
	Doc(fmt.Sprintf("dot%s multiplies four rows, stride bytes apart, of 32*blocks weights each by x and writes four results.", f.name),
		"ahead is the distance in bytes at which memory is asked for before its time.")
	Pragma("noescape")
	x, data, stride := Load(Param("x"), GP64()), Load(Param("data"), GP64()), Load(Param("stride"), GP64())
	stride3 := GP64()
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	var scale, scaleStride, scaleStride3 Register
	if f.apart {
		scale, scaleStride = Load(Param("scales"), GP64()), Load(Param("scaleStride"), GP64())
		scaleStride3 = GP64()
		LEAQ(Mem{Base: scaleStride, Index: scaleStride, Scale: 2}, scaleStride3)
	}
	ahead := Load(Param("ahead"), GP64())
	ADDQ(data, ahead)
	blocks := Load(Param("blocks"), GP64())
	c := f.setup()
	acc := zeroed(4)

	Label("block")
	for p := 0; p < 4*f.bytes; p += 64 {
		PREFETCHT0(Mem{Base: ahead, Disp: p})
	}
	ADDQ(U32(4*f.bytes), ahead)
	for r := range 4 {
		var s Mem
		if f.apart {
			s = row(scale, scaleStride, scaleStride3, r)
		}
		f.decode(c, row(data, stride, stride3, r), s, func(g int, v VecVirtual) {
			VFMADD231PS(Mem{Base: x, Disp: 32 * g}, v, acc[r])
		})
	}
	ADDQ(U32(128), x)
	ADDQ(U32(f.bytes), data)
	if f.apart {
		INCQ(scale)
	}
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VMOVUPS(reduce4(acc), Mem{Base: Load(Param("y"), GP64())})
	VZEROUPPER()
	RET()
}

// row addresses the same place in row r of four.
func row(base, stride, stride3 Register, r int) Mem {
	switch r {
	case 1, 2:
		return Mem{Base: base, Index: stride, Scale: uint8(r)}
	case 3:
		return Mem{Base: base, Index: stride3, Scale: 1}
	}
	return Mem{Base: base}
}

func zeroed(n int) []VecVirtual {
	v := make([]VecVirtual, n)
	for i := range v {
		v[i] = YMM()
		VXORPS(v[i], v[i], v[i])
	}
	return v
}

// reduce4 adds the eight lanes of each of four registers: l and l+4 first, then neighbours, then pairs.
func reduce4(acc []VecVirtual) Op {
	for _, a := range acc {
		t := XMM()
		VEXTRACTF128(Imm(1), a, t)
		VADDPS(t, a.AsX(), a.AsX())
	}
	a, b := acc[0].AsX(), acc[2].AsX()
	VHADDPS(acc[1].AsX(), a, a)
	VHADDPS(acc[3].AsX(), b, b)
	VHADDPS(b, a, a)
	return a
}

// decodeKernels emit dst = the weights of consecutive blocks, bit for bit as dtype decodes them.
func decodeKernels() {
	for _, f := range formats() {
		decodeKernel(f)
	}
	for _, r := range roundings() {
		decodeCodes(r)
	}
}

func decodeKernel(f format) {
	TEXT("decode"+f.name, NOSPLIT, "func(dst *float32, data *byte, scales *byte, blocks int)")
	Doc(fmt.Sprintf("decode%s writes 32*blocks consecutive weights as float32.", f.name))
	Pragma("noescape")
	dst, data := Load(Param("dst"), GP64()), Load(Param("data"), GP64())
	var scale Mem
	if f.apart {
		scale = Mem{Base: Load(Param("scales"), GP64())}
	}
	blocks := Load(Param("blocks"), GP64())
	c := f.setup()
	Label("block")
	f.decode(c, Mem{Base: data}, scale, func(g int, v VecVirtual) {
		VMOVUPS(v, Mem{Base: dst, Disp: 32 * g})
	})
	ADDQ(U32(128), dst)
	ADDQ(U32(f.bytes), data)
	if f.apart {
		INCQ(scale.Base)
	}
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}
