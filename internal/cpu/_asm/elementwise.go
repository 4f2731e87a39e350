package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func elementwiseKernels() {
	swigluKernel()
	readKernel()
}

// readKernel is the yardstick: loads and nothing else.
func readKernel() {
	TEXT("readLines", NOSPLIT, "func(p *byte, n int)")
	Doc("readLines reads n times 256 bytes.")
	Pragma("noescape")
	p, n := Load(Param("p"), GP64()), Load(Param("n"), GP64())
	v := zeroed(4)
	Label("line")
	for i := range 8 {
		VPOR(Mem{Base: p, Disp: 32 * i}, v[i%4], v[i%4])
	}
	ADDQ(U32(256), p)
	DECQ(n)
	JNZ(LabelRef("line"))
	VZEROUPPER()
	RET()
}

func constant(f float32) Mem {
	bits := math.Float32bits(f)
	return global32("f"+hex(bits), bits)
}

func hex(bits uint32) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 8)
	for i := range b {
		b[i] = digits[bits>>(28-4*i)&15]
	}
	return string(b)
}

// exp replaces x by exp(x): x = n ln 2 + r with |r| <= ln(2)/2, and e^r by its series up to r^7/7!, whose remainder is
// below 6e-9. x is kept where 2^n is a normal number; NaN stays NaN, as the second operand of a minimum does.
func exp(x VecVirtual) {
	t, n, p := YMM(), YMM(), YMM()
	VMOVUPS(constant(88.37), t)
	VMINPS(x, t, x)
	VMOVUPS(constant(-87.33654), t)
	VMAXPS(x, t, x)
	VMULPS(constant(math.Log2E), x, n)
	VROUNDPS(Imm(8), n, n) // to nearest, no exception
	// ln 2 in two parts: the first has nine zero bits at its end, so n times it is exact.
	VFNMADD231PS(constant(0.693359375), n, x)
	VFNMADD231PS(constant(-2.12194440e-4), n, x)
	VMOVUPS(constant(1.0/5040), p)
	for _, c := range []float32{1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1} {
		VFMADD213PS(constant(c), x, p)
	}
	VCVTPS2DQ(n, n)
	VPSLLD(Imm(23), n, n)
	VPADDD(n, p, x) // times 2^n: p is in [0.70, 1.42], so its exponent has room
}

func swigluKernel() {
	TEXT("swiglu8", NOSPLIT, "func(h *[8]float32, y *[16]float32, bias *[16]float32, alpha float32, limit float32)")
	Doc("swiglu8 is swiglu for eight pairs of gate and up, interleaved, with their biases.")
	Pragma("noescape")
	h, y, bias := Load(Param("h"), GP64()), Load(Param("y"), GP64()), Load(Param("bias"), GP64())
	alpha, limit := broadcast("alpha"), broadcast("limit")
	a, b := YMM(), YMM()
	VMOVUPS(Mem{Base: y}, a)
	VADDPS(Mem{Base: bias}, a, a)
	VMOVUPS(Mem{Base: y, Disp: 32}, b)
	VADDPS(Mem{Base: bias, Disp: 32}, b, b)
	gate, up := YMM(), YMM()
	VSHUFPS(Imm(0x88), b, a, gate)
	VSHUFPS(Imm(0xDD), b, a, up)
	VPERMQ(Imm(0xD8), gate, gate)
	VPERMQ(Imm(0xD8), up, up)
	// A minimum or maximum with a NaN gives its second operand, which Go writes first.
	VMINPS(gate, limit, gate)
	VMINPS(up, limit, up)
	t := YMM()
	VXORPS(global32("sign", 0x80000000), limit, t)
	VMAXPS(up, t, up)
	VXORPS(global32("sign", 0x80000000), alpha, t)
	VMULPS(gate, t, t)
	exp(t)
	one := YMM()
	VMOVUPS(constant(1), one)
	VADDPS(one, t, t)
	VADDPS(one, up, up)
	VMULPS(up, gate, gate)
	VDIVPS(t, gate, gate)
	VMOVUPS(gate, Mem{Base: h})
	VZEROUPPER()
	RET()
}
