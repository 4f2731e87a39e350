package convert

import (
	"fmt"

	"hearth/internal/dtype"
)

// The decisions of a plan: in which format each weight is written, and whether that is exact by construction. Where it
// is not, the error is measured: MXFP4 that went through BF16 comes back exact, for one.

// choice is a codec and what is known of it.
type choice struct {
	codec codec
	exact bool
	to    string // format, for reports
}

func floats(f dtype.Format, transposed bool, p *dtype.Plane) choice {
	return choice{floatCodec{f, transposed}, exactIn(f, p), f.String()}
}

// dense decides about q, k, v, o, embedding and head.
func (b *builder) dense(w weight, p *dtype.Plane) choice {
	switch o := b.plan.opt; o.Dense {
	case BF16:
		return floats(dtype.BF16, false, p)
	case F16:
		return floats(dtype.F16, false, p)
	case Q8_0:
		if p.Cols%32 != 0 {
			b.note("%s: rows of %d are no whole blocks of Q8_0, so it stays in plain numbers", w.kind(), p.Cols)
			break
		}
		return choice{blockCodec{dtype.Q8_0}, p.Format == dtype.Q8_0, dtype.Q8_0.String()}
	case NF4:
		if w.kind() != KindAttention {
			b.note("--dense nf4 is for attention: bitsandbytes leaves embedding and head as they are")
			break
		}
		c := bnbCodec{format: dtype.NF4, block: bnbBlock, round: dtype.BF16}
		if isPlainBNB(p) {
			return b.copyBNB(p, nested(p))
		}
		if o.Experts == NF4DQ {
			c.nested = nestedBlock
		}
		return choice{codec: c, to: c.name()}
	}
	return b.keepDense(p)
}

// keepDense keeps a dense matrix in its format, or in the narrowest plain numbers that hold it.
func (b *builder) keepDense(p *dtype.Plane) choice {
	switch to := b.plan.opt.To; {
	case (to == UnslothBNB || to == FusedNF4) && isPlainBNB(p):
		return b.copyBNB(p, nested(p))
	case to == GGUF && isGGUFBlock(p.Format):
		return choice{blockCodec{p.Format}, true, p.Format.String()}
	}
	return floats(floatOf(p), false, p)
}

func (c bnbCodec) name() string {
	if c.nested > 0 {
		return c.format.String() + "-DQ"
	}
	return c.format.String()
}

// formatName is the format of a plane for reports, with double quantisation.
func formatName(p *dtype.Plane) string {
	if p.Quant != nil && p.Quant.Codes != nil {
		return p.Format.String() + "-DQ"
	}
	return p.Format.String()
}

// isPlainBNB says whether a plane is a bitsandbytes tensor with blocks along its rows.
func isPlainBNB(p *dtype.Plane) bool { return p.Quant != nil && !p.Transposed }

// nested is the block of a plane's nested scales, 0 without, or where they begin within a block of scales.
func nested(p *dtype.Plane) int {
	v := planeView(p).narrow(0, p.Rows)
	if q := nestedOf(&v); q != nil {
		return q.NestedBlock
	}
	return 0
}

// isGGUFBlock says whether GGUF has a type for self-contained blocks in this format.
func isGGUFBlock(f dtype.Format) bool {
	_, ok := f.GGUFType()
	return ok && f.BlockElems() > 1 && f != dtype.MXFP4Ollama
}

// copyBNB keeps the codes of a bitsandbytes tensor.
func (b *builder) copyBNB(p *dtype.Plane, nested int) choice {
	c := bnbCodec{format: p.Format, block: p.Quant.Block, nested: nested, round: p.Quant.Round, transposed: p.Transposed}
	return choice{c, true, c.name()}
}

// experts decides about a projection of the experts.
func (b *builder) experts(w weight, s *dtype.Stack) (choice, error) {
	p := &s.Even[0]
	o := b.plan.opt
	if s.Odd != nil && s.Odd[0].Format != p.Format {
		return choice{}, fmt.Errorf("%v: gate is %v and up is %v: they cannot be put together as they are", w, p.Format, s.Odd[0].Format)
	}
	var c choice
	switch o.To {
	case HFMXFP4, OpenAI:
		c = choice{mxCodec{}, isMX(p.Format), dtype.MXFP4.String()}
	case GGUF:
		c = b.ggufChoice(p)
	case HFBF16:
		f := floatOf(p)
		if o.Experts == BF16 {
			f = dtype.BF16
		}
		c = floats(f, true, p)
	case UnslothBNB:
		c = b.bnbExperts(s)
	default:
		c = b.bnbExperts(s)
		if fused, ok := c.codec.(bnbCodec); ok {
			fused.fused = true
			c.codec = fused
			if o.KeepNested && fused.nested == 0 {
				b.note("--keep-nested has nothing to keep: the experts' scales are not double-quantised as one; --experts nf4-dq makes them so")
			}
		}
	}
	if o.Experts == Keep && c.to != formatName(p) && !c.exact {
		return c, fmt.Errorf("--experts keep: the experts are %s, and %s has no form for that; leave the flag out for %s, or name another target",
			formatName(p), o.To, c.to)
	}
	_, cols := s.Shape()
	if _, ok := c.codec.(mxCodec); ok && cols%32 != 0 {
		return c, fmt.Errorf("%v: rows of %d are not whole blocks of 32, as MXFP4 needs", w, cols)
	}
	return c, nil
}

func (b *builder) ggufChoice(p *dtype.Plane) choice {
	switch o := b.plan.opt.Experts; {
	case o == BF16:
		return floats(dtype.BF16, false, p)
	case o == MXFP4, isMX(p.Format):
		return choice{mxCodec{ggml: true}, isMX(p.Format), dtype.MXFP4.String()}
	case isGGUFBlock(p.Format):
		return choice{blockCodec{p.Format}, true, p.Format.String()}
	}
	return floats(floatOf(p), false, p)
}

// bnbExperts decides about a target of 4-bit tensors. Codes are copied wherever the blocks lie along the rows.
func (b *builder) bnbExperts(s *dtype.Stack) choice {
	o, p := b.plan.opt, &s.Even[0]
	if o.Experts == BF16 {
		return floats(dtype.BF16, false, p)
	}
	asked := o.Experts == NF4 || o.Experts == NF4DQ
	copies := uniform(s) && isPlainBNB(p) && (s.Odd == nil || p.Cols%p.Quant.Block == 0) || uniform(s) && p.Transposed && o.To == FusedNF4 && !asked
	if copies && (!asked || p.Format == dtype.NF4) {
		own := b.keptScales(s)
		switch {
		case o.To == FusedNF4 && !o.KeepNested, o.Experts == NF4:
			return b.copyBNB(p, 0)
		case o.Experts == NF4DQ && own == 0:
			c := b.copyBNB(p, nestedBlock)
			c.exact = false // scales are nested anew
			return c
		}
		return b.copyBNB(p, own)
	}
	if p.Quant != nil && p.Transposed {
		b.note("the experts' 4-bit blocks run along the output axis, where the new ones run along the input axis: they are quantised anew")
	}
	c := bnbCodec{format: dtype.NF4, block: bnbBlock, round: dtype.BF16}
	if o.Experts == NF4DQ || o.Experts == Auto && o.To == UnslothBNB {
		c.nested = nestedBlock
	}
	return choice{codec: c, to: c.name()}
}

// uniform says whether all experts are bitsandbytes tensors of one kind.
func uniform(s *dtype.Stack) bool {
	first := &s.Even[0]
	for _, planes := range [][]dtype.Plane{s.Even, s.Odd} {
		for i := range planes {
			p := &planes[i]
			if p.Quant == nil || p.Format != first.Format || p.Transposed != first.Transposed || p.Quant.Block != first.Quant.Block ||
				p.Quant.Round != first.Quant.Round {
				return false
			}
		}
	}
	return true
}

// keptScales is the block of nested scales that every expert has and that can be kept: in a fused tensor they share one
// table.
func (b *builder) keptScales(s *dtype.Stack) int {
	if s.Odd != nil {
		return 0
	}
	own := nested(&s.Even[0])
	for i := range s.Even {
		q := s.Even[i].Quant
		if own == 0 || nested(&s.Even[i]) != own || q.Block != s.Even[0].Quant.Block {
			return 0
		}
		if b.plan.opt.To == FusedNF4 && *q.Map != *s.Even[0].Quant.Map {
			b.note("the experts have different tables of nested scales: their scales are written as float32")
			return 0
		}
	}
	return own
}
