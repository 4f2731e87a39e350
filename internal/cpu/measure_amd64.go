//go:build !noasm

package cpu

import (
	"runtime"

	"golang.org/x/sys/cpu"
)

// multiplyAdds is a loop of multiply-adds as the level's products of many rows use them, and the operations of one round.
func multiplyAdds(level string, round Activations) (loop func(rounds int), flops int) {
	if level == "amx" && (round == BFloat16 || round == BF16x3) {
		return multiplyTiles, multiplyTilesOps
	}
	switch level {
	case "avx2":
		return fmaAVX2, 12 * 8 * 2
	case "avx512", "avx512vnni", "amx":
		return fmaAVX512, 12 * 16 * 2
	}
	return nil, 0
}

// fmaAVX2 does 12 independent multiply-adds of 8 floats a round.
//
//go:noescape
func fmaAVX2(rounds int)

// fmaAVX512 does 12 independent multiply-adds of 16 floats a round.
//
//go:noescape
func fmaAVX512(rounds int)

func readMemory(b []byte) {
	if cpu.X86.HasAVX2 {
		readLines(&b[0], len(b)/256)
		return
	}
	runtime.KeepAlive(sumWords(b))
}
