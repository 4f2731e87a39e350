//go:build !noasm

package cpu

import "math"

func avx2Softmax(scores []float32, scale, sink float32) {
	if len(scores) == 0 {
		return
	}
	m := scaleMax(&scores[0], len(scores), scale, sink)
	sum := expSum(&scores[0], &scores[0], len(scores), m) + math.Exp(float64(sink-m))
	scaleBy(&scores[0], len(scores), float32(1/sum))
}

func avx2Swiglu(h, y, bias []float32, alpha, limit float32) {
	i := 0
	for ; i+8 <= len(h); i += 8 {
		swiglu8((*[8]float32)(h[i:]), (*[16]float32)(y[2*i:]), (*[16]float32)(bias[2*i:]), alpha, limit)
	}
	if i == len(h) {
		return
	}
	var ht [8]float32
	var yt, bt [16]float32
	copy(yt[:], y[2*i:2*len(h)])
	copy(bt[:], bias[2*i:2*len(h)])
	swiglu8(&ht, &yt, &bt, alpha, limit)
	copy(h[i:], ht[:])
}

func avx2LogSumExp(scratch, logits []float32) (float64, error) {
	if len(logits) < 8 {
		return logSumExp(logits)
	}
	m, broken := mostOf(&logits[0], len(logits))
	if broken {
		return logSumExp(logits) // which says where
	}
	return float64(m) + math.Log(expSum(&scratch[:len(logits)][0], &logits[0], len(logits), m)), nil
}
