package convert

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
)

// LoadOptions say what becomes of weights on their way from a checkpoint to a device. The zero value leaves all as it is.
type LoadOptions struct {
	// Quantization of the experts, in vLLM's words: "" and "none" leave them as they are stored, "bitsandbytes" makes them
	// NF4 with double quantisation, "mxfp4" MXFP4. Attention, router, embedding and head are never quantised.
	Quantization string
	// DType is the format that dense weights are rounded to: "" and "auto" leave them as they are stored; "float16",
	// "bfloat16", "float32".
	DType string
}

// dtypes are the formats that LoadOptions.DType names.
func dtypes() map[string]dtype.Format {
	return map[string]dtype.Format{
		"": dtype.Invalid, "auto": dtype.Invalid, "float16": dtype.F16, "half": dtype.F16, "bfloat16": dtype.BF16, "float32": dtype.F32, "float": dtype.F32,
	}
}

// Requantised is a checkpoint's canonical view whose planes are requantised as they are asked for, one layer at a time.
// Its planes are ordinary memory, or the checkpoint's own where nothing changes. It is safe for concurrent use.
type Requantised struct {
	Source
	experts dtype.Format // NF4, MXFP4, or Invalid: as stored
	dense   dtype.Format // F16, BF16, or Invalid: as stored
	round   dtype.Format // of NF4 values

	mu    sync.Mutex
	parts []Part
}

// OnLoad wraps a checkpoint. Warnings say, before any work, what will change.
func OnLoad(src Source, o LoadOptions) (r *Requantised, warnings []string, err error) {
	f, ok := dtypes()[o.DType]
	if !ok {
		return nil, nil, fmt.Errorf("--dtype %q: want auto, float16, bfloat16 or float32", o.DType)
	}
	r = &Requantised{Source: src, dense: f, round: dtype.BF16}
	if f == dtype.F16 || f == dtype.F32 {
		r.round = f
	}
	if f == dtype.F32 {
		r.dense = dtype.Invalid // everything is computed in float32, which holds all that is stored
	}
	switch o.Quantization {
	case "", "none":
	case "bitsandbytes":
		r.experts = dtype.NF4
	case "mxfp4":
		r.experts = dtype.MXFP4
	default:
		return nil, nil, fmt.Errorf("--quantization %q: want bitsandbytes, mxfp4 or none", o.Quantization)
	}
	l, err := src.Layer(0)
	if err != nil {
		return nil, nil, err
	}
	from := &l.GateUp.Weight.Even[0]
	switch {
	case r.experts == dtype.Invalid:
	case r.keeps(from):
		warnings = append(warnings, fmt.Sprintf("the experts are %s already: --quantization %s changes nothing", formatName(from), o.Quantization))
	case from.Format == dtype.BF16 || from.Format == dtype.F16 || from.Format == dtype.F32:
		warnings = append(warnings, fmt.Sprintf("the experts are quantised from %v to %s while they are read", from.Format, r.name()))
	default:
		warnings = append(warnings, fmt.Sprintf("the experts are stored as %s and are requantised to %s, because --quantization %s says so: that loses precision twice",
			formatName(from), r.name(), o.Quantization))
	}
	if r.experts == dtype.MXFP4 && (src.Config().Hidden%32 != 0 || src.Config().Intermediate%32 != 0) {
		return nil, nil, fmt.Errorf("--quantization mxfp4: rows of %d and %d are not whole blocks of 32", src.Config().Hidden, src.Config().Intermediate)
	}
	return r, warnings, nil
}

// Changes says whether any plane may differ from the checkpoint's.
func (r *Requantised) Changes() bool { return r.experts != dtype.Invalid || r.dense != dtype.Invalid }

// name is the format that experts get.
func (r *Requantised) name() string {
	if r.experts == dtype.NF4 {
		return "NF4-DQ"
	}
	return r.experts.String()
}

// keeps says whether an expert is in the wanted format already.
func (r *Requantised) keeps(p *dtype.Plane) bool {
	switch r.experts {
	case dtype.NF4:
		return p.Quant != nil
	case dtype.MXFP4:
		return isMX(p.Format)
	}
	return true
}

// Parts reports what was changed so far, with the measured error of each kind of weight.
func (r *Requantised) Parts() []Part {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.parts)
}

// count adds the error of some weights of one kind.
func (r *Requantised) count(kind Kind, from, to string, size int64, e *Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.parts, func(p Part) bool { return p.Kind == kind && p.From == from })
	if i < 0 {
		i = len(r.parts)
		r.parts = append(r.parts, Part{Kind: kind, From: from, To: to, Error: &Error{}})
	}
	r.parts[i].Bytes += size
	sum := *r.parts[i].Error // Parts has handed the old one out
	sum.add(e)
	r.parts[i].Error = &sum
}

// Embedding is the token embedding, rounded if asked for.
func (r *Requantised) Embedding() (dtype.Plane, error) {
	return r.end(KindEmbedding, r.Source.Embedding)
}

// Head is the output projection, rounded if asked for.
func (r *Requantised) Head() (dtype.Plane, error) { return r.end(KindHead, r.Source.Head) }

func (r *Requantised) end(kind Kind, get func() (dtype.Plane, error)) (dtype.Plane, error) {
	p, err := get()
	if err != nil {
		return p, err
	}
	return r.round16(kind, p)
}

// FinalNorm is the weight of the last norm, rounded if asked for.
func (r *Requantised) FinalNorm() ([]float32, error) {
	v, err := r.Source.FinalNorm()
	if err != nil {
		return nil, err
	}
	return r.vector(v)
}

// Layer gives layer n with its experts quantised and the rest rounded as asked for.
func (r *Requantised) Layer(n int) (*checkpoint.Layer, error) {
	own, err := r.Source.Layer(n)
	if err != nil {
		return nil, err
	}
	l := *own
	for _, x := range []struct {
		kind   Kind
		linear *checkpoint.Linear
	}{{KindAttention, &l.Q}, {KindAttention, &l.K}, {KindAttention, &l.V}, {KindAttention, &l.O}, {KindRouter, &l.Router}} {
		if x.linear.Weight, err = r.round16(x.kind, x.linear.Weight); err != nil {
			return nil, err
		}
	}
	for _, v := range []*[]float32{
		&l.AttnNorm, &l.MLPNorm, &l.Sinks, &l.Q.Bias, &l.K.Bias, &l.V.Bias, &l.O.Bias, &l.Router.Bias, &l.GateUp.Bias, &l.Down.Bias,
	} {
		if *v, err = r.vector(*v); err != nil {
			return nil, err
		}
	}
	if l.GateUp.Weight, err = r.stack(KindGateUp, own.GateUp.Weight); err == nil {
		l.Down.Weight, err = r.stack(KindDown, own.Down.Weight)
	}
	return &l, err
}

// stack quantises the experts of a projection, on all cores.
func (r *Requantised) stack(kind Kind, s dtype.Stack) (dtype.Stack, error) {
	if r.keeps(&s.Even[0]) {
		return s, nil
	}
	out := make([]dtype.Plane, s.Experts())
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for e := range out {
		g.Go(func() error {
			err := checkpoint.Guard(func() (err error) {
				out[e], err = r.expert(kind, &s, e)
				return err
			})
			if err != nil {
				return fmt.Errorf("expert %d of %s: %w", e, kind, err)
			}
			return nil
		})
	}
	return dtype.Stack{Even: out}, g.Wait()
}

// expert quantises one expert and measures it.
func (r *Requantised) expert(kind Kind, s *dtype.Stack, e int) (dtype.Plane, error) {
	v := newView(s, e, allRows)
	w := &worker{}
	p, err := r.quantise(w, &v)
	if err != nil {
		return p, err
	}
	var figures Error
	written := planeView(&p)
	w.compare(&figures, &v, &written)
	r.count(kind, formatName(v.even), r.name(), p.Bytes(), &figures)
	return p, nil
}

// quantise packs one expert.
func (r *Requantised) quantise(w *worker, v *view) (dtype.Plane, error) {
	n := v.rows * v.cols
	p := dtype.Plane{Format: r.experts, Rows: v.rows, Cols: v.cols, Data: make([]byte, n/2)}
	if r.experts == dtype.MXFP4 {
		p.Scales = make([]byte, n/32)
		step := chunkOf(v.rows, v.cols)
		for first := 0; first < v.rows; first += step {
			rows := min(step, v.rows-first)
			from, to := first*v.cols, (first+rows)*v.cols
			if err := dtype.QuantizeMXFP4(p.Data[from/2:to/2], p.Scales[from/32:to/32], w.decode(v, first, rows)); err != nil {
				return p, err
			}
		}
		return p, nil
	}
	if n%2 != 0 {
		return p, fmt.Errorf("%d values are an odd number", n)
	}
	c := bnbCodec{format: dtype.NF4, block: bnbBlock, nested: nestedBlock, round: r.round}
	absmax := w.floats(c.blocks(v))
	if err := c.quantise(w, p.Data, absmax, v); err != nil {
		return p, err
	}
	codes, nested, offset, err := dtype.QuantizeScales(absmax, nestedBlock)
	p.Quant = &dtype.Quant{
		Block: bnbBlock, Round: r.round, Codes: codes, Map: &dtype.NestedMap, Nested: float32s(nil, nested), NestedBlock: nestedBlock, Offset: offset,
	}
	return p, err
}

// round16 rounds a dense matrix; 4-bit ones stay as they are.
func (r *Requantised) round16(kind Kind, p dtype.Plane) (dtype.Plane, error) {
	if r.dense == dtype.Invalid || p.Quant != nil || exactIn(r.dense, &p) {
		return p, nil
	}
	out := dtype.Plane{Format: r.dense, Rows: p.Rows, Cols: p.Cols, Data: make([]byte, 2*p.Rows*p.Cols)}
	v, written := planeView(&p), planeView(&out)
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	step := chunkOf(p.Rows, p.Cols)
	for first := 0; first < p.Rows; first += step {
		g.Go(func() error {
			w, n := &worker{}, min(step, p.Rows-first)
			var values []float32
			if err := checkpoint.Guard(func() error {
				values = w.decode(&v, first, n)
				return nil
			}); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			encodeFloats(r.dense, out.Data[2*first*p.Cols:2*(first+n)*p.Cols], values)
			rounded := w.decodeInto(1, &written, first, n)
			if err := overflows(values, rounded, r.dense); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			var figures Error
			figures.compare(values, rounded)
			r.count(kind, p.Format.String(), r.dense.String(), 2*int64(len(values)), &figures)
			return nil
		})
	}
	return out, g.Wait()
}

// vector rounds a norm, bias or sink vector.
func (r *Requantised) vector(v []float32) ([]float32, error) {
	if r.dense == dtype.Invalid || fits(v, r.dense) {
		return v, nil
	}
	b := make([]byte, 2*len(v))
	encodeFloats(r.dense, b, v)
	out, err := dtype.DecodeVector(r.dense, b)
	if err == nil {
		err = overflows(v, out, r.dense)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", KindVectors, err)
	}
	var figures Error
	figures.compare(v, out)
	r.count(KindVectors, "stored", r.dense.String(), int64(len(b)), &figures)
	return out, nil
}

// overflows finds a value that became an infinity.
func overflows(v, rounded []float32, f dtype.Format) error {
	for i, x := range rounded {
		if math.IsInf(float64(x), 0) && !math.IsInf(float64(v[i]), 0) {
			return fmt.Errorf("%v does not fit --dtype %s: use bfloat16", v[i], dtypeName(f))
		}
	}
	return nil
}
