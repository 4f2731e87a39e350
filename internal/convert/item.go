package convert

import (
	"fmt"
	"slices"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
)

// item is one weight and the way in which it is written.
type item struct {
	weight   weight
	rows     rowsOf
	codec    codec
	out      [][]*Tensor // the codec's tensors; each either one for all matrices or one for each
	at       int64       // where the item begins in a tensor that others share
	share    []int64     // bytes of one matrix in each of the codec's tensors
	shape    [3]int      // matrices, rows, cols
	exact    bool
	from, to string // formats, for reports
	bytes    int64
	error    Error // measured, where not exact
}

// vector is a small tensor that is decoded and written whole.
type vector struct {
	tensor *Tensor
	format dtype.Format
	layer  int // -1 outside the layers
	get    func(s *parts) ([]float32, error)
}

// piece is a bounded amount of work: rows of one matrix of an item, or a run of small tensors.
type piece struct {
	layer   int // -1 outside the layers
	item    *item
	expert  int
	first   int
	rows    int
	vectors []vector
	fixed   []*Tensor
	bytes   int64 // written
}

func (p *piece) String() string {
	switch {
	case p.item == nil && len(p.vectors) > 0:
		return fmt.Sprintf("tensor %q and the like", p.vectors[0].tensor.Name)
	case p.item == nil:
		return fmt.Sprintf("tensor %q and the like", p.fixed[0].Name)
	case p.item.weight.isExperts():
		return fmt.Sprintf("%v, expert %d, rows %d to %d", p.item.weight, p.expert, p.first, p.first+p.rows-1)
	}
	return fmt.Sprintf("%v, rows %d to %d", p.item.weight, p.first, p.first+p.rows-1)
}

// builder collects the tensors of a plan.
type builder struct {
	plan    *Plan
	cfg     *checkpoint.Config
	small   dtype.Format // of all the source's small tensors; Invalid if they differ or could be narrower
	vectors []vector
	fixed   []*Tensor
	maps    map[[256]float32][]byte
	err     error
}

func (b *builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *builder) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(b.plan.Notes, n) {
		b.plan.Notes = append(b.plan.Notes, n)
	}
}

// tensor adds a tensor to the output.
func (b *builder) tensor(name, dtypeName string, size int64, how string, shape ...int) *Tensor {
	for _, n := range shape {
		size *= int64(n)
	}
	t := &Tensor{Name: name, DType: dtypeName, Shape: shape, Bytes: size, How: how}
	b.plan.Tensors = append(b.plan.Tensors, t)
	return t
}

// floatTensor adds a tensor of plain numbers.
func (b *builder) floatTensor(name string, f dtype.Format, how string, shape ...int) *Tensor {
	t := b.tensor(name, f.String(), int64(f.BlockBytes()), how, shape...)
	t.gguf, _ = f.GGUFType()
	return t
}

// constant adds a tensor whose contents are known.
func (b *builder) constant(name, dtypeName string, data []byte, shape ...int) {
	t := b.tensor(name, dtypeName, 0, "constant", shape...)
	t.Bytes, t.fixed = int64(len(data)), data
	b.fixed = append(b.fixed, t)
}

// vector adds a norm, bias or sink vector, or the router's matrix, in the narrowest format that holds its values.
func (b *builder) vector(name string, layer int, get func(s *parts) ([]float32, error), shape ...int) {
	if b.err != nil {
		return
	}
	f := dtype.F32
	switch {
	case b.plan.opt.To == GGUF: // llama.cpp wants float32
	case b.small != dtype.Invalid:
		f = b.small
	default:
		v, err := get(b.plan.src)
		if err != nil {
			b.fail(err)
			return
		}
		f = narrow(v)
	}
	b.vectors = append(b.vectors, vector{b.floatTensor(name, f, "exact", shape...), f, layer, get})
}

func narrow(v []float32) dtype.Format {
	for _, f := range []dtype.Format{dtype.BF16, dtype.F16} {
		if fits(v, f) {
			return f
		}
	}
	return dtype.F32
}

// smallFormat is the format of all vectors and of the router, where they have one and it is of 16 bits.
func smallFormat(c *checkpoint.Checkpoint) dtype.Format {
	f := dtype.Invalid
	for _, t := range c.Tensors() {
		if t.Canonical != checkpoint.RoleVectors && t.Canonical != checkpoint.RoleRouter {
			continue
		}
		if f == dtype.Invalid {
			f = t.Format
		}
		if f != t.Format || f != dtype.BF16 && f != dtype.F16 {
			return dtype.Invalid
		}
	}
	return f
}

// fits says whether every value survives a format, apart from the payload of a NaN.
func fits(v []float32, f dtype.Format) bool {
	for _, x := range v {
		y := dtype.FromBF16(dtype.ToBF16(x))
		if f == dtype.F16 {
			y = dtype.FromF16(dtype.ToF16(x))
		}
		if y != x && x == x {
			return false
		}
	}
	return true
}

// add adds an item of n matrices [rows, cols] whose tensors are out.
func (b *builder) add(it *item, n, rows, cols int, out ...[]*Tensor) {
	it.out, it.shape = out, [3]int{n, rows, cols}
	for _, list := range out {
		it.share = append(it.share, list[0].Bytes/int64(n/len(list)))
		for _, t := range list {
			it.bytes += t.Bytes
		}
	}
	b.plan.items = append(b.plan.items, it)
}

// cut divides the plan into pieces, in the order of the model so that few layers are in use at a time.
func (b *builder) cut() {
	p := b.plan
	for _, it := range p.items {
		n, rows, cols := it.shape[0], it.shape[1], it.shape[2]
		step := it.codec.chunk(rows, cols)
		for e := range n {
			for first := 0; first < rows; first += step {
				count := min(step, rows-first)
				p.pieces = append(p.pieces, piece{
					item: it, layer: it.weight.layer, expert: e, first: first, rows: count, bytes: it.bytes / int64(n) * int64(count) / int64(rows),
				})
			}
		}
	}
	byLayer := func(x, y vector) int { return x.layer - y.layer }
	slices.SortStableFunc(b.vectors, byLayer)
	for len(b.vectors) > 0 {
		n, _ := slices.BinarySearchFunc(b.vectors, vector{layer: b.vectors[0].layer + 1}, byLayer)
		x := piece{layer: b.vectors[0].layer, vectors: b.vectors[:n]}
		for _, v := range x.vectors {
			x.bytes += v.tensor.Bytes
		}
		p.pieces = append(p.pieces, x)
		b.vectors = b.vectors[n:]
	}
	const most = 1000
	for list := range slices.Chunk(b.fixed, most) {
		x := piece{layer: -1, fixed: list}
		for _, t := range list {
			x.bytes += t.Bytes
		}
		p.pieces = append(p.pieces, x)
	}
	slices.SortStableFunc(p.pieces, func(x, y piece) int { return x.layer - y.layer })
}
