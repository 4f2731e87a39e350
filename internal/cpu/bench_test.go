//go:build amd64 && !noasm

package cpu

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"hearth/internal/dtype"
)

// benchBytes is far more than a last-level cache.
const benchBytes = 256 << 20

// BenchmarkDot reads a large matrix once for every iteration, one row of activations, two workers as in decode. The
// figure to compare with is BenchmarkRead's of the same run.
func BenchmarkDot(b *testing.B) {
	const cols = 2880
	for _, l := range levels() {
		if l.missing != "" || l.name == "portable" {
			continue
		}
		for _, f := range []dtype.Format{dtype.MXFP4, dtype.MXFP4GGML, dtype.BF16, dtype.F16, dtype.Q8_0, dtype.NF4, dtype.F32} {
			p := benchPlane(f, cols)
			for _, threads := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/%v/threads=%d", l.name, f, threads), func(b *testing.B) {
					b.SetBytes(p.Bytes())
					x := benchActivations(cols)
					benchPool(b, &l.kernels, threads, cols, func(w *worker, item int) {
						w.product(&p, item*tileRows, tileRows, x, nil, 1)
					}, p.Rows/tileRows)
				})
			}
		}
	}
}

// benchPlane is a matrix of the format with benchBytes of data; its values do not matter, as long as they are normal numbers.
func benchPlane(f dtype.Format, cols int) dtype.Plane {
	p := dtype.Plane{Format: f, Cols: cols}
	perRow := cols / 2
	if f.BlockBytes() > 0 {
		perRow = cols / f.BlockElems() * f.BlockBytes()
	}
	p.Rows = benchBytes / perRow / tileRows * tileRows
	p.Data = make([]byte, p.Rows*perRow)
	for i := 0; i < len(p.Data); i += 8 {
		binary.LittleEndian.PutUint64(p.Data[i:], 0x3C00_3C01_3C02_3C03+uint64(i))
	}
	switch f {
	case dtype.MXFP4:
		p.Scales = make([]byte, p.Rows*cols/32)
		for i := range p.Scales {
			p.Scales[i] = byte(115 + i%8)
		}
	case dtype.MXFP4GGML: // small exponents would make subnormal weights, which cost Intel's processors 20 times the time
		for i := 0; i < len(p.Data); i += 17 {
			p.Data[i] = byte(115 + i%8)
		}
	case dtype.Q8_0:
		for i := 0; i < len(p.Data); i += 34 {
			binary.LittleEndian.PutUint16(p.Data[i:], 0x2C00+uint16(i%256))
		}
	case dtype.NF4:
		n := p.Rows * cols / 64
		q := &dtype.Quant{Block: 64, Round: dtype.BF16, Codes: make([]byte, n), Map: &dtype.NestedMap, NestedBlock: 256, Offset: 1}
		q.Nested = make([]byte, 4*(n/256+1))
		p.Quant = q
	}
	return p
}

// benchActivations have been written to: memory that was not is one page of zeros everywhere, whose aliases in the first
// cache cost a third of the speed.
func benchActivations(n int) []float32 { return newRand(1).floats(n) }

func benchPool(b *testing.B, k *kernels, threads, cols int, do itemFunc, items int) {
	workers := make([]*worker, threads)
	for i := range workers {
		workers[i] = &worker{k: k, tile: make([]float32, tileRows*cols), y: make([]float32, 512*tileRows), at: make([]int, 512), sums: make([]float32, panelRows*tileRows*k.order.lanes()), scales: make([]float32, tileRows*cols/64), tables: make([][32]byte, tileRows*cols/64)}
	}
	p := newPool(workers, nil)
	defer p.close()
	for b.Loop() {
		p.run(do, items)
	}
	if err := p.takeErr(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkMul multiplies a matrix by many rows, as prefill does: the figure is GFLOP/s.
func BenchmarkMul(b *testing.B) {
	const cols, rows = 2880, 512
	for _, l := range levels() {
		if l.missing != "" || l.name == "portable" {
			continue
		}
		for _, f := range []dtype.Format{dtype.MXFP4, dtype.BF16} {
			p := benchPlane(f, cols)
			p.Data = p.Data[:len(p.Data)/p.Rows*rows] // what is asked for ahead ends there too
			p.Rows = rows
			for _, n := range []int{2, 4, 16, 128} {
				b.Run(fmt.Sprintf("%s/%v/rows=%d", l.name, f, n), func(b *testing.B) {
					x := benchActivations(n * cols)
					benchPool(b, &l.kernels, 1, cols, func(w *worker, item int) {
						w.product(&p, item*tileRows, tileRows, x, nil, n)
					}, rows/tileRows)
					b.ReportMetric(2*float64(n*cols*rows)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	}
}

// BenchmarkRead is what the machine reads with plain loads.
func BenchmarkRead(b *testing.B) {
	data := make([]byte, 4*benchBytes)
	for i := 0; i < len(data); i += 4096 {
		data[i] = 1
	}
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				var wg sync.WaitGroup
				n := len(data) / threads
				for i := range threads {
					wg.Go(func() { readLines(&data[i*n], n/256) })
				}
				wg.Wait()
			}
		})
	}
}
