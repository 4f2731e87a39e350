//go:build !noasm

package cpu

import (
	"golang.org/x/sys/cpu"

	"hearth/internal/dtype"
)

// neonDotLevel is NEON with products of bytes (ARMv8.2's dot product), for rounded activations; float32 is multiplied as
// there.
func neonDotLevel() level {
	l := neonLevel()
	l.name, l.title, l.kernels.int8 = "neondot", "NEON with dot product", neonDotInt8
	if !cpu.ARM64.HasASIMDDP {
		l.missing = "ASIMDDP"
	}
	return l
}

// neonInt8Kernel is the loops for a format: for one and four rows of activations at a time.
type neonInt8Kernel struct {
	bytes, scales int // of a step
	one           func(y *float32, stride int, x *int8Step, data, scales *byte, rows, steps int, halves *[256]float32, codes *[16]int8)
	four          func(y *float32, stride int, x0, x1, x2, x3 *int8Step, data, scales *byte, rows, steps int, halves *[256]float32, codes *[16]int8)
}

var neonInt8Rows = [...]neonInt8Kernel{
	dtype.MXFP4:       {32, 2, neonInt8MXFP4x1, neonInt8MXFP4x4},
	dtype.MXFP4GGML:   {34, 0, neonInt8MXFP4GGMLx1, neonInt8MXFP4GGMLx4},
	dtype.MXFP4Ollama: {34, 0, neonInt8MXFP4Ollamax1, neonInt8MXFP4Ollamax4},
	dtype.Q8_0:        {68, 0, neonInt8Q8_0x1, neonInt8Q8_0x4},
}

// neonDotInt8 decodes a step of weights for up to four rows of activations. Rows that are no whole number of steps are the
// portable kernel's.
func neonDotInt8(w *worker, x []int8Step, rows []int32, n int, p *dtype.Plane, first, r int) {
	if p.Cols%stepCols != 0 || p.Cols == 0 {
		portableInt8(w, x, rows, n, p, first, r)
		return
	}
	k, steps := &neonInt8Rows[p.Format], p.Cols/stepCols
	bytesAt := func(b []byte, size int) *byte { return &b[first*steps*size : (first+r)*steps*size][0] }
	data, scales := bytesAt(p.Data, k.bytes), (*byte)(nil)
	if k.scales > 0 {
		scales = bytesAt(p.Scales, k.scales)
	}
	at := func(i int) *int8Step {
		if rows != nil {
			i = int(rows[i])
		}
		return &x[i*steps : (i+1)*steps][0]
	}
	const stride = 4 * tileRows
	_ = w.y[(n-1)*tileRows+r-1]
	i := 0
	for ; i+4 <= n; i += 4 {
		k.four(&w.y[i*tileRows], stride, at(i), at(i+1), at(i+2), at(i+3), data, scales, r, steps, &halfE8M0, &twiceE2M1)
	}
	for ; i < n; i++ {
		k.one(&w.y[i*tileRows], stride, at(i), data, scales, r, steps, &halfE8M0, &twiceE2M1)
	}
}
