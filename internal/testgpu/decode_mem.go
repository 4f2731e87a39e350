package testgpu

import "strings"

// loadStore decodes ld and st: {.order}{.scope}{.space}{.nc}{.cache}{.vec}.type.
func (d *decoder) loadStore(o opcode) error {
	load := o.root != "st"
	in := inst{fn: execStore, count: 1}
	var ok bool
	if in.flags, ok = orderOf(&o, load); !ok {
		return d.unknown()
	}
	where := o.space()
	in.sub = uint8(where)
	if o.take("nc") != "" && (where != global || !load) {
		return d.unknown()
	}
	if load {
		o.take("ca", "cg", "cs", "lu", "cv")
	} else {
		o.take("wb", "cg", "cs", "wt")
	}
	if v := o.take("v2", "v4"); v != "" {
		in.count = v[1] - '0'
	}
	t := o.scalar()
	if !o.done() || t.size() == 0 || t.float() && t != f32 && t != f64 || int(in.count)*t.size() > 16 {
		return d.unknown()
	}
	in.width = uint8(t.size())
	if err := d.args(2, 2); err != nil {
		return err
	}
	at, value := d.stmt.args[0], d.stmt.args[1]
	if load {
		at, value = value, at
		in.fn = execLoad
		if where == param {
			in.fn = execLoadParam
		}
		if t.signed() {
			in.flags |= memSigned
		}
	} else if where == constant {
		return d.unknown()
	}
	if err := d.address(&in, at, where); err != nil {
		return err
	}
	if err := d.vector(&in, value, t, load); err != nil {
		return err
	}
	if load {
		in.vecOut = uint8(len(in.vec))
	}
	d.emit(in)
	return nil
}

// orderOf consumes the memory order of a load or store.
func orderOf(o *opcode, load bool) (flags uint8, ok bool) {
	switch order := o.take("weak", "volatile", "relaxed", "acquire", "release"); order {
	case "volatile":
		return memStrong, true
	case "relaxed", "acquire", "release":
		if order == "acquire" && !load || order == "release" && load || o.take("cta", "gpu", "sys") == "" {
			return 0, false
		}
		if order == "relaxed" {
			return memStrong, true
		}
		return memStrong | memOrdered, true
	}
	return 0, true
}

// vector resolves the registers that a load writes or a store reads; they may be wider than the type.
func (d *decoder) vector(in *inst, value arg, t scalar, load bool) error {
	elems := []arg{value}
	if in.count > 1 {
		if value.kind != argVector || len(value.elems) != int(in.count) {
			return d.errorf("expected a vector of %d", in.count)
		}
		elems = value.elems
	} else if value.kind == argVector && len(value.elems) == 1 {
		elems = value.elems
	}
	wide := 0
	for _, e := range elems {
		var slot int32
		var bits int
		var err error
		if e.kind == argName {
			slot, bits, err = d.anyReg(e, max(width(t), 16))
			if err == nil && slot == noSlot && !load {
				err = d.errorf("_ is no value to store")
			}
		} else if load {
			err = d.errorf("the destination must be a register")
		} else {
			if bits = width(t); bits == 8 {
				t, bits = b16, 16
			}
			slot, err = d.value(e, t)
		}
		if err != nil {
			return err
		}
		if t.float() && bits != width(t) {
			return d.errorf("register %s has %d bits, the instruction wants %d", e.name, bits, width(t))
		}
		if slot != noSlot {
			if wide != 0 && wide != bits {
				return d.errorf("registers of different sizes in one vector")
			}
			wide = bits
		}
		in.vec = append(in.vec, slot)
	}
	in.target = -1
	switch wide {
	case 64:
		in.flags |= memReg64
	case 16:
		in.target = 0xffff
	}
	return nil
}

// atom decodes atom and red: {.order}{.scope}{.space}.op{.noftz}.type.
func (d *decoder) atom(o opcode) error {
	in := inst{fn: execAtom, d: -1, more: &extra{}}
	switch o.take("relaxed", "acquire", "release", "acq_rel") {
	case "acquire":
		in.flags = orderAcquire
	case "release":
		in.flags = orderRelease
	case "acq_rel":
		in.flags = orderAcquire | orderRelease
	}
	o.take("cta", "gpu", "sys")
	where := o.space()
	if where != generic && where != global && where != shared {
		return d.unknown()
	}
	in.sub = uint8(where)
	o.take("cta", "gpu", "sys") // ptxas takes the scope here as well
	op := o.take("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec")
	noftz := o.take("noftz") != ""
	t := o.scalar()
	if !o.done() || !validAtom(op, t, o.root == "red", noftz) {
		return d.unknown()
	}
	in.more.update = atomicOp(op, t)
	in.width = uint8(t.size())
	args := d.stmt.args
	want := 2 + int(b2u(op == "cas"))
	if o.root == "atom" {
		if err := d.args(want+1, want+1); err != nil {
			return err
		}
		slot, err := d.sink(args[0], width(t))
		if err != nil {
			return err
		}
		in.d, in.writes = max(slot, -1), true
		args = args[1:]
	} else if err := d.args(want, want); err != nil {
		return err
	}
	if err := d.address(&in, args[0], where); err != nil {
		return err
	}
	var err error
	if in.b, err = d.value(args[1], t); err != nil {
		return err
	}
	in.c = in.b
	if op == "cas" {
		if in.c, err = d.src(args[2], width(t)); err != nil {
			return err
		}
	}
	d.emit(in)
	return nil
}

func validAtom(op string, t scalar, red, noftz bool) bool {
	if (t == f16x2) != noftz {
		return false
	}
	switch op {
	case "add":
		return t == u32 || t == s32 || t == u64 || t == f32 || t == f64 || t == f16x2
	case "min", "max":
		return t == u32 || t == s32 || t == u64 || t == s64
	case "and", "or", "xor":
		return t == b32 || t == b64
	case "exch", "cas":
		return (t == b32 || t == b64) && !red
	case "inc", "dec":
		return t == u32
	}
	return false
}

// copyAsync decodes cp.async and its waits.
func (d *decoder) copyAsync(o opcode) error {
	if o.take("async") == "" {
		return d.unknown()
	}
	if group := o.take("commit_group", "wait_all", "wait_group"); group != "" {
		if !o.done() {
			return d.unknown()
		}
		return d.copyGroup(group)
	}
	cache := o.take("ca", "cg")
	if cache == "" || o.take("shared") == "" || o.take("global") == "" || !o.done() {
		return d.unknown()
	}
	if err := d.args(3, 4); err != nil {
		return err
	}
	a := d.stmt.args
	size := a[2]
	if size.kind != argInt || size.value != 16 && (cache == "cg" || size.value != 4 && size.value != 8) {
		return d.errorf("%s of %d bytes", o.text, size.value)
	}
	in := inst{fn: execCopyAsync, width: uint8(size.value), b: noSlot, more: &extra{}}
	if err := d.address(&in, a[0], shared); err != nil {
		return err
	}
	var from inst
	if err := d.address(&from, a[1], global); err != nil {
		return err
	}
	in.more.src, in.target = from.a, int32(from.imm)
	switch {
	case from.base == baseNone:
		in.more.src, in.target = d.constant64(uint64(from.imm)), 0
	case from.base == base32 || int64(in.target) != from.imm:
		return d.errorf("source of %s", o.text)
	}
	if len(a) == 4 {
		var err error
		if in.b, err = d.src(a[3], 32); err != nil {
			return err
		}
	}
	d.emit(in)
	return nil
}

// copyGroup decodes what closes groups of asynchronous copies and waits for them.
func (d *decoder) copyGroup(what string) error {
	switch what {
	case "commit_group":
		d.emit(inst{fn: execCommit})
	case "wait_all":
		d.emit(inst{fn: execWait, imm: -1})
	default:
		if err := d.args(1, 1); err != nil {
			return err
		}
		n := d.stmt.args[0]
		if n.kind != argInt || n.value < 0 {
			return d.unknown()
		}
		d.emit(inst{fn: execWait, imm: n.value})
		return nil
	}
	return d.args(0, 0)
}

// ldmatrix decodes ldmatrix.sync.aligned.m8n8.x1|x2|x4{.trans}{.shared}.b16.
func (d *decoder) ldmatrix(o opcode) error {
	if o.take("sync") == "" || o.take("aligned") == "" || o.take("m8n8") == "" {
		return d.unknown()
	}
	in := inst{fn: execLdmatrix}
	n := o.take("x1", "x2", "x4")
	if o.take("trans") != "" {
		in.flags = 1
	}
	where := o.space()
	if n == "" || where != generic && where != shared || o.take("b16") == "" || !o.done() {
		return d.unknown()
	}
	in.sub, in.count = uint8(where), n[1]-'0'
	if err := d.args(2, 2); err != nil {
		return err
	}
	var err error
	if in.vec, err = d.fragment(nil, d.stmt.args[0], int(in.count), true); err != nil {
		return err
	}
	in.vecOut = in.count
	if err := d.address(&in, d.stmt.args[1], where); err != nil {
		return err
	}
	d.emit(in)
	return nil
}

// fragment resolves a vector of n registers of 32 bits, or one such register.
func (d *decoder) fragment(to []int32, a arg, n int, dst bool) ([]int32, error) {
	elems := a.elems
	if a.kind != argVector && n == 1 {
		elems = []arg{a}
	}
	if len(elems) != n {
		return nil, d.errorf("%s wants a vector of %d, not %d", strings.SplitN(d.stmt.op, ".", 2)[0], n, len(elems))
	}
	for _, e := range elems {
		var slot int32
		var err error
		if dst {
			slot, err = d.dst(e, 32)
		} else {
			slot, err = d.src(e, 32)
		}
		if err != nil {
			return nil, err
		}
		to = append(to, slot)
	}
	return to, nil
}
