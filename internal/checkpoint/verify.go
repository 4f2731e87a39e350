package checkpoint

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"hearth/internal/dtype"
)

// Report is the outcome of Verify.
type Report struct {
	Weights  int   // matrices and vectors that were scanned; each expert counts
	Bytes    int64 // of their storage
	Findings []Finding
}

// Finding is one kind of bad value in one tensor.
type Finding struct {
	Tensor  string // as stored
	File    string // base name
	Expert  int    // -1 where the tensor is not one of stacked experts
	Problem string
}

// String puts a finding into one line.
func (f Finding) String() string {
	if f.Expert >= 0 {
		return fmt.Sprintf("%s: tensor %q: expert %d: %s", f.File, f.Tensor, f.Expert, f.Problem)
	}
	return fmt.Sprintf("%s: tensor %q: %s", f.File, f.Tensor, f.Problem)
}

// absurdScale is more than any weight of a trained model; corrupt scales are usually far above it or not numbers.
const absurdScale = 1e4

// part is one plane to scan, with the tensor that it comes from. Vectors are planes of one row.
type part struct {
	t      *tensor
	expert int
	plane  dtype.Plane
}

// Verify reads every value that the model uses and reports what no sound checkpoint has: NaN and infinity, MXFP4
// scales of 255 or so large that their codes overflow, bitsandbytes scales that are not numbers or absurd, and experts
// that look transposed. It uses all processors. Progress, if not nil, is called now and then with the bytes done and the bytes in all, by one
// goroutine at a time. The checkpoint must be open.
func (c *Checkpoint) Verify(progress func(done, total int64)) Report {
	b := c.binder.run()
	var parts []part
	b.visit = func(t *tensor, expert int, p dtype.Plane) { parts = append(parts, part{t, expert, p}) }
	b.checking = true
	b.walk()
	r := Report{Weights: len(parts)}
	for i := range parts {
		r.Bytes += parts[i].plane.Bytes()
	}
	var mu sync.Mutex // guards done, r.Findings and the calls of progress
	var done int64
	advance := func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		if done += n; progress != nil {
			progress(done, r.Bytes)
		}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(parts)); i = next.Add(1) - 1 {
				found := parts[i].guarded(advance)
				mu.Lock()
				r.Findings = append(r.Findings, found...)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	_ = Guard(func() error { // a file that cannot be read has been found above
		r.Findings = append(r.Findings, c.checkAxes()...)
		return nil
	})
	slices.SortFunc(r.Findings, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Tensor, y.Tensor), cmp.Compare(x.Expert, y.Expert), cmp.Compare(x.Problem, y.Problem))
	})
	return r
}

// tally counts one kind of bad value.
type tally struct {
	count, first int
}

func (t *tally) add(i int) {
	if t.count == 0 {
		t.first = i
	}
	t.count++
}

func (p *part) finding(format string, args ...any) Finding {
	return Finding{Tensor: p.t.name, File: filepath.Base(p.t.file), Expert: p.expert, Problem: fmt.Sprintf(format, args...)}
}

// guarded is scan, where a plane that cannot be read is a finding.
func (p *part) guarded(advance func(int64)) (found []Finding) {
	if err := Guard(func() error {
		found = p.scan(advance)
		return nil
	}); err != nil {
		found = append(found, p.finding("%v", err))
	}
	return found
}

// scan looks through one plane and reports its bytes to advance as it goes.
func (p *part) scan(advance func(int64)) []Finding {
	switch p.plane.Format {
	case dtype.F32, dtype.F16, dtype.BF16:
		return p.scanFloats(advance)
	}
	defer advance(p.plane.Bytes())
	switch p.plane.Format {
	case dtype.NF4, dtype.FP4:
		return p.scanQuant()
	case dtype.MXFP4:
		return p.scanRows(func(row int) bool {
			n := p.plane.Cols / 32
			return slices.Max(p.plane.Scales[row*n:(row+1)*n]) >= firstOverflow
		})
	case dtype.MXFP4GGML, dtype.MXFP4Ollama:
		return p.scanRows(func(row int) bool {
			const block = 17
			line := p.plane.Data[row*p.plane.Cols/32*block : (row+1)*p.plane.Cols/32*block]
			for i := 0; i < len(line); i += block {
				if line[i] >= firstOverflow {
					return true
				}
			}
			return false
		})
	}
	return p.scanRows(func(int) bool { return true })
}

// firstOverflow is the least E8M0 exponent under which some MXFP4 code is no finite float32; 255 is NaN for all.
const firstOverflow = 253

// scanFloats looks for NaN and infinity in plain numbers.
func (p *part) scanFloats(advance func(int64)) []Finding {
	const chunk = 8 << 20
	var nan, inf tally
	data, size := p.plane.Data, p.plane.Format.BlockBytes()
	for at := 0; at < len(data); at += chunk {
		piece := data[at:min(at+chunk, len(data))]
		for i := 0; i < len(piece); i += size {
			switch x := bitsAt(p.plane.Format, piece[i:]); {
			case x&0x7F800000 != 0x7F800000:
			case x&0x007FFFFF == 0:
				inf.add((at + i) / size)
			default:
				nan.add((at + i) / size)
			}
		}
		advance(int64(len(piece)))
	}
	return p.nonFinite(nan, inf)
}

// bitsAt gives the float32 bits of the number at the start of b; only whether it is finite matters.
func bitsAt(f dtype.Format, b []byte) uint32 {
	switch f {
	case dtype.F32:
		return binary.LittleEndian.Uint32(b)
	case dtype.BF16:
		return uint32(binary.LittleEndian.Uint16(b)) << 16
	}
	return math.Float32bits(dtype.FromF16(binary.LittleEndian.Uint16(b)))
}

func (p *part) nonFinite(nan, inf tally) []Finding {
	var out []Finding
	for _, x := range []struct {
		tally
		what string
	}{{nan, "NaN"}, {inf, "infinite"}} {
		if x.count > 0 {
			out = append(out, p.finding("%d values are %s, the first at [%d, %d]", x.count, x.what, x.first/p.plane.Cols, x.first%p.plane.Cols))
		}
	}
	return out
}

// scanRows decodes the rows that a cheap test suspects.
func (p *part) scanRows(suspect func(row int) bool) []Finding {
	var nan, inf tally
	var row []float32
	for r := range p.plane.Rows {
		if !suspect(r) {
			continue
		}
		if row == nil {
			row = make([]float32, p.plane.Cols)
		}
		p.plane.DecodeRows(row, r, 1)
		for i, v := range row {
			if math.IsNaN(float64(v)) {
				nan.add(r*p.plane.Cols + i)
			} else if math.IsInf(float64(v), 0) {
				inf.add(r*p.plane.Cols + i)
			}
		}
	}
	return p.nonFinite(nan, inf)
}

// scanQuant looks at the scales of a bitsandbytes tensor: their codes cannot be wrong by themselves.
func (p *part) scanQuant() []Finding {
	var nan, large, negative tally
	var worst float32
	q := p.plane.Quant
	for i := range (p.plane.Rows*p.plane.Cols + q.Block - 1) / q.Block {
		switch s := q.Scale(i); {
		case s != s:
			nan.add(i)
		case s > absurdScale || s < -absurdScale:
			large.add(i)
			worst = max(worst, s, -s)
		case s < 0 && q.Codes == nil: // double quantisation may round a scale below zero
			negative.add(i)
		}
	}
	var out []Finding
	if nan.count > 0 {
		out = append(out, p.finding("%d scales are NaN, the first of block %d", nan.count, nan.first))
	}
	if large.count > 0 {
		out = append(out, p.finding("%d scales are absurdly large, up to %g, the first of block %d", large.count, worst, large.first))
	}
	if negative.count > 0 {
		out = append(out, p.finding("%d scales are negative, the first of block %d", negative.count, negative.first))
	}
	return out
}

// SHA256 hashes the stored bytes of one tensor, by its stored name; ok is false if there is no such tensor. The
// checkpoint must be open.
func (c *Checkpoint) SHA256(name string) (sum [sha256.Size]byte, ok bool) {
	i := slices.IndexFunc(c.binder.store.tensors, func(t tensor) bool { return t.name == name })
	if i < 0 {
		return sum, false
	}
	return sha256.Sum256(c.binder.store.tensors[i].data), true
}
