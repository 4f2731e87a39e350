package cuda

import (
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"hearth/internal/dtype"
)

// denseOptions are what the user asked for.
type denseOptions struct {
	int8 bool // quantise to 8 bits, as Q8_0 does
}

// packQ8Params mirrors that of kernels/dense_pack.cu.
type packQ8Params struct {
	blocks, codes, scales devptr
	n, padding            int32
}

// denseTarget is the format that holds a plane's values without loss; exact is false where none does, and BF16 is taken.
func denseTarget(p *dtype.Plane) (f denseFormat, exact bool) {
	switch p.Format {
	case dtype.BF16, dtype.MXFP4, dtype.MXFP4GGML, dtype.MXFP4Ollama:
		return denseBF16, true
	case dtype.F16:
		return denseF16, true
	case dtype.Q8_0:
		return denseQ8, true
	case dtype.NF4, dtype.FP4: // decoded, they are what the checkpoint's own library rounds them to
		if p.Quant != nil && p.Quant.Round == dtype.F16 {
			return denseF16, true
		}
		return denseBF16, p.Quant != nil && p.Quant.Round == dtype.BF16
	}
	return denseBF16, false
}

// denseChoice is the format for planes stacked by rows; the note names what is lost, if anything.
func denseChoice(planes []dtype.Plane, o denseOptions) (f denseFormat, note string) {
	f, _ = denseTarget(&planes[0])
	for i := range planes {
		if g, _ := denseTarget(&planes[i]); g != f {
			f = denseBF16
		}
	}
	if o.int8 {
		f = denseQ8
	}
	for i := range planes {
		if g, exact := denseTarget(&planes[i]); g == f && exact {
			continue
		}
		if o.int8 {
			return f, fmt.Sprintf("%v quantised to 8 bits in blocks of 32", planes[i].Format)
		}
		return f, fmt.Sprintf("%v rounded to BF16", planes[i].Format)
	}
	return f, ""
}

// bytes is what load will take on the device, bias included.
func (d *denseOps) bytes(planes []dtype.Plane, o denseOptions) int64 {
	f, _ := denseChoice(planes, o)
	total := int64(0)
	for i := range planes {
		n := planes[i].Rows * planes[i].Cols
		total += f.codeBytes(n) + f.scaleBytes(n) + 4*int64(planes[i].Rows)
	}
	return roundUp(total, alignment) + 2*alignment
}

// load brings planes to the device, stacked by rows. BF16 and F16 stay as they are, Q8_0 keeps codes and scales; other
// formats are decoded to the smallest of these that holds their values, or rounded to BF16, which note then says. bias has
// a vector for each plane, nil for none.
func (d *denseOps) load(u *uploader, planes []dtype.Plane, bias [][]float32, o denseOptions) (w denseWeight, note string, err error) {
	rows, cols := 0, planes[0].Cols
	for i := range planes {
		if u.pools == nil || !planes[i].Outline() {
			if err := planes[i].Check(); err != nil {
				return w, "", err
			}
		}
		if planes[i].Cols != cols {
			return w, "", fmt.Errorf("stacked weights have %d and %d inputs", cols, planes[i].Cols)
		}
		rows += planes[i].Rows
	}
	biases, err := stackBias(planes, bias, rows)
	if err != nil {
		return w, "", err
	}
	f, note := denseChoice(planes, o)
	if w, err = d.reserve(f, rows, cols, biases != nil); err != nil {
		return w, "", err
	}
	at := 0
	for i := range planes {
		if err := d.loadPlane(u, &w, &planes[i], at); err != nil {
			return w, "", err
		}
		at += planes[i].Rows
	}
	if biases != nil {
		u.copy(w.bias, biases)
	}
	return w, note, nil
}

// stackBias gives the bytes of the stacked bias, nil if no plane has one.
func stackBias(planes []dtype.Plane, bias [][]float32, rows int) ([]byte, error) {
	var out []byte
	at := 0
	for i := range planes {
		if i < len(bias) && bias[i] != nil {
			if len(bias[i]) != planes[i].Rows {
				return nil, fmt.Errorf("bias has %d values for %d rows", len(bias[i]), planes[i].Rows)
			}
			if out == nil {
				out = make([]byte, 4*rows)
			}
			dtype.EncodeF32(out[4*at:], bias[i])
		}
		at += planes[i].Rows
	}
	return out, nil
}

// loadPlane fills rows of w from row first on.
func (d *denseOps) loadPlane(u *uploader, w *denseWeight, p *dtype.Plane, first int) error {
	data := w.data + devptr(w.format.codeBytes(first*w.cols))
	scales := w.scales + devptr(w.format.scaleBytes(first*w.cols))
	switch {
	case p.Outline():
		return u.pools.dense(w.format, p.Rows*p.Cols, data, scales)
	case p.Transposed:
	case w.format == denseBF16 && p.Format == dtype.BF16, w.format == denseF16 && p.Format == dtype.F16:
		u.copy(data, p.Data)
		return nil
	case w.format == denseQ8 && p.Format == dtype.Q8_0:
		d.loadQ8(u, p.Data, data, scales)
		return nil
	}
	return d.recode(u, w.format, p, data, scales)
}

// loadQ8 has the device take Q8_0 blocks apart.
func (d *denseOps) loadQ8(u *uploader, blocks []byte, codes, scales devptr) {
	step := max(1, d.piece/34) * 34
	for len(blocks) > 0 {
		piece := blocks[:min(len(blocks), step)]
		n := len(piece) / 34
		u.stage([][]byte{piece}, func(q *queue, at []devptr) {
			p := packQ8Params{blocks: at[0], codes: codes, scales: scales, n: int32(n)}
			launch(q, d.packQ8, dim{min((n+255)/256, 8*d.shape.sms), 1, 1}, dim{256, 1, 1}, 0, &p)
		})
		blocks, codes, scales = blocks[len(piece):], codes+devptr(32*n), scales+devptr(2*n)
	}
}

// recodeValues is the number of values that one goroutine decodes at a time.
const recodeValues = 1 << 19

// recode decodes a plane on the host and writes it in another format, a band of rows a goroutine.
func (d *denseOps) recode(u *uploader, f denseFormat, p *dtype.Plane, data, scales devptr) error {
	band := max(1, recodeValues/p.Cols)
	workers := min(runtime.GOMAXPROCS(0), (p.Rows+band-1)/band)
	values := make([]float32, workers*band*p.Cols)
	codes := make([]byte, f.codeBytes(len(values)))
	scale := make([]byte, f.scaleBytes(len(values)))
	for first := 0; first < p.Rows; first += workers * band {
		var g errgroup.Group
		rows := min(workers*band, p.Rows-first)
		for at := 0; at < rows; at += band {
			n := min(band, rows-at)
			v := values[at*p.Cols:][:n*p.Cols]
			g.Go(func() error {
				err := guard(func() error {
					p.DecodeRows(v, first+at, n)
					return encodeDense(f, codes[f.codeBytes(at*p.Cols):], scale[f.scaleBytes(at*p.Cols):], v)
				})
				if err != nil {
					return fmt.Errorf("rows %d to %d: %w", first+at, first+at+n-1, err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		u.copy(data, codes[:f.codeBytes(rows*p.Cols)])
		u.copy(scales, scale[:f.scaleBytes(rows*p.Cols)])
		data += devptr(f.codeBytes(rows * p.Cols))
		scales += devptr(f.scaleBytes(rows * p.Cols))
	}
	return nil
}

// encodeDense writes values in a device format.
func encodeDense(f denseFormat, codes, scales []byte, v []float32) error {
	switch f {
	case denseF16:
		dtype.EncodeF16(codes, v)
		return nil
	case denseBF16:
		dtype.EncodeBF16(codes, v)
		return nil
	}
	var block [34]byte
	for i := 0; i < len(v); i += 32 {
		if err := dtype.QuantizeQ8_0(block[:], v[i:i+32]); err != nil {
			return err
		}
		copy(scales[i/16:], block[:2])
		for k, b := range block[2:] {
			codes[i+placeQ8(k)] = b
		}
	}
	return nil
}

// placeQ8 tells where input k of a block of 32 stands on the device: as kernels/dense.cuh says.
func placeQ8(k int) int { return k&6<<2 | k&16>>2 | k&1<<1 | k&8>>3 }
