package testgpu

// flow decodes branches, calls and exits.
func (d *decoder) flow(o opcode) error {
	uni := o.take("uni") != ""
	_ = uni // a hint: lanes that disagree all the same diverge
	args := d.stmt.args
	switch o.root {
	case "bra":
		if !o.done() || len(args) != 1 || args[0].kind != argName {
			return d.unknown()
		}
		return d.branch(args[0].name)
	case "brx":
		return d.indexed(o)
	case "call":
		if !o.done() {
			return d.unknown()
		}
		return d.call()
	}
	if !o.done() || len(args) != 0 {
		return d.unknown()
	}
	switch o.root {
	case "trap":
		d.emit(inst{fn: execTrap, flow: flowExit})
	case "ret":
		if d.depth > 0 {
			d.branchTo(d.frame.end)
			return nil
		}
		fallthrough
	default:
		d.emit(inst{fn: execExit, flow: flowExit})
	}
	return nil
}

func (d *decoder) branch(name string) error {
	n, err := d.label(name)
	if err != nil {
		return err
	}
	d.branchTo(n)
	return nil
}

func (d *decoder) branchTo(label int) {
	d.frame.refs = append(d.frame.refs, labelRef{inst: len(d.code.insts), table: -1, label: label})
	d.emit(inst{fn: execBranch, flow: flowBranch})
}

// indexed is brx.idx index, table.
func (d *decoder) indexed(o opcode) error {
	if o.take("idx") == "" {
		return d.unknown()
	}
	o.take("uni")
	if err := d.args(2, 2); err != nil {
		return err
	}
	if !o.done() {
		return d.unknown()
	}
	a := d.stmt.args
	in := inst{fn: execIndexed, flow: flowIndexed, more: &extra{}}
	var err error
	if in.a, err = d.src(a[0], 32); err != nil {
		return err
	}
	var names []string
	for sc := d.stmt.scope; sc >= 0 && names == nil; sc = d.frame.fn.scopes[sc] {
		names = d.frame.scopes[sc].tables[a[1].name]
	}
	if names == nil {
		return d.errorf("unknown table of branch targets %s", a[1].name)
	}
	in.more.targets = make([]int32, len(names))
	for i, name := range names {
		n, err := d.label(name)
		if err != nil {
			return err
		}
		d.frame.refs = append(d.frame.refs, labelRef{inst: len(d.code.insts), table: i, label: n})
	}
	d.emit(in)
	return nil
}

// call builds in the body of a function: its parameters are the caller's .param variables.
func (d *decoder) call() error {
	s := d.stmt
	args := s.args
	var results, values []arg
	if len(args) > 0 && args[0].kind == argList {
		results, args = args[0].elems, args[1:]
	}
	if len(args) == 0 || args[0].kind != argName {
		return d.errorf("call of what is no name")
	}
	name := args[0].name
	if len(args) > 1 {
		if len(args) > 2 || args[1].kind != argList {
			return d.errorf("indirect call of %s", name)
		}
		values = args[1].elems
	}
	f := d.module.funcs[name]
	if f == nil || f.declaration || f.entry {
		return d.errorf("call of %s, which is no function of this module", name)
	}
	if d.depth >= maxDepth {
		return d.errorf("calls nested deeper than %d: recursion is not served", maxDepth)
	}
	if len(results) != len(f.results) || len(values) != len(f.params) {
		return d.errorf("call of %s with %d results and %d parameters", name, len(results), len(values))
	}
	bound := map[string]binding{}
	if err := d.bindArguments(bound, f.results, results); err != nil {
		return err
	}
	if err := d.bindArguments(bound, f.params, values); err != nil {
		return err
	}
	return d.inline(f, bound)
}

// bindArguments lets formal parameters stand for the caller's variables.
func (d *decoder) bindArguments(bound map[string]binding, formal []*variable, actual []arg) error {
	for i, v := range formal {
		b, ok := d.lookup(actual[i].name)
		if !ok || b.kind != bindAddr || b.space != param {
			return d.errorf("argument %s is no .param variable", actual[i].name)
		}
		bound[v.name] = b
	}
	return nil
}

// inline decodes the body of f here. A guarded call jumps over it.
func (d *decoder) inline(f *function, bound map[string]binding) error {
	s, guard, not := d.stmt, d.guard, d.not
	skip := -1
	if guard >= 0 {
		skip = len(d.code.insts)
		d.not = !not
		d.emit(inst{fn: execBranch, flow: flowBranch})
	}
	d.guard, d.not = -1, false
	d.depth++
	err := d.body(f, bound)
	d.depth--
	d.stmt = s
	if skip >= 0 {
		d.code.insts[skip].target = int32(len(d.code.insts))
	}
	return err
}
