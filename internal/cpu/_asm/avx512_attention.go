package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// attentionKernels16 emit what takes sixteen lanes: scores of eight heads at a time, and values of four.
func attentionKernels16() {
	for _, heads := range []int{1, 8} {
		scores(fmt.Sprintf("zmmScore%dx16", heads), heads, ZMM, func() []VecVirtual { return zeroed16(heads) }, func(k []VecVirtual, q Mem, sums []VecVirtual) {
			VFMADD231PS_BCST(q, k[0], sums[0])
		})
	}
	mixes("zmmMix4x64", 4, 64, ZMM, func(w Mem, v VecVirtual) { VBROADCASTSS(w, v) })
}
