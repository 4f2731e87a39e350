package dtype

import (
	"fmt"
	"math"
)

// Check reports the first thing that keeps the plane from being decoded: a shape that is empty, does not fit the
// format's blocks or is too large to count, a storage order the format does not have, or a slice whose length does not
// follow from the shape. It reads no values.
func (p *Plane) Check() error {
	if p.Rows <= 0 || p.Cols <= 0 || p.Cols > math.MaxInt/64/p.Rows {
		return fmt.Errorf("%v plane has shape [%d, %d]", p.Format, p.Rows, p.Cols)
	}
	switch p.Format {
	case F32, F16, BF16:
	case NF4, FP4:
		if p.Quant == nil {
			return fmt.Errorf("%s has no scales", p.name())
		}
		if err := p.Quant.check(p.Rows * p.Cols); err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
	default:
		elems := p.Format.BlockElems()
		if elems <= 1 {
			return fmt.Errorf("%v holds no numbers of a plane", p.Format)
		}
		if p.Transposed {
			return fmt.Errorf("%s is stored transposed, which this format has no form for", p.name())
		}
		if p.Cols%elems != 0 {
			return fmt.Errorf("%s has rows that are no multiple of its %d-element blocks", p.name(), elems)
		}
	}
	if p.Quant != nil && p.Format != NF4 && p.Format != FP4 {
		return fmt.Errorf("%s has bitsandbytes scales, which belong to NF4 and FP4", p.name())
	}
	if want := p.dataBytes(); len(p.Data) != want {
		return fmt.Errorf("%s has %d bytes of data, needs %d", p.name(), len(p.Data), want)
	}
	if want := p.scaleBytes(); len(p.Scales) != want {
		return fmt.Errorf("%s has %d E8M0 scales, needs %d", p.name(), len(p.Scales), want)
	}
	return nil
}

// Outline says that the plane has a shape and no content: it can be planned for, and nothing else.
func (p *Plane) Outline() bool { return len(p.Data) == 0 }

func (p *Plane) name() string { return fmt.Sprintf("%v plane [%d, %d]", p.Format, p.Rows, p.Cols) }

// dataBytes is the length that Data must have.
func (p *Plane) dataBytes() int {
	n := p.Rows * p.Cols
	switch p.Format {
	case NF4, FP4:
		return n/2 + n%2
	case MXFP4:
		return n / 2
	}
	return n / p.Format.BlockElems() * p.Format.BlockBytes()
}

// scaleBytes is the length that Scales must have.
func (p *Plane) scaleBytes() int {
	if p.Format != MXFP4 {
		return 0
	}
	return p.Rows * p.Cols / 32
}

// check compares the arrays with a plane of n elements. They may be longer: an expert shares those of its fused tensor.
func (q *Quant) check(n int) error {
	switch {
	case q.Block <= 0:
		return fmt.Errorf("block size is %d", q.Block)
	case q.First < 0 || q.First > math.MaxInt/2:
		return fmt.Errorf("first block is %d", q.First)
	case q.Round != BF16 && q.Round != F16 && q.Round != F32:
		return fmt.Errorf("values are to be rounded to %v; BF16, F16 and F32 are possible", q.Round)
	case (q.Absmax == nil) == (q.Codes == nil):
		return fmt.Errorf("needs either float32 or double-quantised scales, has %d bytes and %d codes", len(q.Absmax), len(q.Codes))
	}
	end := q.First + ceil(n, q.Block)
	if q.Codes == nil {
		if len(q.Absmax)%4 != 0 || len(q.Absmax)/4 < end {
			return fmt.Errorf("absmax has %d bytes, blocks %d to %d need %d", len(q.Absmax), q.First, end-1, 4*int64(end))
		}
		return nil
	}
	switch {
	case q.Map == nil:
		return fmt.Errorf("has 8-bit scales and no nested_quant_map")
	case q.NestedBlock <= 0:
		return fmt.Errorf("nested block size is %d", q.NestedBlock)
	case len(q.Codes) < end:
		return fmt.Errorf("absmax has %d codes, blocks %d to %d need %d", len(q.Codes), q.First, end-1, end)
	case len(q.Nested)%4 != 0 || len(q.Nested)/4 < ceil(end, q.NestedBlock):
		return fmt.Errorf("nested_absmax has %d bytes, blocks %d to %d need %d", len(q.Nested), q.First, end-1, 4*int64(ceil(end, q.NestedBlock)))
	}
	return nil
}

// ceil is a/b rounded up, for a >= 0 and b > 0.
func ceil(a, b int) int {
	n := a / b
	if a%b != 0 {
		n++
	}
	return n
}

// Bytes is the plane's storage: its values and its share of the scales. The plane has passed Check.
func (p *Plane) Bytes() int64 {
	n := int64(p.dataBytes()) + int64(p.scaleBytes())
	q := p.Quant
	if q == nil {
		return n
	}
	blocks := ceil(p.Rows*p.Cols, q.Block)
	if q.Codes == nil {
		return n + 4*int64(blocks)
	}
	nested := ceil(q.First+blocks, q.NestedBlock) - q.First/q.NestedBlock
	return n + int64(blocks) + 4*int64(nested)
}

// Slice gives rows [first, first+rows) as a plane over the same bytes. ok is false where that cannot be had by slicing
// alone: the plane is transposed, the rows are not there, or a 4-bit block straddles the first one's beginning. The
// plane has passed Check.
func (p *Plane) Slice(first, rows int) (s Plane, ok bool) {
	if p.Transposed || first < 0 || rows <= 0 || first > p.Rows-rows {
		return Plane{}, false
	}
	s = *p
	s.Rows = rows
	start := first * p.Cols
	if q := p.Quant; q != nil {
		if start%q.Block != 0 || start%2 != 0 {
			return Plane{}, false
		}
		moved := *q
		moved.First += start / q.Block
		s.Quant = &moved
	}
	before := Plane{Format: p.Format, Rows: first, Cols: p.Cols}
	s.Data = p.Data[before.dataBytes():][:s.dataBytes()]
	if p.Format == MXFP4 {
		s.Scales = p.Scales[before.scaleBytes():][:s.scaleBytes()]
	}
	return s, true
}
