package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func zeroed16(n int) []VecVirtual {
	v := make([]VecVirtual, n)
	for i := range v {
		v[i] = ZMM()
		VPXORD(v[i], v[i], v[i])
	}
	return v
}

// reduce16 adds the chains, and then the lanes as reduce16x4 does.
func reduce16(acc []VecVirtual) Op {
	v := acc[0]
	for _, a := range acc[1:] {
		VADDPS(a, v, v)
	}
	for _, swap := range []uint64{0x4E, 0xB1} { // halves of four, then neighbours
		t := ZMM()
		VPERMILPS(Imm(swap), v, t)
		VADDPS(t, v, v)
	}
	return quarters(v)
}

// reduce16x4 adds the lanes of four registers: in every four l and l+2 first, then the two sums, then quarters two apart,
// then the two that are left.
func reduce16x4(acc []VecVirtual) Op {
	fold := func(low, high func(ops ...Op), a, b VecVirtual) VecVirtual {
		l, h := ZMM(), ZMM()
		low(b, a, l)
		high(b, a, h)
		VADDPS(h, l, l)
		return l
	}
	ab := fold(VUNPCKLPS, VUNPCKHPS, acc[0], acc[1])
	cd := fold(VUNPCKLPS, VUNPCKHPS, acc[2], acc[3])
	return quarters(fold(VUNPCKLPD, VUNPCKHPD, ab, cd))
}

// quarters adds the four quarters of a register.
func quarters(v VecVirtual) Op {
	y, x := YMM(), XMM()
	VEXTRACTF64X4(Imm(1), v, y)
	VADDPS(y, v.AsY(), y)
	VEXTRACTF32X4(Imm(1), y, x)
	VADDPS(x, y.AsX(), x)
	return x
}
