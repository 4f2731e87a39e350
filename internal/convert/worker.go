package convert

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
)

// worker carries out pieces, one at a time, in buffers that it keeps.
type worker struct {
	src   *parts
	files []*target // nil: nothing is written, only measured

	fetched buffers
	block   []byte // of a direct write
	buffers [4][]byte
	scales  []float32
	values  [3][]float32
	checked uint32 // the checksum under way
	summed  []byte // what was written last, and its checksum, which is often wanted a second time
	last    uint32
	writes  []write
}

// write records a run of bytes that was written.
type write struct {
	File   int    `json:"f"`
	Offset int64  `json:"o"`
	Length int64  `json:"n"`
	CRC    uint32 `json:"c"`
}

// result is what is known of a finished piece.
type result struct {
	sum    uint32 // fingerprint of the values that its bytes stand for
	error  Error
	writes []write
}

// bytes gives buffer i with room for n bytes. Codecs write from buffers 0 and 1, GGUF's blocks from 2; fingerprints use
// 2 and 3.
func (w *worker) bytes(i, n int) []byte {
	if cap(w.buffers[i]) < n {
		w.buffers[i] = make([]byte, n)
	}
	return w.buffers[i][:n]
}

func grown(b *[]float32, n int) []float32 {
	if cap(*b) < n {
		*b = make([]float32, n)
	}
	return (*b)[:n]
}

// floats gives the buffer of scales.
func (w *worker) floats(n int) []float32 { return grown(&w.scales, n) }

// decode gives rows of a view as float32.
func (w *worker) decode(v *view, first, n int) []float32 { return w.decodeInto(0, v, first, n) }

func (w *worker) decodeInto(i int, v *view, first, n int) []float32 {
	dst := grown(&w.values[i], n*v.cols)
	var scratch []float32
	if v.stride > 1 {
		scratch = grown(&w.values[2], n*v.cols*v.stride)
	}
	v.decode(dst, scratch, first, n)
	return dst
}

// sum adds bytes to the checksum under way, which is one of checksums: those of what was written are known already.
func (w *worker) sum(b []byte) {
	crc := w.last
	if len(b) == 0 || len(w.summed) != len(b) || &w.summed[0] != &b[0] {
		crc = crc32.Checksum(b, castagnoli)
	}
	w.fold(crc)
}

// fold adds the checksum of some bytes.
func (w *worker) fold(crc uint32) {
	w.checked = crc32.Update(w.checked, castagnoli, binary.LittleEndian.AppendUint32(nil, crc))
}

// put writes bytes of matrix e to tensor k of an item.
func (w *worker) put(it *item, k, e int, at int64, b []byte) error {
	list, share := it.out[k], it.share[k]
	t, start := list[0], it.at+int64(e)*share
	if len(list) > 1 {
		t, share, start = list[e], list[e].Bytes, 0
	}
	if at < 0 || at+int64(len(b)) > share {
		return fmt.Errorf("%d bytes at %d do not fit the %d of one matrix in tensor %q", len(b), at, share, t.Name)
	}
	return w.putTensor(t, start+at, b)
}

func (w *worker) putTensor(t *Tensor, at int64, b []byte) error {
	if w.files == nil {
		return nil
	}
	at += t.Offset
	crc, err := w.files[t.file].writeAt(&w.block, b, at)
	if err != nil {
		return writeError(err)
	}
	if len(b) > len(w.summed) {
		w.summed, w.last = b, crc
	}
	w.writes = append(w.writes, write{t.file, at, int64(len(b)), crc})
	return nil
}

// do carries out a piece.
func (w *worker) do(p *piece) (r result, err error) {
	w.writes, w.checked, w.summed = nil, 0, nil
	err = checkpoint.Guard(func() error {
		switch {
		case p.item != nil:
			return w.doItem(p, &r)
		case p.fixed != nil:
			return w.doFixed(p)
		}
		return w.doVectors(p)
	})
	if err != nil {
		return r, fmt.Errorf("%v: %w", p, err)
	}
	r.sum, r.writes = w.checked, w.writes
	return r, nil
}

// read calls f with the rows of a piece.
func (w *worker) read(p *piece, f func(v *view) error) error {
	s, err := w.src.stack(p.item.weight)
	if err != nil {
		return err
	}
	mapped := p.view(s)
	defer w.src.behind(p, &mapped)
	v, err := w.src.fetch(&w.fetched, mapped)
	if err != nil {
		return err
	}
	return f(&v)
}

func (w *worker) doItem(p *piece, r *result) error {
	it := p.item
	return w.read(p, func(v *view) error {
		out, err := it.codec.write(w, it, v, p.expert, p.first)
		switch {
		case err != nil:
			return err
		case out.even == nil:
			return it.codec.fingerprint(w, v)
		case !it.exact:
			w.compare(&r.error, v, &out)
		}
		return it.codec.fingerprint(w, &out)
	})
}

// compare measures written rows against those of the source.
func (w *worker) compare(e *Error, v, out *view) {
	step := chunkOf(out.rows, out.cols)
	for first := 0; first < out.rows; first += step {
		n := min(step, out.rows-first)
		e.compare(w.decodeInto(0, v, first, n), w.decodeInto(1, out, first, n))
	}
}

func (w *worker) doFixed(p *piece) error {
	for _, t := range p.fixed {
		w.sum(t.fixed)
		if err := w.putTensor(t, 0, t.fixed); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) doVectors(p *piece) error {
	for i := range p.vectors {
		x := &p.vectors[i]
		v, err := x.get(w.src)
		if err != nil {
			return err
		}
		b := w.bytes(0, len(v)*x.format.BlockBytes())
		if int64(len(b)) != x.tensor.Bytes {
			return fmt.Errorf("tensor %q: %d values, planned were %d bytes of %v", x.tensor.Name, len(v), x.tensor.Bytes, x.format)
		}
		encodeFloats(x.format, b, v)
		w.sumFloats(v)
		if err := w.putTensor(x.tensor, 0, b); err != nil {
			return err
		}
	}
	return nil
}

// sumFloats adds values to the checksum.
func (w *worker) sumFloats(v []float32) {
	b := w.bytes(1, 4*len(v))
	dtype.EncodeF32(b, v)
	w.sum(b)
}

// fingerprint gives the checksum that do gave for a piece, from a checkpoint that was written.
func (w *worker) fingerprint(p *piece) (uint32, error) {
	w.checked, w.summed = 0, nil
	err := checkpoint.Guard(func() error {
		if p.item != nil {
			return w.read(p, func(v *view) error { return p.item.codec.fingerprint(w, v) })
		}
		for _, t := range p.fixed {
			w.sum(t.fixed) // tables and quant states: Open has read and checked them
		}
		for i := range p.vectors {
			v, err := p.vectors[i].get(w.src)
			if err != nil {
				return err
			}
			w.sumFloats(v)
		}
		return nil
	})
	return w.checked, err
}
