package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// mulKernels emit y[i][j] = x[i] · w[j] for one to three rows of activations and four decoded rows of weights: twelve
// sums, three and one registers of operands, seven loads for twelve multiply-adds. Sums can be left in memory between
// calls, so that a wide product is taken panel by panel and a panel of weights stays in the first-level cache.
func mulKernels() {
	for rows := 1; rows <= 3; rows++ {
		mulKernel(rows)
	}
}

func mulKernel(rows int) {
	params := ""
	for i := range rows {
		params += fmt.Sprintf("x%d *float32, ", i)
	}
	TEXT(fmt.Sprintf("mul%dx4", rows), NOSPLIT, fmt.Sprintf(
		"func(y *float32, yStride int, %sw *float32, wStride int, n int, sums *float32, end bool)", params))
	Doc(fmt.Sprintf("mul%dx4 multiplies %d rows of n activations by four rows of weights; strides are in bytes. sums, if not nil, holds", rows, rows),
		fmt.Sprintf("%d registers of eight lanes, to which it adds; y is written where end is true, else the sums are stored back.", 4*rows))
	Pragma("noescape")
	x := make([]Register, rows)
	for i := range x {
		x[i] = Load(Param(fmt.Sprintf("x%d", i)), GP64())
	}
	w, stride, stride3 := Load(Param("w"), GP64()), Load(Param("wStride"), GP64()), GP64()
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	n, sums := Load(Param("n"), GP64()), Load(Param("sums"), GP64())
	acc := zeroed(4 * rows)
	TESTQ(sums, sums)
	JZ(LabelRef("start"))
	for i, a := range acc {
		VMOVUPS(Mem{Base: sums, Disp: 32 * i}, a)
	}
	Label("start")
	SUBQ(Imm(8), n)
	JL(LabelRef("tail"))

	Label("eight")
	v := make([]VecVirtual, rows)
	for i := range v {
		v[i] = YMM()
		VMOVUPS(Mem{Base: x[i]}, v[i])
		ADDQ(Imm(32), x[i])
	}
	for j := range 4 {
		t := YMM()
		VMOVUPS(row(w, stride, stride3, j), t)
		for i := range v {
			VFMADD231PS(t, v[i], acc[4*i+j])
		}
	}
	ADDQ(Imm(32), w)
	SUBQ(Imm(8), n)
	JGE(LabelRef("eight"))

	Label("tail")
	ADDQ(Imm(8), n)
	JZ(LabelRef("done"))
	mask := tailMask(n)
	for i := range x {
		xi := YMM()
		VMASKMOVPS(Mem{Base: x[i]}, mask, xi)
		for j := range 4 {
			t := YMM()
			VMASKMOVPS(row(w, stride, stride3, j), mask, t)
			VFMADD231PS(t, xi, acc[4*i+j])
		}
	}

	Label("done")
	end := Load(Param("end"), GP8())
	TESTB(end, end)
	JZ(LabelRef("keep"))
	y, yStride := Load(Param("y"), GP64()), Load(Param("yStride"), GP64())
	for i := range rows {
		VMOVUPS(reduce4(acc[4*i:4*i+4]), Mem{Base: y})
		if i+1 < rows {
			ADDQ(yStride, y)
		}
	}
	VZEROUPPER()
	RET()

	Label("keep")
	for i, a := range acc {
		VMOVUPS(a, Mem{Base: sums, Disp: 32 * i})
	}
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
