package testgpu

// shfl decodes shfl.sync.mode.b32 d|p, a, b, c, mask.
func (d *decoder) shfl(o opcode) error {
	if o.take("sync") == "" {
		return d.unknown()
	}
	in := inst{fn: execShfl, writes: true, second: noSlot, more: &extra{}}
	mode := o.take("up", "down", "bfly", "idx")
	if mode == "" || o.take("b32") == "" || !o.done() {
		return d.unknown()
	}
	in.sub = map[string]uint8{"up": shflUp, "down": shflDown, "bfly": shflBfly, "idx": shflIdx}[mode]
	if err := d.args(5, 5); err != nil {
		return err
	}
	a := d.stmt.args
	var err error
	if in.d, in.second, err = d.withPredicate(a[0]); err != nil {
		return err
	}
	for i, to := range []*int32{&in.a, &in.b, &in.c, &in.more.src} {
		if *to, err = d.src(a[1+i], 32); err != nil {
			return err
		}
	}
	d.emit(in)
	return nil
}

// withPredicate resolves d or d|p.
func (d *decoder) withPredicate(a arg) (slot, p int32, err error) {
	p = noSlot
	if a.kind == argPair {
		if p, err = d.sink(a.elems[1], 1); err != nil {
			return 0, 0, err
		}
		a = a.elems[0]
	}
	if slot, err = d.sink(a, 32); err == nil && slot == noSlot {
		slot = d.temp32()
	}
	return slot, p, err
}

// activeMask decodes activemask.b32.
func (d *decoder) activeMask(o opcode) error {
	if o.take("b32") == "" || !o.done() {
		return d.unknown()
	}
	if err := d.args(1, 1); err != nil {
		return err
	}
	slot, err := d.dst(d.stmt.args[0], 32)
	d.emit(inst{fn: execActiveMask, writes: true, d: slot})
	return err
}

// vote decodes vote.sync.
func (d *decoder) vote(o opcode) error {
	mode := ""
	if o.take("sync") != "" {
		mode = o.take("all", "any", "uni", "ballot")
	}
	out, want := 1, "pred"
	if mode == "ballot" {
		out, want = 32, "b32"
	}
	if mode == "" || o.take(want) == "" || !o.done() {
		return d.unknown()
	}
	sub := map[string]uint8{"all": voteAll, "any": voteAny, "uni": voteUni, "ballot": voteBallot}[mode]
	return d.voteOperands(inst{fn: execVote, sub: sub}, out, 1)
}

// match decodes match.any.sync and match.all.sync.
func (d *decoder) match(o opcode) error {
	mode := o.take("any", "all")
	if mode == "" || o.take("sync") == "" {
		return d.unknown()
	}
	t := o.scalar()
	if t != b32 && t != b64 || !o.done() {
		return d.unknown()
	}
	return d.voteOperands(inst{fn: execMatch, sub: uint8(b2u(mode == "all")), width: uint8(width(t))}, 32, width(t))
}

// redux decodes redux.sync.
func (d *decoder) redux(o opcode) error {
	op := ""
	if o.take("sync") != "" {
		op = o.take("add", "min", "max", "and", "or", "xor")
	}
	t := o.scalar()
	bitwise := op == "and" || op == "or" || op == "xor"
	if op == "" || bitwise != (t == b32) || !bitwise && t != u32 && t != s32 || !o.done() {
		return d.unknown()
	}
	return d.voteOperands(inst{fn: execRedux, more: &extra{update: atomicOp(op, t)}}, 32, 32)
}

// voteOperands resolves result, value and member mask.
func (d *decoder) voteOperands(in inst, out, source int) error {
	if err := d.args(3, 3); err != nil {
		return err
	}
	a := d.stmt.args
	in.writes = true
	var err error
	if out == 1 {
		in.d, err = d.dst(a[0], 1)
	} else {
		in.d, in.second, err = d.withPredicate(a[0])
	}
	if err != nil {
		return err
	}
	if in.a, err = d.src(a[1], source); err != nil {
		return err
	}
	if in.b, err = d.src(a[2], 32); err != nil {
		return err
	}
	d.emit(in)
	return nil
}

// bar decodes bar and barrier: sync, arrive, red, warp.sync.
func (d *decoder) bar(o opcode) error {
	in := inst{fn: execBar, b: noSlot, flags: flagAligned}
	if o.root == "bar" && o.take("warp") != "" {
		return d.warpBarrier(o)
	}
	op := o.take("sync", "arrive", "red")
	if o.root == "barrier" {
		in.flags = 0
	}
	args := d.stmt.args
	out := 0
	switch op {
	case "sync":
	case "arrive":
		in.sub = barArrive
	case "red":
		kind := o.take("popc", "and", "or")
		in.sub = map[string]uint8{"popc": barPopc, "and": barAnd, "or": barOr}[kind]
		out = 1
		if kind == "popc" {
			out = 32
		}
	default:
		return d.unknown()
	}
	if o.root == "barrier" && o.take("aligned") != "" {
		in.flags = flagAligned
	}
	if out == 32 && o.take("u32") == "" || out == 1 && o.take("pred") == "" || !o.done() {
		return d.unknown()
	}
	var err error
	if out != 0 {
		if err := d.args(3, 4); err != nil {
			return err
		}
		in.writes = true
		if in.d, err = d.dst(args[0], out); err != nil {
			return err
		}
		last := len(args) - 1
		if in.c, err = d.src(args[last], 1); err != nil {
			return err
		}
		args = args[1:last]
	}
	if len(args) < 1 || len(args) > 2 || op == "arrive" && len(args) != 2 {
		return d.errorf("%s with %d operands", d.stmt.op, len(d.stmt.args))
	}
	if in.a, err = d.src(args[0], 32); err != nil {
		return err
	}
	if len(args) == 2 {
		if in.b, err = d.src(args[1], 32); err != nil {
			return err
		}
	}
	d.emit(in)
	return nil
}

func (d *decoder) warpBarrier(o opcode) error {
	if o.take("sync") == "" || !o.done() {
		return d.unknown()
	}
	if err := d.args(1, 1); err != nil {
		return err
	}
	mask, err := d.src(d.stmt.args[0], 32)
	d.emit(inst{fn: execWarpBarrier, a: mask, flags: flagWarpBarrier})
	return err
}

// mma decodes mma.sync.aligned.shape.row.col{.satfinite}.d.a.b.c.
func (d *decoder) mma(o opcode) error {
	if o.take("sync") == "" || o.take("aligned") == "" {
		return d.unknown()
	}
	s := mmaShape{n: 8}
	shape := o.take("m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32", "m8n8k16")
	s.m, s.k = 16, map[string]int{"m16n8k4": 4, "m16n8k8": 8, "m16n8k16": 16, "m16n8k32": 32, "m8n8k16": 16}[shape]
	if shape == "m8n8k16" {
		s.m = 8
	}
	if s.k == 0 || o.take("row") == "" || o.take("col") == "" {
		return d.unknown()
	}
	s.saturate = o.take("satfinite") != ""
	s.d, s.a, s.b, s.c = o.scalar(), o.scalar(), o.scalar(), o.scalar()
	if !o.done() || !s.valid() {
		return d.unknown()
	}
	if err := d.args(4, 4); err != nil {
		return err
	}
	na, nb, nc := s.fragments()
	in := inst{fn: execMma, vecOut: uint8(nc), more: &extra{mma: s}}
	var err error
	for i, n := range []int{nc, na, nb, nc} {
		if in.vec, err = d.fragment(in.vec, d.stmt.args[i], n, i == 0); err != nil {
			return err
		}
	}
	d.emit(in)
	return nil
}

func (s *mmaShape) valid() bool {
	switch s.a {
	case f16:
		return s.b == f16 && s.c == s.d && (s.c == f32 || s.c == f16) && s.m == 16 && (s.k == 8 || s.k == 16) && !s.saturate
	case bf16:
		return s.b == bf16 && s.c == f32 && s.d == f32 && s.m == 16 && (s.k == 8 || s.k == 16) && !s.saturate
	case tf32:
		return s.b == tf32 && s.c == f32 && s.d == f32 && s.m == 16 && (s.k == 4 || s.k == 8) && !s.saturate
	case u8, s8:
		return (s.b == u8 || s.b == s8) && s.c == s32 && s.d == s32 && s.k >= 16
	}
	return false
}
