package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func attentionKernels() {
	scoreKernel(1)
	scoreKernel(4)
	for heads := 1; heads <= 2; heads++ {
		mixKernel(heads)
	}
	scaleMaxKernel()
	expSumKernel()
	scaleKernel()
	mostKernel()
}

// runKeys is how many keys have their n-th values side by side: sums are of a key each, and none runs over the lanes of a
// register.
const runKeys = 16

// scoreKernel: with four heads, eight sums, and six loads for eight multiply-adds.
func scoreKernel(heads int) {
	scores(fmt.Sprintf("score%dx16", heads), heads, YMM, func() []VecVirtual { return zeroed(2 * heads) }, func(k []VecVirtual, q Mem, sums []VecVirtual) {
		v := YMM()
		VBROADCASTSS(q, v)
		for i := range k {
			VFMADD231PS(k[i], v, sums[i])
		}
	})
}

// scores emits a kernel that multiplies some heads by a run of keys; multiply takes one value of a head.
func scores(name string, heads int, register func() VecVirtual, sums func() []VecVirtual, multiply func(k []VecVirtual, q Mem, sums []VecVirtual)) {
	TEXT(name, NOSPLIT, "func(y *float32, yStride int, q *float32, qStride int, k *float32, n int)")
	Doc(fmt.Sprintf("%s multiplies %d heads of n values, qStride bytes apart, by sixteen keys, whose first values come first, and writes", name, heads),
		"sixteen results a head, yStride bytes apart. n is at least 1.")
	Pragma("noescape")
	q, stride, k, n := []Register{Load(Param("q"), GP64())}, Load(Param("qStride"), GP64()), Load(Param("k"), GP64()), Load(Param("n"), GP64())
	stride3 := GP64()
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	for h := 4; h < heads; h += 4 {
		q = append(q, GP64())
		LEAQ(Mem{Base: q[h/4-1], Index: stride, Scale: 4}, q[h/4])
	}
	acc := sums()
	each := len(acc) / heads // registers of a run
	Label("value")
	keys := make([]VecVirtual, each)
	for i := range keys {
		keys[i] = register()
		VMOVUPS(Mem{Base: k, Disp: i * 4 * runKeys / each}, keys[i])
	}
	for h := range heads {
		multiply(keys, row(q[h/4], stride, stride3, h%4), acc[each*h:each*(h+1)])
	}
	ADDQ(Imm(4*runKeys), k)
	for i := range q {
		ADDQ(Imm(4), q[i])
	}
	DECQ(n)
	JNZ(LabelRef("value"))
	y := Load(Param("y"), GP64())
	Load(Param("yStride"), stride)
	for h := range heads {
		for i := range each {
			VMOVUPS(acc[each*h+i], Mem{Base: y, Disp: i * 4 * runKeys / each})
		}
		ADDQ(stride, y)
	}
	VZEROUPPER()
	RET()
}

// mixKernel: four registers are the sums of half of a head's slice, for one head or two. Rows of values follow one another,
// so a sum does not depend on where pages end.
func mixKernel(heads int) {
	mixes(fmt.Sprintf("mix%dx32", heads), heads, 32, YMM, func(w Mem, v VecVirtual) { VBROADCASTSS(w, v) })
}

// mixes emits a kernel that adds weighted values to so many sums of some heads.
func mixes(name string, heads, values int, register func() VecVirtual, broadcast func(w Mem, v VecVirtual)) {
	TEXT(name, NOSPLIT, "func(a *float32, aStride int, v *float32, vStride int, weights *float32, wStride int, n int)")
	Doc(fmt.Sprintf("%s adds weights[i] times %d values of row i of v to a, for %d heads. Rows of a, v and weights are so many bytes", name, values, heads),
		"apart. n is at least 1.")
	Pragma("noescape")
	a, aStride := Load(Param("a"), GP64()), Load(Param("aStride"), GP64())
	v, vStride := Load(Param("v"), GP64()), Load(Param("vStride"), GP64())
	weights, wStride, n := Load(Param("weights"), GP64()), Load(Param("wStride"), GP64()), Load(Param("n"), GP64())
	aStride3, wStride3 := GP64(), GP64()
	LEAQ(Mem{Base: aStride, Index: aStride, Scale: 2}, aStride3)
	LEAQ(Mem{Base: wStride, Index: wStride, Scale: 2}, wStride3)
	first := register()
	size := int(first.Size())
	each := 4 * values / size
	acc := make([]VecVirtual, heads*each)
	for i := range acc {
		acc[i] = register()
		VMOVUPS(row(a, aStride, aStride3, i/each).Offset(size*(i%each)), acc[i])
	}
	Label("row")
	in := make([]VecVirtual, each)
	for i := range in {
		in[i] = register()
		VMOVUPS(Mem{Base: v, Disp: size * i}, in[i])
	}
	for h := range heads {
		w := register()
		broadcast(row(weights, wStride, wStride3, h), w)
		for i := range in {
			VFMADD231PS(in[i], w, acc[h*each+i])
		}
	}
	ADDQ(vStride, v)
	ADDQ(Imm(4), weights)
	DECQ(n)
	JNZ(LabelRef("row"))
	for i := range acc {
		VMOVUPS(acc[i], row(a, aStride, aStride3, i/each).Offset(size*(i%each)))
	}
	VZEROUPPER()
	RET()
}

// eights runs body for every eight elements, then tail for the rest under a mask. Registers in advance move on.
func eights(n Register, body func(), tail func(mask VecVirtual), advance ...Register) {
	SUBQ(Imm(8), n)
	JL(LabelRef("tail"))
	Label("eight")
	body()
	for _, p := range advance {
		ADDQ(Imm(32), p)
	}
	SUBQ(Imm(8), n)
	JGE(LabelRef("eight"))
	Label("tail")
	ADDQ(Imm(8), n)
	JZ(LabelRef("done"))
	tail(tailMask(n))
	Label("done")
}

func broadcast(param string) VecVirtual {
	v := YMM()
	m, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(m.Addr, v)
	return v
}

func scaleMaxKernel() {
	TEXT("scaleMax", NOSPLIT, "func(v *float32, n int, scale float32, least float32) float32")
	Doc("scaleMax multiplies n values by scale and returns the largest of them and least.")
	Pragma("noescape")
	v, n := Load(Param("v"), GP64()), Load(Param("n"), GP64())
	scale, most := broadcast("scale"), broadcast("least")
	eights(n, func() {
		t := YMM()
		VMULPS(Mem{Base: v}, scale, t)
		VMOVUPS(t, Mem{Base: v})
		VMAXPS(most, t, most)
	}, func(mask VecVirtual) {
		t := YMM()
		VMASKMOVPS(Mem{Base: v}, mask, t)
		VMULPS(scale, t, t)
		VMASKMOVPS(t, mask, Mem{Base: v})
		VBLENDVPS(mask, t, most, t)
		VMAXPS(most, t, most)
	}, v)
	m := maxLane(most)
	VZEROUPPER()
	Store(m, ReturnIndex(0))
	RET()
}

func expSumKernel() {
	TEXT("expSum", NOSPLIT, "func(dst *float32, src *float32, n int, most float32) float64")
	Doc("expSum writes exp(src[i]-most) and returns their sum. An exponential below 2^-126 counts as 2^-126.")
	Pragma("noescape")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	most := broadcast("most")
	sum := []VecVirtual{YMM(), YMM()}
	VXORPD(sum[0], sum[0], sum[0])
	VXORPD(sum[1], sum[1], sum[1])
	add := func(e VecVirtual) {
		d, t := YMM(), XMM()
		VCVTPS2PD(e.AsX(), d)
		VADDPD(d, sum[0], sum[0])
		VEXTRACTF128(Imm(1), e, t)
		VCVTPS2PD(t, d)
		VADDPD(d, sum[1], sum[1])
	}
	eights(n, func() {
		t := YMM()
		VMOVUPS(Mem{Base: src}, t)
		VSUBPS(most, t, t)
		exp(t)
		VMOVUPS(t, Mem{Base: dst})
		add(t)
	}, func(mask VecVirtual) {
		t := YMM()
		VMASKMOVPS(Mem{Base: src}, mask, t)
		VSUBPS(most, t, t)
		exp(t)
		VMASKMOVPS(t, mask, Mem{Base: dst})
		VANDPS(mask, t, t)
		add(t)
	}, dst, src)
	VADDPD(sum[1], sum[0], sum[0])
	t, s := XMM(), sum[0].AsX()
	VEXTRACTF128(Imm(1), sum[0], t)
	VADDPD(t, s, s)
	VPERMILPD(Imm(1), s, t)
	VADDSD(t, s, s)
	VZEROUPPER()
	Store(s, ReturnIndex(0))
	RET()
}

func scaleKernel() {
	TEXT("scaleBy", NOSPLIT, "func(v *float32, n int, by float32)")
	Doc("scaleBy multiplies n values.")
	Pragma("noescape")
	v, n, by := Load(Param("v"), GP64()), Load(Param("n"), GP64()), broadcast("by")
	eights(n, func() {
		t := YMM()
		VMULPS(Mem{Base: v}, by, t)
		VMOVUPS(t, Mem{Base: v})
	}, func(mask VecVirtual) {
		t := YMM()
		VMASKMOVPS(Mem{Base: v}, mask, t)
		VMULPS(by, t, t)
		VMASKMOVPS(t, mask, Mem{Base: v})
	}, v)
	VZEROUPPER()
	RET()
}

// maxLane is the largest of eight lanes, in the lowest.
func maxLane(v VecVirtual) Register {
	t, m := XMM(), v.AsX()
	VEXTRACTF128(Imm(1), v, t)
	VMAXPS(t, m, m)
	VPERMILPS(Imm(0x4E), m, t)
	VMAXPS(t, m, m)
	VPERMILPS(Imm(0xB1), m, t)
	VMAXPS(t, m, m)
	return m
}

func mostKernel() {
	TEXT("mostOf", NOSPLIT, "func(v *float32, n int) (most float32, broken bool)")
	Doc("mostOf returns the largest of n values, n at least 8, and whether one of them is an infinity or no number.")
	Pragma("noescape")
	v, n := Load(Param("v"), GP64()), Load(Param("n"), GP64())
	most, bad := YMM(), YMM()
	VMOVUPS(Mem{Base: v}, most)
	VXORPS(bad, bad, bad)
	look := func(t VecVirtual) {
		d := YMM()
		VSUBPS(t, t, d) // zero, or NaN
		VORPS(d, bad, bad)
		VMAXPS(t, most, most)
	}
	eights(n, func() {
		t := YMM()
		VMOVUPS(Mem{Base: v}, t)
		look(t)
	}, func(mask VecVirtual) {
		t := YMM()
		VMASKMOVPS(Mem{Base: v}, mask, t)
		VBLENDVPS(mask, t, most, t)
		look(t)
	}, v)
	VCMPPS(Imm(3), bad, bad, bad)
	bits := GP32()
	VMOVMSKPS(bad, bits)
	m := maxLane(most)
	VZEROUPPER()
	Store(m, ReturnIndex(0))
	TESTL(bits, bits)
	some := GP8()
	SETNE(some)
	Store(some, ReturnIndex(1))
	RET()
}
