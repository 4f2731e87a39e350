//go:build !noasm

package cpu

import (
	"unsafe"

	"golang.org/x/sys/cpu"

	"hearth/internal/dtype"
)

//go:generate go -C _asm run . -level vnni -out ../vnni_amd64.s -stubs ../vnni_stubs_amd64.go -pkg cpu

// vnniLevel is AVX-512 with products of bytes, for rounded activations; float32 is multiplied as there. The results are
// AVX2's, bit for bit.
func vnniLevel() level {
	l := avx512Level()
	l.name, l.title, l.kernels.int8 = "avx512vnni", "AVX-512 with VNNI", vnniInt8
	l.missing = missing(vnniFeatures())
	return l
}

func vnniFeatures() []feature {
	return append(avx512Features(), feature{"AVX512VNNI", cpu.X86.HasAVX512VNNI})
}

// vnniKernel is the loops for a format: for one, two, four and eight rows of activations at a time, four rows of weights
// after four.
type vnniKernel struct {
	bytes, scales int // of a step
	mul           [4]vnniMul
}

type vnniMul = func(y *float32, stride int, x *byte, at *int, data *byte, dataStride int, scales *byte, scaleStride, quads, steps int)

var vnniRows = [...]vnniKernel{
	dtype.MXFP4:       {32, 2, [4]vnniMul{vnniMXFP4x1, vnniMXFP4x2, vnniMXFP4x4, vnniMXFP4x8}},
	dtype.MXFP4GGML:   {34, 0, [4]vnniMul{vnniMXFP4GGMLx1, vnniMXFP4GGMLx2, vnniMXFP4GGMLx4, vnniMXFP4GGMLx8}},
	dtype.MXFP4Ollama: {34, 0, [4]vnniMul{vnniMXFP4Ollamax1, vnniMXFP4Ollamax2, vnniMXFP4Ollamax4, vnniMXFP4Ollamax8}},
	dtype.Q8_0:        {68, 0, [4]vnniMul{vnniQ8_0x1, vnniQ8_0x2, vnniQ8_0x4, vnniQ8_0x8}},
}

// vnniInt8 decodes a step of four rows of weights for up to eight rows of activations. The last rows, where they are no
// four, are AVX2's, as are rows that are no whole number of steps.
func vnniInt8(w *worker, x []int8Step, rows []int32, n int, p *dtype.Plane, first, r int) {
	quads := r / 4
	if p.Cols%stepCols != 0 || p.Cols == 0 {
		quads = 0
	}
	if rest := r - 4*quads; rest > 0 {
		avx2Int8(w, x, rows, n, p, first+4*quads, rest)
		for i := range n {
			y := (*[tileRows]float32)(w.y[i*tileRows:])
			copy(y[4*quads:], y[:rest])
		}
	}
	if quads == 0 {
		return
	}
	k, steps := &vnniRows[p.Format], p.Cols/stepCols
	bytesAt := func(b []byte, size int) *byte { return &b[first*steps*size : (first+4*quads)*steps*size][0] }
	data, scales := bytesAt(p.Data, k.bytes), (*byte)(nil)
	if k.scales > 0 {
		scales = bytesAt(p.Scales, k.scales)
	}
	at := w.at[:n]
	for i := range at {
		row := i
		if rows != nil {
			row = int(rows[i])
		}
		at[i] = row * steps * int8StepBytes
		_ = x[(row+1)*steps-1]
	}
	base := (*byte)(unsafe.Pointer(&x[0]))
	_ = w.y[(n-1)*tileRows+r-1]
	for i, size := 0, 3; i < n; i += 1 << size {
		for n-i < 1<<size {
			size--
		}
		k.mul[size](&w.y[i*tileRows], 4*tileRows, base, &at[i], data, steps*k.bytes, scales, steps*k.scales, quads, steps)
	}
}
