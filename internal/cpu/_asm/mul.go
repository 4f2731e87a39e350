package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// mulKernels emit one chain of x[i] · w[j] for rows of activations, one to three at a time, and four decoded rows of
// weights: twelve sums, three and one registers of operands, seven loads for twelve multiply-adds. A chain of four rows
// of weights stays in the first-level cache while the rows of activations pass.
func mulKernels() {
	for rows := 1; rows <= 3; rows++ {
		mulKernel(rows)
	}
	reduceKernel("reduceRows", "eight", YMM, reduce4)
}

func mulKernel(rows int) {
	TEXT(fmt.Sprintf("mul%dx4", rows), NOSPLIT,
		"func(sums *float32, x *float32, at *int, times int, w *float32, stride int, bytes int, add bool, ahead *byte, line int)")
	Doc(fmt.Sprintf("mul%dx4 multiplies %d*times rows of bytes/4 activations, at[i] bytes from x, by four rows of weights, stride bytes apart.", rows, rows),
		"sums takes four registers of eight lanes for each row of activations; with add, it is added to what is there. bytes is a",
		"multiple of 64; each 64 ask for a line of memory, from ahead on, line bytes apart.")
	Pragma("noescape")
	sums, base, at, times := Load(Param("sums"), GP64()), Load(Param("x"), GP64()), Load(Param("at"), GP64()), Load(Param("times"), GP64())
	// Pointers go to the ends of rows, and one index counts up to zero for all of them: where two threads share a core, what
	// counts is how many instructions go with the multiply-adds.
	x, w := make([]Register, rows), []Register{Load(Param("w"), GP64()), GP64(), GP64(), GP64()}
	left, stride := Load(Param("bytes"), GP64()), Load(Param("stride"), GP64())
	ADDQ(left, w[0])
	ADDQ(left, base)
	for j := range w[1:] {
		LEAQ(Mem{Base: w[j], Index: stride, Scale: 1}, w[j+1])
	}
	line, ahead := Load(Param("line"), GP64()), Load(Param("ahead"), GP64())

	Label("rows")
	for i := range x {
		x[i] = GP64()
		MOVQ(Mem{Base: at, Disp: 8 * i}, x[i])
		ADDQ(base, x[i])
	}
	Load(Param("bytes"), left)
	NEGQ(left)
	acc := zeroed(4 * rows)
	step := func(disp int) {
		v := make([]VecVirtual, rows)
		for i := range v {
			v[i] = YMM()
			VMOVUPS(Mem{Base: x[i], Index: left, Scale: 1, Disp: disp}, v[i])
		}
		for j := range w {
			t := YMM()
			VMOVUPS(Mem{Base: w[j], Index: left, Scale: 1, Disp: disp}, t)
			for i := range v {
				VFMADD231PS(t, v[i], acc[4*i+j])
			}
		}
	}
	Label("two")
	PREFETCHT1(Mem{Base: ahead})
	ADDQ(line, ahead)
	step(0)
	step(32)
	ADDQ(Imm(64), left)
	JNZ(LabelRef("two"))

	add := Load(Param("add"), GP8())
	TESTB(add, add)
	JZ(LabelRef("store"))
	for i, a := range acc {
		VADDPS(Mem{Base: sums, Disp: 32 * i}, a, a)
	}
	Label("store")
	for i, a := range acc {
		VMOVUPS(a, Mem{Base: sums, Disp: 32 * i})
	}
	ADDQ(U32(uint32(128*rows)), sums)
	ADDQ(Imm(uint64(8*rows)), at)
	DECQ(times)
	JNZ(LabelRef("rows"))
	VZEROUPPER()
	RET()
}

// reduceKernel emits the sums of four registers' lanes, row after row.
func reduceKernel(name, lanes string, register func() VecVirtual, reduce func([]VecVirtual) Op) {
	TEXT(name, NOSPLIT, "func(y *float32, stride int, sums *float32, rows int)")
	Doc(fmt.Sprintf("%s adds the %s lanes of four sums a row, and writes four results a row, rows of y stride bytes apart.", name, lanes))
	Pragma("noescape")
	y, stride := Load(Param("y"), GP64()), Load(Param("stride"), GP64())
	sums, rows := Load(Param("sums"), GP64()), Load(Param("rows"), GP64())
	Label("row")
	acc, size := make([]VecVirtual, 4), 0
	for i := range acc {
		acc[i] = register()
		VMOVUPS(Mem{Base: sums, Disp: size}, acc[i])
		size += int(acc[i].Size())
	}
	VMOVUPS(reduce(acc), Mem{Base: y})
	ADDQ(U32(uint32(size)), sums)
	ADDQ(stride, y)
	DECQ(rows)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// tailMask selects the first n lanes, 0 < n < 8.
func tailMask(n Register) VecVirtual {
	var b []byte
	for i := range 64 {
		b = append(b, byte(0xFF*(1-i/32)))
	}
	at := GP64()
	LEAQ(global("tail_mask", b).Offset(32), at)
	mask, back := YMM(), GP64()
	MOVQ(n, back)
	NEGQ(back)
	VMOVDQU(Mem{Base: at, Index: back, Scale: 4}, mask)
	return mask
}
