package testgpu

import "math"

// Widths of registers as operands want them: 1 is a predicate.
func width(t scalar) int {
	if t == pred {
		return 1
	}
	return 8 * t.size()
}

// sink is dst for a result that may be thrown away: noSlot for "_".
func (d *decoder) sink(a arg, bits int) (int32, error) {
	if a.kind == argName && a.name == "_" {
		return noSlot, nil
	}
	return d.dst(a, bits)
}

// dst returns the slot of a register of exactly that width.
func (d *decoder) dst(a arg, bits int) (int32, error) {
	if a.kind != argName || a.not || a.value != 0 {
		return 0, d.errorf("expected a register")
	}
	b, err := d.register(a.name)
	if err != nil {
		return 0, err
	}
	if width(b.typ) != bits {
		return 0, d.errorf("register %s has %d bits, the instruction wants %d", a.name, width(b.typ), bits)
	}
	return b.slot, nil
}

// src returns the slot of a register of exactly that width or of a constant.
func (d *decoder) src(a arg, bits int) (int32, error) {
	switch a.kind {
	case argInt:
		return d.integer(a.value, bits)
	case argFloat:
		switch {
		case a.single && bits == 32:
			return d.constant32(uint32(a.value)), nil
		case !a.single && bits == 64:
			return d.constant64(uint64(a.value)), nil
		case !a.single && bits == 32:
			return d.constant32(math.Float32bits(float32(math.Float64frombits(uint64(a.value))))), nil
		}
		return 0, d.errorf("a float literal where %d bits are wanted", bits)
	case argName:
		if bits == 1 {
			return d.predicate(a)
		}
		return d.dst(a, bits)
	}
	return 0, d.errorf("operand of the wrong kind")
}

// value is src for an operand of a type: a float wants no integer literal, and 16-bit floats take no literal at all.
func (d *decoder) value(a arg, t scalar) (int32, error) {
	if t.float() && (a.kind == argInt || a.kind == argFloat && t != f32 && t != f64) {
		return 0, d.errorf("a literal that is no %s", t)
	}
	return d.src(a, width(t))
}

// integer returns a constant, checked to fit as signed or unsigned.
func (d *decoder) integer(v int64, bits int) (int32, error) {
	switch bits {
	case 1:
		if v == 0 {
			return predFalse, nil
		}
		return predTrue, nil
	case 64:
		return d.constant64(uint64(v)), nil
	}
	if v < -1<<(bits-1) || v >= 1<<bits {
		return 0, d.errorf("%d does not fit in %d bits", v, bits)
	}
	return d.constant32(uint32(v) & uint32(1<<bits-1)), nil
}

// predicate returns the slot of p, or of a temporary that holds !p.
func (d *decoder) predicate(a arg) (int32, error) {
	b, err := d.register(a.name)
	if err != nil {
		return 0, err
	}
	if b.typ != pred {
		return 0, d.errorf("%s is no predicate", a.name)
	}
	if !a.not {
		return b.slot, nil
	}
	t := d.tempPred()
	d.emit(inst{fn: execNotPred, d: t, a: b.slot})
	return t, nil
}

func (d *decoder) constant32(v uint32) int32 {
	if slot, ok := d.const32[v]; ok {
		return slot
	}
	var all lanes
	for l := range all {
		all[l] = v
	}
	slot := ^int32(len(d.code.k32))
	d.code.k32 = append(d.code.k32, all)
	d.const32[v] = slot
	return slot
}

func (d *decoder) constant64(v uint64) int32 {
	if slot, ok := d.const64[v]; ok {
		return slot
	}
	var all lanes64
	for l := range all {
		all[l] = v
	}
	slot := ^int32(len(d.code.k64))
	d.code.k64 = append(d.code.k64, all)
	d.const64[v] = slot
	return slot
}

func (d *decoder) temp32() int32 {
	d.code.regs++
	return int32(d.code.regs - 1)
}

func (d *decoder) temp64() int32 {
	d.code.regs64++
	return tag64 + int32(d.code.regs64-1)
}

func (d *decoder) tempPred() int32 {
	d.code.preds++
	return tagPred + int32(d.code.preds-1)
}

// anyReg returns a register whose width is at least bits, with that width.
func (d *decoder) anyReg(a arg, bits int) (int32, int, error) {
	if a.kind != argName || a.not {
		return 0, 0, d.errorf("expected a register")
	}
	if a.name == "_" {
		return noSlot, bits, nil
	}
	b, err := d.register(a.name)
	if err != nil {
		return 0, 0, err
	}
	w := width(b.typ)
	if w < bits || w == 1 {
		return 0, 0, d.errorf("register %s has %d bits, the instruction wants %d or more", a.name, w, bits)
	}
	return b.slot, w, nil
}

// args checks the number of operands.
func (d *decoder) args(least, most int) error {
	if n := len(d.stmt.args); n < least || n > most {
		return d.errorf("%s with %d operands", d.stmt.op, n)
	}
	return nil
}

// address fills in the base and offset of an address operand.
func (d *decoder) address(in *inst, a arg, where space) error {
	if a.kind != argAddr {
		return d.errorf("expected an address in brackets")
	}
	in.imm = a.value
	in.base = baseNone
	if a.name == "" {
		return nil
	}
	b, ok := d.lookup(a.name)
	if !ok {
		return d.errorf("unknown name %s", a.name)
	}
	if b.kind == bindAddr {
		if b.space != where && where != generic {
			return d.errorf("%s is in space %s, not %s", a.name, b.space, where)
		}
		in.imm += int64(b.addr)
		if where == generic {
			in.imm += int64(window(b.space))
		}
		return nil
	}
	switch width(b.typ) {
	case 64:
		in.base, in.a = base64, b.slot
	case 32:
		in.base, in.a = base32, b.slot
	default:
		return d.errorf("%s cannot hold an address", a.name)
	}
	return nil
}

// window is what cvta adds to an address of a space.
func window(s space) uint64 {
	switch s {
	case shared:
		return sharedWindow
	case local:
		return localWindow
	case constant:
		return constWindow
	}
	return 0
}
