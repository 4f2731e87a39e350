//go:build !noasm

package cpu

import "runtime"

// multiplyAdds is a loop of fused multiply-adds as the level's products use them, and the operations of one round.
func multiplyAdds(level string, _ Activations) (loop func(rounds int), flops int) {
	if level == "neon" || level == "neondot" {
		return fmaNEON, 16 * 4 * 2
	}
	return nil, 0
}

// fmaNEON does 16 independent multiply-adds of 4 floats a round.
//
//go:noescape
func fmaNEON(rounds int)

func readMemory(b []byte) { runtime.KeepAlive(sumWords(b)) }
