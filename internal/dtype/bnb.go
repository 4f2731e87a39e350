package dtype

import "fmt"

// NF4Table gives the value of each NF4 code: bitsandbytes' constants, ascending. Read only.
var NF4Table = [16]float32{
	-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
	-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
	0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
	0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
}

// FP4Table gives the value of each FP4 code: bit 3 is the sign, the magnitudes are {0, 1/16, 8, 12, 4, 6, 2, 3}/12 as
// bitsandbytes rounds them. Code 8 is +0. It is not E2M1. Read only.
var FP4Table = [16]float32{
	0, 0.005208333488553762, 0.6666666865348816, 1,
	0.3333333432674408, 0.5, 0.1666666716337204, 0.25,
	0, -0.005208333488553762, -0.6666666865348816, -1,
	-0.3333333432674408, -0.5, -0.1666666716337204, -0.25,
}

// CheckCodeMap compares the quant_map of a checkpoint with the table that bitsandbytes' kernels use whatever the file
// says. A difference is an error: the file means other values than those kernels would give.
func CheckCodeMap(f Format, m []float32) error {
	var table *[16]float32
	switch f {
	case NF4:
		table = &NF4Table
	case FP4:
		table = &FP4Table
	default:
		return fmt.Errorf("%v has no quant_map", f)
	}
	if len(m) != len(table) {
		return fmt.Errorf("quant_map has %d entries, %v has %d", len(m), f, len(table))
	}
	for i, v := range m {
		if v != table[i] {
			return fmt.Errorf("quant_map gives code %d the value %v, %v has %v", i, v, f, table[i])
		}
	}
	return nil
}

// CheckNestedMap checks a nested_quant_map, the code table of double-quantised scales: 256 finite values, strictly
// ascending, entry 127 zero and entry 255 one. The other values are the file's own: their last bits depend on the
// processor that wrote it.
func CheckNestedMap(m []float32) error {
	if len(m) != 256 {
		return fmt.Errorf("nested_quant_map has %d entries, expected 256", len(m))
	}
	if !isFinite(m[0]) {
		return fmt.Errorf("nested_quant_map begins with %v", m[0])
	}
	for i := 1; i < len(m); i++ {
		if !(m[i] > m[i-1]) {
			return fmt.Errorf("nested_quant_map does not ascend at entry %d: %v, then %v", i, m[i-1], m[i])
		}
	}
	if m[127] != 0 || m[255] != 1 {
		return fmt.Errorf("nested_quant_map has %v at entry 127 and %v at entry 255, expected 0 and 1", m[127], m[255])
	}
	return nil
}

// Scale gives the float32 scale of a block of the plane, un-nested where it is double-quantised. Blocks count from
// First.
func (q *Quant) Scale(block int) float32 {
	b := q.First + block
	if q.Codes == nil {
		return f32at(q.Absmax, b)
	}
	// Two roundings: without the conversion Go may fuse them on some processors, which changes one scale in fifteen.
	return float32(q.Map[q.Codes[b]]*f32at(q.Nested, b/q.NestedBlock)) + q.Offset
}

// values fills t with what each code stands for under one scale, rounded as the tensor wants it.
func (q *Quant) values(t, table *[16]float32, scale float32) {
	switch q.Round {
	case BF16:
		for i, v := range table {
			t[i] = FromBF16(ToBF16(v * scale))
		}
	case F16:
		for i, v := range table {
			t[i] = FromF16(ToF16(v * scale))
		}
	default:
		for i, v := range table {
			t[i] = v * scale
		}
	}
}

// decode decodes len(dst) elements from element start on. Blocks need not align with the run: the first and the last
// one may be entered or left in the middle, even in the middle of a byte.
func (q *Quant) decode(dst []float32, codes []byte, start int, table *[16]float32) {
	var t [16]float32
	block := start / q.Block
	end := (block + 1) * q.Block // of the block
	for len(dst) > 0 {
		n := min(len(dst), end-start)
		q.values(&t, table, q.Scale(block))
		unpackHighFirst(dst[:n], codes, start, &t)
		dst, start = dst[n:], start+n
		block, end = block+1, end+q.Block
	}
}

// unpackHighFirst looks up len(dst) codes from number start on; byte b has code 2b high, 2b+1 low.
func unpackHighFirst(dst []float32, codes []byte, start int, t *[16]float32) {
	if start&1 == 1 {
		dst[0] = t[codes[start/2]&15]
		dst, start = dst[1:], start+1
	}
	codes = codes[start/2:]
	for ; len(dst) >= 8 && len(codes) >= 4; dst, codes = dst[8:], codes[4:] {
		d, c := (*[8]float32)(dst), (*[4]byte)(codes)
		for j, b := range c {
			d[2*j], d[2*j+1] = t[b>>4], t[b&15]
		}
	}
	for i := range dst {
		b := codes[i/2]
		if i&1 == 0 {
			b >>= 4
		}
		dst[i] = t[b&15]
	}
}
