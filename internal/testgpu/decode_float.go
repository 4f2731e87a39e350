package testgpu

import "slices"

// Arithmetic on floats: root{.modifiers}.type.

var floatRoots = []string{"add", "sub", "mul", "fma", "mad", "div", "min", "max", "abs", "neg", "copysign",
	"rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh"}

// floatOp is a decoded name.
type floatOp struct {
	root   string
	typ    scalar
	round  string // rn rz rm rp approx full or ""
	flush  bool
	sat    bool
	nan    bool
	relu   bool
	args   int
	approx bool
}

// isFloat reports whether the opcode is one of this file's.
func isFloat(o *opcode) bool {
	if !slices.Contains(floatRoots, o.root) || len(o.mods) == 0 {
		return false
	}
	t, ok := scalarOf(o.mods[len(o.mods)-1])
	return ok && t.float()
}

func (d *decoder) float(o opcode) error {
	f := floatOp{root: o.root}
	f.round = o.take("rn", "rz", "rm", "rp", "approx", "full")
	f.flush = o.take("ftz") != ""
	f.nan = o.take("NaN") != ""
	f.sat = o.take("sat") != ""
	f.relu = o.take("relu") != ""
	f.typ = o.scalar()
	f.approx = f.round == "approx" || f.round == "full"
	if !o.done() {
		return d.unknown()
	}
	switch f.root {
	case "fma", "mad":
		f.args = 3
	case "add", "sub", "mul", "div", "min", "max", "copysign":
		f.args = 2
	default:
		f.args = 1
	}
	if err := d.args(f.args+1, f.args+1); err != nil {
		return err
	}
	switch f.typ {
	case f32:
		return d.float32(f)
	case f64:
		return d.float64(f)
	case f16, f16x2, bf16, bf16x2:
		return d.half(f)
	}
	return d.unknown()
}

func (d *decoder) unknown() error { return d.errorf("unknown instruction %s", d.stmt.op) }

// handler32 picks the handler of a float32 instruction; nil: PTX has no such form.
func handler32(f floatOp) (handler, uint8) {
	plain := f.round == "" && !f.nan && !f.relu
	nearest := (f.round == "" || f.round == "rn") && !f.nan && !f.relu
	switch f.root {
	case "add":
		if nearest {
			return execAddF32, 0
		}
	case "sub":
		if nearest {
			return execSubF32, 0
		}
	case "mul":
		if nearest {
			return execMulF32, 0
		}
	case "fma", "mad":
		if f.round == "rn" {
			return execFmaF32, 0
		}
	case "div":
		if f.round == "rn" || f.approx {
			return execDivF32, 0
		}
	case "min", "max":
		sub := uint8(b2u(f.root == "max"))
		if f.nan && f.round == "" && !f.relu {
			return execMinNaNF32, sub
		}
		if plain {
			return []handler{execMinF32, execMaxF32}[sub], 0
		}
	case "abs":
		if plain {
			return execAbsF32, 0
		}
	case "neg":
		if plain {
			return execNegF32, 0
		}
	case "copysign":
		if plain && !f.flush {
			return execCopysignF32, 0
		}
	default:
		fn, exact := functionOf(f.root)
		if f.round == "approx" || f.round == "rn" && exact {
			return execFunctionF32, fn
		}
	}
	return nil, 0
}

func functionOf(root string) (fn uint8, exact bool) {
	switch root {
	case "rcp":
		return fnRcp, true
	case "sqrt":
		return fnSqrt, true
	case "rsqrt":
		return fnRsqrt, false
	case "ex2":
		return fnEx2, false
	case "lg2":
		return fnLg2, false
	case "sin":
		return fnSin, false
	case "cos":
		return fnCos, false
	}
	return fnTanh, false
}

func (d *decoder) float32(f floatOp) error {
	in := inst{out: out32}
	in.fn, in.sub = handler32(f)
	if in.fn == nil {
		if in.fn, in.more = rounded32(f); in.fn == nil {
			return d.unknown()
		}
		in.sub = map[string]uint8{"add": 0, "mul": 1, "fma": 2, "mad": 2, "sub": 3}[f.root]
	}
	slots, err := d.floatOperands(f, 32)
	if err != nil {
		return err
	}
	if f.flush {
		for i := 1; i <= f.args; i++ {
			t := d.temp32()
			d.emit(inst{fn: execFlushF32, out: out32, d: t, a: slots[i]})
			slots[i] = t
		}
	}
	in.d, in.a, in.b, in.c = slots[0], slots[1], slots[2], slots[3]
	d.emit(in)
	if f.flush {
		d.emit(inst{fn: execFlushF32, out: out32, d: in.d, a: in.d})
	}
	if f.sat {
		d.emit(inst{fn: execSaturateF32, out: out32, d: in.d, a: in.d})
	}
	return nil
}

// rounded32 serves add, sub, mul and fma with a directed rounding.
func rounded32(f floatOp) (handler, *extra) {
	mode, ok := map[string]rounding{"rz": towardZero, "rm": down, "rp": up}[f.round]
	if !ok || f.nan || f.relu || !slices.Contains([]string{"add", "sub", "mul", "fma", "mad"}, f.root) {
		return nil, nil
	}
	return execRoundedF32, &extra{round: mode}
}

// floatOperands resolves destination and sources of a width.
func (d *decoder) floatOperands(f floatOp, bits int) ([4]int32, error) {
	var slots [4]int32
	var err error
	if slots[0], err = d.dst(d.stmt.args[0], bits); err != nil {
		return slots, err
	}
	for i := 1; i <= f.args; i++ {
		if slots[i], err = d.value(d.stmt.args[i], f.typ); err != nil {
			return slots, err
		}
	}
	return slots, nil
}

func (d *decoder) float64(f floatOp) error {
	if f.flush || f.sat || f.nan || f.relu || f.round != "" && f.round != "rn" {
		return d.unknown()
	}
	in := inst{out: out64}
	switch f.root {
	case "add":
		in.fn = execAddF64
	case "sub":
		in.fn = execSubF64
	case "mul":
		in.fn = execMulF64
	case "fma", "mad":
		in.fn = execFmaF64
	case "div":
		in.fn = execDivF64
	case "min":
		in.fn = execMinF64
	case "max":
		in.fn = execMaxF64
	case "abs":
		in.fn = execAbsF64
	case "neg":
		in.fn = execNegF64
	case "rcp", "sqrt":
		in.fn = execFunctionF64
		in.sub, _ = functionOf(f.root)
	default:
		return d.unknown()
	}
	slots, err := d.floatOperands(f, 64)
	if err != nil {
		return err
	}
	in.d, in.a, in.b, in.c = slots[0], slots[1], slots[2], slots[3]
	d.emit(in)
	return nil
}

// half decodes f16 and bf16 arithmetic. bf16 has fma, min, max, abs and neg on sm_80; add, sub and mul came with sm_90.
func (d *decoder) half(f floatOp) error {
	in := inst{fn: execHalf, out: out32}
	bits := width(f.typ)
	if bits == 32 {
		in.flags |= halfPair
	}
	brain := f.typ == bf16 || f.typ == bf16x2
	if brain {
		in.flags |= halfBF16
	}
	for _, m := range []struct {
		set bool
		bit uint8
	}{{f.flush, halfFlush}, {f.sat, halfSat}, {f.relu, halfRelu}} {
		if m.set {
			in.flags |= m.bit
		}
	}
	nearest := f.round == "" || f.round == "rn"
	ok := false
	switch f.root {
	case "add", "sub", "mul":
		in.sub = map[string]uint8{"add": halfAdd, "sub": halfSub, "mul": halfMul}[f.root]
		ok = nearest && !f.nan && !f.relu && !brain
	case "fma":
		in.sub = halfFma
		ok = f.round == "rn" && !f.nan && !(brain && (f.flush || f.sat))
	case "min", "max":
		in.sub = halfMin + uint8(b2u(f.root == "max"))
		if f.nan {
			in.sub += halfMinNaN - halfMin
		}
		ok = f.round == "" && !f.sat && !f.relu && !(brain && f.flush)
	case "abs", "neg":
		in.fn, in.sub = execHalfSign, uint8(b2u(f.root == "neg"))
		ok = f.round == "" && !f.sat && !f.nan && !f.relu && !f.flush
	case "ex2", "tanh":
		in.sub = map[string]uint8{"ex2": halfEx2, "tanh": halfTanh}[f.root]
		ok = f.round == "approx" && !f.nan && !f.sat && !f.relu && !f.flush && !brain
	}
	if !ok {
		return d.unknown()
	}
	slots, err := d.floatOperands(f, bits)
	if err != nil {
		return err
	}
	in.d, in.a, in.b, in.c = slots[0], slots[1], slots[2], slots[3]
	d.emit(in)
	return nil
}
