package testgpu

// cvt decodes conversions: cvt{.round}{.relu}{.ftz}{.sat}.to.from.
func (d *decoder) cvt(o opcode) error {
	in := inst{fn: execCvt, more: &extra{}}
	x := in.more
	round := o.take("rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi", "rna")
	x.round = roundingOf(round)
	for _, m := range []struct {
		name string
		bit  uint8
	}{{"relu", cvtRelu}, {"ftz", cvtFlush}, {"sat", cvtSat}} {
		if o.take(m.name) != "" {
			in.flags |= m.bit
		}
	}
	x.to, x.from = o.scalar(), o.scalar()
	if !o.done() || x.to.size() == 0 || x.from.size() == 0 || !validCvt(x.from, x.to, round, in.flags) {
		return d.unknown()
	}
	toInteger := len(round) == 3 && round[2] == 'i'
	if x.from.float() && x.to.float() && toInteger {
		in.flags |= cvtInteger
	}
	pair := x.to == bf16x2 || x.to == f16x2
	n := 2 + int(b2u(pair))
	if err := d.args(n, n); err != nil {
		return err
	}
	var err error
	if in.d, x.regWidth, err = d.anyReg(d.stmt.args[0], width(x.to)); err != nil {
		return err
	}
	if in.d == noSlot || x.to.float() && x.regWidth != width(x.to) {
		return d.errorf("destination of %s", o.text)
	}
	var wide int
	if in.a, wide, err = d.cvtSource(d.stmt.args[1], x.from); err != nil {
		return err
	}
	if pair {
		in.flags |= cvtPair
		if in.b, _, err = d.cvtSource(d.stmt.args[2], x.from); err != nil {
			return err
		}
	}
	in.out = out32
	if wide == 64 {
		in.flags |= cvtSource64
	}
	if x.regWidth == 64 {
		in.flags |= cvtDest64
		in.out = out64
	}
	if fn := fastCvt(&in, wide); fn != nil {
		in.fn = fn
	}
	d.emit(in)
	return nil
}

func roundingOf(name string) rounding {
	switch name {
	case "rz", "rzi":
		return towardZero
	case "rm", "rmi":
		return down
	case "rp", "rpi":
		return up
	case "rna":
		return nearestAway
	}
	return nearestEven
}

// cvtSource resolves the source, which may be wider than its type if that is an integer.
func (d *decoder) cvtSource(a arg, t scalar) (slot int32, bits int, err error) {
	bits = width(t)
	if a.kind != argName {
		slot, err = d.src(a, bits)
		return slot, max(bits, 16), err
	}
	slot, wide, err := d.anyReg(a, bits)
	if err == nil && (slot == noSlot || t.float() && wide != bits) {
		err = d.errorf("source of %s", d.stmt.op)
	}
	return slot, wide, err
}

// validCvt applies the rules for roundings: required where a value may not fit, forbidden where it always does.
func validCvt(from, to scalar, round string, flags uint8) bool {
	integerRound := len(round) == 3 && round[2] == 'i'
	floatRound := round == "rn" || round == "rz" || round == "rm" || round == "rp"
	if flags&cvtRelu != 0 && !(from == f32 && (to == bf16 || to == bf16x2 || to == f16 || to == f16x2)) {
		return false
	}
	switch {
	case !from.float() && !to.float():
		return round == "" && flags&cvtFlush == 0
	case !from.float():
		return floatRound && (to == f16 || to == f32 || to == f64)
	case !to.float():
		return integerRound && (from == f16 || from == f32 || from == f64)
	}
	switch to {
	case bf16, bf16x2, f16x2:
		return from == f32 && (round == "rn" || round == "rz") && flags&(cvtFlush|cvtSat) == 0
	case tf32:
		return from == f32 && round == "rna"
	case f16:
		if from == f16 {
			return integerRound
		}
		return floatRound && (from == f32 || from == f64)
	case f32:
		return from == f16 && round == "" || from == f32 && (integerRound || round == "") || from == f64 && floatRound
	case f64:
		return (from == f16 || from == f32) && round == "" || from == f64 && integerRound
	}
	return false
}

// fastCvt returns a loop of its own for the common conversions.
func fastCvt(in *inst, source int) handler {
	x := in.more
	if in.flags&(cvtSat|cvtFlush|cvtRelu|cvtInteger) != 0 {
		return nil
	}
	from, to := x.from.size(), x.to.size()
	nearest := x.round == nearestEven
	switch {
	case !x.from.float() && !x.to.float():
		switch {
		case from == 4 && to == 8 && source == 32 && x.from.signed():
			return execSext64
		case from == 4 && to == 8 && source == 32:
			return execZext64
		case from == 8 && to == 4 && x.regWidth == 32:
			return execLow32
		case to == 2 && from >= 2 && x.regWidth == 16 && source <= 32:
			return execZext16
		case from == 2 && to == 4 && x.regWidth == 32 && source <= 32 && x.from.signed():
			return execSext16
		case from == 2 && to == 4 && x.regWidth == 32 && source <= 32:
			return execZext16
		}
	case x.from == s32 && x.to == f32 && nearest && source == 32:
		return execS32ToF32
	case x.from == u32 && x.to == f32 && nearest && source == 32:
		return execU32ToF32
	case x.from == f16 && x.to == f32:
		return execF16ToF32
	case x.from == f32 && x.to == f16 && nearest:
		return execF32ToF16
	case x.from == f32 && x.to == bf16 && nearest:
		return execF32ToBF16
	case x.from == f32 && x.to == bf16x2 && nearest:
		return execPackBF16
	case x.from == f32 && x.to == f16x2 && nearest:
		return execPackF16
	}
	return nil
}

// cvta converts addresses between a space and the generic one.
func (d *decoder) cvta(o opcode) error {
	to := o.take("to") != ""
	where := o.space()
	bits := width(o.scalar())
	if !o.done() || bits != 64 || where == generic || where == param {
		return d.unknown()
	}
	if err := d.args(2, 2); err != nil {
		return err
	}
	slot, err := d.dst(d.stmt.args[0], 64)
	if err != nil {
		return err
	}
	from := d.stmt.args[1]
	shift := int64(window(where))
	if to {
		shift = -shift
	}
	if from.kind == argName {
		if b, ok := d.lookup(from.name); ok && b.kind == bindAddr {
			return d.movConstant(slot, int64(b.addr)+from.value+shift, 64)
		}
	}
	src, err := d.src(from, 64)
	if err != nil {
		return err
	}
	d.emit(inst{fn: execAdd64, out: out64, d: slot, a: src, b: d.constant64(uint64(shift))})
	return nil
}
