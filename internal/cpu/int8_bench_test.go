//go:build amd64 && !noasm

package cpu

import (
	"fmt"
	"math"
	"testing"
	"time"

	"hearth/internal/dtype"
)

// BenchmarkInt8 multiplies a matrix by rows of activations, in float32 and rounded, in turn, so that both meet the same
// neighbours on the machine: best times, two workers. Up to 8 rows the matrix is far larger than any cache, as in decode.
// Rounding is timed with the products of 2880 rows of weights, its share in an expert's down projection.
func BenchmarkInt8(b *testing.B) {
	const cols = 2880
	for _, l := range levels() {
		if l.name == "portable" || l.usable() != nil {
			continue
		}
		for _, f := range integerFormats() {
			for _, n := range []int{1, 2, 4, 8, 32, 128} {
				b.Run(fmt.Sprintf("%s/%v/rows=%d", l.name, f, n), func(b *testing.B) { benchInt8(b, &l.kernels, f, n, cols) })
			}
		}
	}
}

func benchInt8(b *testing.B, k *kernels, f dtype.Format, n, cols int) {
	p := benchPlane(f, cols)
	if f == dtype.MXFP4GGML || f == dtype.MXFP4Ollama { // no scales so small that arithmetic slows down
		for at := 0; at < len(p.Data); at += f.BlockBytes() {
			p.Data[at] = 115 + p.Data[at]%8
		}
	}
	if n > 8 {
		p.Rows = 1024
	}
	in := newInput(k.order, cols)
	steps := int8Steps(cols)
	x, rounded := newRand(1).floats(n*in.width), make([]int8Step, n*steps)
	workers := make([]*worker, 2)
	for i := range workers {
		workers[i] = newChecker(k, 1).w
		workers[i].tile, workers[i].raw = make([]float32, tileRows*cols), make([]float32, tileRows*cols)
		workers[i].codes, workers[i].codeScales = make([]int8, steps*stepCols), make([]float32, 2*steps)
	}
	pool := newPool(workers, nil)
	defer pool.close()
	round := &roundJob{dst: rounded, src: x, in: &in, steps: steps, span: roundSpan}
	float := itemFunc(func(w *worker, item int) { w.product(&p, item*tileRows, tileRows, x, nil, n) })
	whole := itemFunc(func(w *worker, item int) { w.k.int8(w, rounded, nil, n, &p, item*tileRows, tileRows) })
	best := [3]float64{math.Inf(1), math.Inf(1), math.Inf(1)}
	for b.Loop() {
		for i, run := range []func(){
			func() { pool.run(float, p.Rows/tileRows) }, func() { pool.run(whole, p.Rows/tileRows) }, func() { pool.run(round, n*spans(steps, roundSpan)) },
		} {
			start := time.Now()
			run()
			best[i] = min(best[i], time.Since(start).Seconds())
		}
	}
	if err := pool.takeErr(); err != nil {
		b.Fatal(err)
	}
	products := float64(p.Rows) * float64(cols) * float64(n)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(2*products/best[0]/1e9, "float-GFLOP/s")
	b.ReportMetric(2*products/best[1]/1e9, "int8-GOP/s")
	b.ReportMetric(best[0]/(best[1]+best[2]*float64(p.Rows)/2880), "speedup")
}
