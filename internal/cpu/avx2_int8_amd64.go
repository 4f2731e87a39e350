//go:build !noasm

package cpu

import (
	"unsafe"

	"hearth/internal/dtype"
)

// int8Kernel is the loops for a format: for one, two and four rows of activations at a time.
type int8Kernel struct {
	bytes, scales int // of a step
	one           func(y *float32, stride int, x0, data, scales *byte, rows, steps int)
	two           func(y *float32, stride int, x0, x1, data, scales *byte, rows, steps int)
	four          func(y *float32, stride int, x0, x1, x2, x3, data, scales *byte, rows, steps int)
}

var avx2Int8Rows = [...]int8Kernel{
	dtype.MXFP4:       {32, 2, int8MXFP4x1, int8MXFP4x2, int8MXFP4x4},
	dtype.MXFP4GGML:   {34, 0, int8MXFP4GGMLx1, int8MXFP4GGMLx2, int8MXFP4GGMLx4},
	dtype.MXFP4Ollama: {34, 0, int8MXFP4Ollamax1, int8MXFP4Ollamax2, int8MXFP4Ollamax4},
	dtype.Q8_0:        {68, 0, int8Q8_0x1, int8Q8_0x2, int8Q8_0x4},
}

// avx2Int8 decodes a step of weights for up to four rows of activations. Rows that are no whole number of steps are the
// portable kernel's.
func avx2Int8(w *worker, x []int8Step, rows []int32, n int, p *dtype.Plane, first, r int) {
	if p.Cols%stepCols != 0 || p.Cols == 0 {
		portableInt8(w, x, rows, n, p, first, r)
		return
	}
	k, steps := &avx2Int8Rows[p.Format], p.Cols/stepCols
	bytesAt := func(b []byte, size int) *byte { return &b[first*steps*size : (first+r)*steps*size][0] }
	data, scales := bytesAt(p.Data, k.bytes), (*byte)(nil)
	if k.scales > 0 {
		scales = bytesAt(p.Scales, k.scales)
	}
	at := func(i int) *byte {
		if rows != nil {
			i = int(rows[i])
		}
		return (*byte)(unsafe.Pointer(&x[i*steps : (i+1)*steps][0]))
	}
	const stride = 4 * tileRows
	_ = w.y[(n-1)*tileRows+r-1]
	for i := 0; i < n; {
		y := &w.y[i*tileRows]
		switch left := n - i; {
		case left >= 4:
			k.four(y, stride, at(i), at(i+1), at(i+2), at(i+3), data, scales, r, steps)
			i += 4
		case left >= 2:
			k.two(y, stride, at(i), at(i+1), data, scales, r, steps)
			i += 2
		default:
			k.one(y, stride, at(i), data, scales, r, steps)
			i++
		}
	}
}
