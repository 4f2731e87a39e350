package dtype

import "testing"

// FuzzPlane checks that Check is enough: what it lets through decodes in every window without a panic.
func FuzzPlane(f *testing.F) {
	map256 := new([256]float32)
	f.Add(uint8(BF16), uint8(BF16), 2, 3, true, make([]byte, 12), []byte(nil), 0, 0, 0, []byte(nil), false)
	f.Add(uint8(MXFP4), uint8(0), 2, 64, false, make([]byte, 64), make([]byte, 4), 0, 0, 0, []byte(nil), false)
	f.Add(uint8(Q6_K), uint8(0), 1, 256, false, make([]byte, 210), []byte(nil), 0, 0, 0, []byte(nil), false)
	f.Add(uint8(NF4), uint8(F16), 3, 50, false, make([]byte, 75), make([]byte, 12), 64, 0, 0, []byte(nil), false)
	f.Add(uint8(FP4), uint8(F32), 5, 5, true, make([]byte, 13), make([]byte, 30), 1, 5, 7, make([]byte, 20), true)
	f.Fuzz(func(t *testing.T, format, round uint8, rows, cols int, transposed bool, data, scales []byte, block, first, nestedBlock int, nested []byte, double bool) {
		p := Plane{Format: Format(format), Rows: rows, Cols: cols, Transposed: transposed, Data: data}
		switch {
		case p.Format != NF4 && p.Format != FP4:
			p.Scales = scales
		case double:
			p.Quant = &Quant{Block: block, First: first, Round: Format(round), Codes: scales, Map: map256, Nested: nested, NestedBlock: nestedBlock}
		default:
			p.Quant = &Quant{Block: block, First: first, Round: Format(round), Absmax: scales}
		}
		if p.Check() != nil {
			return
		}
		if p.Bytes() <= 0 {
			t.Errorf("%d bytes", p.Bytes())
		}
		if err := p.CheckScales(); err != nil && p.Format != MXFP4 && p.Format != MXFP4GGML && p.Format != MXFP4Ollama {
			t.Error(err)
		}
		dst := make([]float32, rows*cols)
		p.DecodeRows(dst, 0, rows)
		p.DecodeRows(dst, rows/2, rows-rows/2)
		if s, ok := p.Slice(rows/2, rows-rows/2); ok {
			if err := s.Check(); err != nil {
				t.Errorf("slice: %v", err)
			}
		}
	})
}
