package testgpu

// instruction decodes the current statement.
func (d *decoder) instruction() error {
	text := d.stmt.op
	if op, ok := simpleOps[text]; ok {
		return d.simple(op)
	}
	o, ok := d.opcodes[text]
	if !ok {
		o = newOpcode(text)
		d.opcodes[text] = o
	}
	if isFloat(&o) {
		return d.float(o)
	}
	switch o.root {
	case "mov":
		return d.mov(o)
	case "cvt":
		return d.cvt(o)
	case "setp", "set":
		return d.setp(o)
	case "lop3":
		return d.lop3(o)
	case "ld", "st", "ldu":
		return d.loadStore(o)
	case "atom", "red":
		return d.atom(o)
	case "cp":
		return d.copyAsync(o)
	case "cvta":
		return d.cvta(o)
	case "ldmatrix":
		return d.ldmatrix(o)
	case "mma":
		return d.mma(o)
	case "shfl":
		return d.shfl(o)
	case "vote":
		return d.vote(o)
	case "match":
		return d.match(o)
	case "redux":
		return d.redux(o)
	case "activemask":
		return d.activeMask(o)
	case "bar", "barrier":
		return d.bar(o)
	case "bra", "brx", "ret", "exit", "call", "trap":
		return d.flow(o)
	case "griddepcontrol":
		return d.gridDependency(o)
	case "membar", "fence", "prefetch", "prefetchu", "nanosleep", "pmevent":
		return d.hint(o)
	}
	return d.unknown()
}

// hint decodes fences, and instructions that change nothing here.
func (d *decoder) hint(o opcode) error {
	scope := ""
	switch o.root {
	case "membar":
		if scope = o.take("cta", "gl", "sys"); scope == "" {
			return d.unknown()
		}
	case "fence":
		o.take("sc", "acq_rel")
		if scope = o.take("cta", "gpu", "sys"); scope == "" {
			return d.unknown()
		}
	case "prefetch":
		if o.take("global", "local"); o.take("L1", "L2") == "" {
			return d.unknown()
		}
	case "nanosleep":
		if o.take("u32") == "" {
			return d.unknown()
		}
	default:
		return d.unknown()
	}
	if !o.done() {
		return d.unknown()
	}
	if scope != "" && scope != "cta" {
		d.emit(inst{fn: execFence})
	}
	return nil
}

// mov decodes moves of registers, special registers and addresses, and packing and unpacking.
func (d *decoder) mov(o opcode) error {
	t := o.scalar()
	if t == noType || !o.done() {
		return d.unknown()
	}
	if err := d.args(2, 2); err != nil {
		return err
	}
	to, from := d.stmt.args[0], d.stmt.args[1]
	bits := width(t)
	switch {
	case to.kind == argVector:
		return d.unpackVector(to.elems, from, bits)
	case from.kind == argVector:
		return d.packVector(to, from.elems, bits)
	}
	slot, err := d.dst(to, bits)
	if err != nil {
		return err
	}
	if from.kind == argName {
		if r, ok := specialRegisters[from.name]; ok {
			return d.movSpecial(slot, r, bits)
		}
		if b, ok := d.lookup(from.name); ok && b.kind == bindAddr {
			return d.movConstant(slot, int64(b.addr)+from.value, bits)
		}
	}
	in := inst{fn: execMov32, out: out32, d: slot}
	if bits == 64 {
		in.fn, in.out = execMov64, out64
	}
	if in.a, err = d.value(from, t); err != nil {
		return err
	}
	d.emit(in)
	return nil
}

func (d *decoder) movConstant(slot int32, v int64, bits int) error {
	switch bits {
	case 64:
		d.emit(inst{fn: execMov64, out: out64, d: slot, a: d.constant64(uint64(v))})
	case 32:
		d.emit(inst{fn: execMov32, out: out32, d: slot, a: d.constant32(uint32(v))})
	default:
		return d.errorf("an address in %d bits", bits)
	}
	return nil
}

func (d *decoder) movSpecial(slot int32, r specialRegister, bits int) error {
	if bits != r.bits {
		return d.errorf("special register %s has %d bits", d.stmt.args[1].name, r.bits)
	}
	in := inst{fn: execSpecial, out: out32, d: slot, more: &extra{special: r}}
	if bits == 64 {
		in.out = out64
	}
	d.emit(in)
	return nil
}

// unpackVector is mov.b32 {h, h}, r; mov.b64 {r, r}, d; mov.b64 {h, h, h, h}, d.
func (d *decoder) unpackVector(to []arg, from arg, bits int) error {
	if len(to) != 2 && !(len(to) == 4 && bits == 64) || bits < 32 {
		return d.unknown()
	}
	part := bits / len(to)
	src, err := d.src(from, bits)
	if err != nil {
		return err
	}
	// A destination may be the source: first into temporaries.
	var temps, dsts []int32
	for i, e := range to {
		slot, err := d.sink(e, part)
		if err != nil {
			return err
		}
		if slot == noSlot {
			continue
		}
		t := d.temp32()
		temps, dsts = append(temps, t), append(dsts, slot)
		switch {
		case bits == 64:
			d.emit(inst{fn: execPart32, out: out32, d: t, a: src, imm: int64(i * part)})
		case i == 0:
			d.emit(inst{fn: execMov32, out: out32, d: t, a: src})
		default:
			d.emit(inst{fn: execHigh16, out: out32, d: t, a: src})
		}
	}
	for i := range dsts {
		fn := handler(execMov32)
		if part == 16 {
			fn = execZext16
		}
		d.emit(inst{fn: fn, out: out32, d: dsts[i], a: temps[i]})
	}
	return nil
}

// packVector is the opposite.
func (d *decoder) packVector(to arg, from []arg, bits int) error {
	if len(from) != 2 && !(len(from) == 4 && bits == 64) || bits < 32 {
		return d.unknown()
	}
	slot, err := d.dst(to, bits)
	if err != nil {
		return err
	}
	parts := make([]int32, len(from))
	for i, e := range from {
		if parts[i], err = d.src(e, bits/len(from)); err != nil {
			return err
		}
	}
	if len(from) == 4 {
		for i := range 2 {
			t := d.temp32()
			d.emit(inst{fn: execPack32, out: out32, d: t, a: parts[2*i], b: parts[2*i+1]})
			parts[i] = t
		}
	}
	if bits == 64 {
		d.emit(inst{fn: execPack64, out: out64, d: slot, a: parts[0], b: parts[1]})
	} else {
		d.emit(inst{fn: execPack32, out: out32, d: slot, a: parts[0], b: parts[1]})
	}
	return nil
}

func (d *decoder) lop3(o opcode) error {
	if o.take("b32") == "" || !o.done() {
		return d.unknown()
	}
	if err := d.args(5, 5); err != nil {
		return err
	}
	a := d.stmt.args
	in := inst{fn: execLop3, out: out32}
	var err error
	if in.d, err = d.dst(a[0], 32); err != nil {
		return err
	}
	for i, to := range []*int32{&in.a, &in.b, &in.c} {
		if *to, err = d.src(a[1+i], 32); err != nil {
			return err
		}
	}
	if a[4].kind != argInt || a[4].value < 0 || a[4].value > 255 {
		return d.errorf("lop3 wants a table of 8 bits")
	}
	in.imm = a[4].value
	d.emit(in)
	return nil
}

// setp decodes setp and set.
func (d *decoder) setp(o opcode) error {
	if len(o.mods) == 0 {
		return d.unknown()
	}
	cmp, ok := comparisons[o.mods[0]]
	if !ok {
		return d.unknown()
	}
	o.at = 1
	in := inst{sub: cmp, second: noSlot, c: predFalse}
	in.flags = map[string]uint8{"and": boolAnd, "or": boolOr, "xor": boolXor}[o.take("and", "or", "xor")]
	flush := o.take("ftz") != ""
	result := pred
	if o.root == "set" {
		result = o.scalar()
	}
	t := o.scalar()
	if !o.done() || t == noType || t == pred || t.size() == 1 {
		return d.unknown()
	}
	if (cmp >= cmpEqu) && !t.float() || t.size() < 2 {
		return d.unknown()
	}
	want := 3
	if in.flags != boolNone {
		want = 4
	}
	if err := d.args(want, want); err != nil {
		return err
	}
	if err := d.compared(&in, t, flush, o.mods[0]); err != nil {
		return err
	}
	a := d.stmt.args
	var err error
	if in.flags != boolNone {
		if in.c, err = d.src(a[3], 1); err != nil {
			return err
		}
	}
	if o.root == "set" {
		in.fn, in.out, in.imm = execSet, out32, 0xffffffff
		switch result {
		case f32:
			in.imm = 0x3f800000
		case u32, s32:
		default:
			return d.unknown()
		}
		if in.d, err = d.dst(a[0], 32); err == nil {
			d.emit(in)
		}
		return err
	}
	return d.setpResult(in, a[0])
}

func (d *decoder) setpResult(in inst, to arg) (err error) {
	first := to
	if to.kind == argPair {
		first = to.elems[0]
		if in.second, err = d.sink(to.elems[1], 1); err != nil {
			return err
		}
	}
	if in.d, err = d.sink(first, 1); err != nil {
		return err
	}
	in.fn = execSetp
	if in.flags != boolNone || in.second >= 0 || in.d < 0 {
		in.fn = execSetpBool
	}
	d.emit(in)
	return nil
}

// compared resolves the operands of a comparison and the type it is made in.
func (d *decoder) compared(in *inst, t scalar, flush bool, cmp string) error {
	var slots [2]int32
	for i := range 2 {
		slot, err := d.value(d.stmt.args[1+i], t)
		if err != nil {
			return err
		}
		var fn handler
		switch {
		case t == f16:
			fn = execF16ToF32
		case t == s16:
			fn = execSext16
		case t == f32 && flush:
			fn = execFlushF32
		}
		if fn != nil {
			temp := d.temp32()
			d.emit(inst{fn: fn, out: out32, d: temp, a: slot})
			slot = temp
		}
		slots[i] = slot
	}
	in.a, in.b = slots[0], slots[1]
	unsignedOnly := cmp == "lo" || cmp == "ls" || cmp == "hi" || cmp == "hs"
	switch t {
	case b16, u16, b32, u32:
		in.width = uint8(u32)
	case b64, u64:
		in.width = uint8(u64)
	case s16, s32:
		in.width = uint8(s32)
	case s64:
		in.width = uint8(s64)
	case f16, f32:
		in.width = uint8(f32)
	case f64:
		in.width = uint8(f64)
	default:
		return d.unknown()
	}
	bitsOnly := t == b16 || t == b32 || t == b64
	if unsignedOnly && (t.signed() || t.float()) || bitsOnly && in.sub > cmpNe {
		return d.errorf("comparison %s of type %s", cmp, t)
	}
	return nil
}
