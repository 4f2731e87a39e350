//go:build !noasm

package cpu

import (
	"encoding/binary"
	"math"
	"unsafe"

	"hearth/internal/dtype"
)

// stepScales gives the float32 scales of the steps of rows [first, first+n), un-nested.
func (w *worker) stepScales(p *dtype.Plane, first, n int) []float32 {
	q := p.Quant
	perRow := p.Cols / q.Block
	dst := w.scales[:n*p.Cols/stepCols]
	w.blockScales(dst[:n*perRow], q, first*perRow)
	if repeat := q.Block / stepCols; repeat > 1 {
		for i := len(dst) - 1; i >= 0; i-- {
			dst[i] = dst[i/repeat]
		}
	}
	return dst
}

// stepTables gives the tables of the steps of rows [first, first+n): low bytes of the values as bfloat16, then high.
func (w *worker) stepTables(p *dtype.Plane, first, n int) *byte {
	q, table := p.Quant, nf4EvenFirst
	if p.Format == dtype.FP4 {
		table = fp4EvenFirst
	}
	tables := w.tables[:n*p.Cols/stepCols]
	if q.Codes == nil || q.Block != stepCols {
		scales := w.stepScales(p, first, n)
		tablesBF16(&tables[0], table, &scales[0], len(scales))
		return &tables[0][0]
	}
	for i := 0; i < len(tables); {
		b := q.First + first*p.Cols/stepCols + i
		run := min(len(tables)-i, q.NestedBlock-b%q.NestedBlock) // under one nested scale
		codes, nested := q.Codes[b:b+run], nestedScale(q, b)
		if nested-nested == 0 && q.Offset-q.Offset == 0 {
			nestedTablesBF16(&tables[i], table, &codes[0], run, q.Map, nested, q.Offset)
		} else {
			w.blockScales(w.scales[:run], q, first*p.Cols/stepCols+i)
			tablesBF16(&tables[i], table, &w.scales[0], run)
		}
		i += run
	}
	return &tables[0][0]
}

// nestedScale is the second-level scale of block b.
func nestedScale(q *dtype.Quant, b int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(q.Nested[b/q.NestedBlock*4:]))
}

func bytesOf(scales []float32) *byte { return (*byte)(unsafe.Pointer(&scales[0])) }

// blockScales gives the scales of the blocks that follow from.
func (w *worker) blockScales(dst []float32, q *dtype.Quant, from int) {
	count := len(dst)
	if q.Codes == nil {
		src := q.Absmax[4*(q.First+from) : 4*(q.First+from+count)]
		copyScales(&dst[0], &src[0], count)
		return
	}
	for i := 0; i < count; {
		b := q.First + from + i
		run := min(count-i, q.NestedBlock-b%q.NestedBlock) // under one nested scale
		if eights := run / 8; eights > 0 {
			codes := q.Codes[b : b+8*eights]
			unnest(&dst[i], &codes[0], q.Map, nestedScale(q, b), q.Offset, eights)
			i, run = i+8*eights, run-8*eights
		}
		for ; run > 0; i, run = i+1, run-1 {
			if dst[i] = q.Scale(from + i); dst[i] != dst[i] {
				dst[i] = plainNaN
			}
		}
	}
}

// plainNaN is a NaN to which rounding can add nothing.
var plainNaN = math.Float32frombits(0x7FC0_0000)

// at4 is n floats after p.
func at4(p *float32, n int) *float32 { return (*float32)(unsafe.Add(unsafe.Pointer(p), 4*n)) }
