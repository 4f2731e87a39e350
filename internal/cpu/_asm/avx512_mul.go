package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// mulKernels16 emit one chain of x[i] · w[j] for one to six rows of activations at a time and four decoded rows of weights:
// at most 24 sums, and ten loads for 24 multiply-adds. Half as many loads as multiply-adds are free.
func mulKernels16() {
	for rows := 1; rows <= 6; rows++ {
		mulKernel16(rows)
	}
	reduceKernel("zmmReduceRows", "sixteen", ZMM, reduce16x4)
}

func mulKernel16(rows int) {
	TEXT(fmt.Sprintf("zmmMul%dx4", rows), NOSPLIT,
		"func(sums *float32, x *float32, at *int, times int, w *float32, stride int, bytes int, add bool, ahead *byte, line int)")
	Doc(fmt.Sprintf("zmmMul%dx4 multiplies %d*times rows of bytes/4 activations, at[i] bytes from x, by four rows of weights, stride bytes apart.", rows, rows),
		"sums takes four registers of sixteen lanes for each row of activations; with add, it is added to what is there. Each group",
		"asks for a line of memory, from ahead on, line bytes apart.")
	Pragma("noescape")
	// Pointers go to the ends of rows, and one index counts up to zero for all of them: where two threads share a core, what
	// counts is how many instructions go with the multiply-adds.
	x, w := make([]Register, rows), []Register{Load(Param("w"), GP64()), GP64(), GP64(), GP64()}
	left, stride := Load(Param("bytes"), GP64()), Load(Param("stride"), GP64())
	ADDQ(left, w[0])
	ADDQ(left, param("x"))
	for j := range w[1:] {
		LEAQ(Mem{Base: w[j], Index: stride, Scale: 1}, w[j+1])
	}
	line, ahead := Load(Param("line"), GP64()), Load(Param("ahead"), GP64())

	Label("rows")
	at := Load(Param("at"), GP64())
	for i := range x {
		x[i] = GP64()
		MOVQ(Mem{Base: at, Disp: 8 * i}, x[i])
		ADDQ(param("x"), x[i])
	}
	ADDQ(Imm(uint64(8*rows)), param("at"))
	Load(Param("bytes"), left)
	NEGQ(left)
	acc := zeroed16(4 * rows)
	Label("group")
	PREFETCHT1(Mem{Base: ahead})
	ADDQ(line, ahead)
	weights := make([]VecVirtual, 4)
	for j := range weights {
		weights[j] = ZMM()
		VMOVUPS(Mem{Base: w[j], Index: left, Scale: 1}, weights[j])
	}
	for i := range x {
		v := ZMM()
		VMOVUPS(Mem{Base: x[i], Index: left, Scale: 1}, v)
		for j := range weights {
			VFMADD231PS(weights[j], v, acc[4*i+j])
		}
	}
	ADDQ(Imm(64), left)
	JNZ(LabelRef("group"))

	sums := Load(Param("sums"), GP64())
	CMPB(param("add"), Imm(0))
	JEQ(LabelRef("store"))
	for i, a := range acc {
		VADDPS(Mem{Base: sums, Disp: 64 * i}, a, a)
	}
	Label("store")
	for i, a := range acc {
		VMOVUPS(a, Mem{Base: sums, Disp: 64 * i})
	}
	ADDQ(U32(uint32(256*rows)), param("sums"))
	DECQ(param("times"))
	JNZ(LabelRef("rows"))
	VZEROUPPER()
	RET()
}

// param is where a parameter lies: it is used there, for want of registers.
func param(name string) Mem {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return p.Addr
}
