package testgpu

import (
	"fmt"
	"strings"
)

// decoder turns a kernel's statements into instructions: names into register slots, labels into indices, calls into
// copies of what they call.
type decoder struct {
	module    *module
	code      *code
	offsets   map[*variable]int // of shared variables
	const32   map[uint32]int32
	const64   map[uint64]int32
	opcodes   map[string]opcode
	frame     *frame
	depth     int
	stmt      *stmt
	guard     int32
	not       bool
	dynamic   int // alignment of dynamic shared memory; 0: not used
	dynamicAt int
}

// frame is the names of one function while its body is decoded.
type frame struct {
	fn     *function
	scopes []scopeNames
	end    int // label behind the last statement
	labels []int32
	refs   []labelRef
}

type scopeNames struct {
	names  map[string]binding
	labels map[string]int // number in frame.labels
	tables map[string][]string
}

// labelRef is a branch whose target is not known yet.
type labelRef struct {
	inst  int
	table int // entry of a table; -1: the target
	label int
}

type bindKind uint8

const (
	bindReg bindKind = iota
	bindAddr
)

// binding is what a name means: registers or an address.
type binding struct {
	kind  bindKind
	typ   scalar
	slot  int32
	count int // of registers; 0: the name itself
	space space
	addr  uint64
}

const (
	maxInsts  = 1 << 20
	maxDepth  = 16
	maxFrame  = 1 << 20
	maxSlots  = 1 << 18
	lastLabel = "\x00end"
)

func (d *decoder) errorf(format string, args ...any) error {
	return &syntaxError{d.stmt.line, fmt.Sprintf(format, args...)}
}

// decode decodes a kernel.
func (m *module) decode(f *function) (*code, error) {
	c := &code{name: f.name, module: m, maxThreads: f.maxThreads, reqThreads: f.reqThreads, sharedAlign: 16}
	d := &decoder{module: m, code: c, offsets: map[*variable]int{}, const32: map[uint32]int32{}, const64: map[uint64]int32{},
		opcodes: map[string]opcode{}, guard: -1}
	d.layShared(f, map[*function]bool{})
	d.dynamicAt = align(c.staticShared, d.dynamic)
	if d.dynamic > 0 {
		c.staticShared = d.dynamicAt
	}
	params := map[string]binding{}
	for _, v := range f.params {
		at := align(c.paramBytes, v.align)
		params[v.name] = binding{kind: bindAddr, space: param, addr: uint64(at)}
		c.paramBytes = at + v.size
	}
	if err := d.body(f, params); err != nil {
		return nil, err
	}
	d.stmt = &stmt{line: f.line}
	d.guard = -1
	d.emit(inst{fn: execExit, flow: flowExit})
	c.virtual = c.regs + c.regs64 + c.preds
	return c, nil
}

// layShared places the static shared variables that f and its callees use, then the dynamic part behind them.
func (d *decoder) layShared(f *function, seen map[*function]bool) {
	if seen[f] {
		return
	}
	seen[f] = true
	place := func(v *variable) {
		d.code.sharedAlign = max(d.code.sharedAlign, v.align)
		if v.size == 0 {
			d.dynamic = max(d.dynamic, v.align)
		} else if _, ok := d.offsets[v]; !ok {
			d.offsets[v] = align(d.code.staticShared, v.align)
			d.code.staticShared = d.offsets[v] + v.size
		}
	}
	var visit func(args []arg)
	visit = func(args []arg) {
		for _, a := range args {
			if v := d.module.shared[a.name]; v != nil {
				place(v)
			}
			if callee := d.module.funcs[a.name]; callee != nil {
				d.layShared(callee, seen)
			}
			visit(a.elems)
		}
	}
	for i := range f.body {
		s := &f.body[i]
		if s.kind == stVar && s.v.space == shared {
			place(s.v)
		}
		visit(s.args)
	}
}

// align rounds n up to a multiple of to.
func align(n, to int) int {
	if to == 0 {
		return n
	}
	return (n + to - 1) / to * to
}

// body decodes the statements of f, whose parameters are bound.
func (d *decoder) body(f *function, params map[string]binding) error {
	outer := d.frame
	defer func() { d.frame = outer }()
	fr := &frame{fn: f, scopes: make([]scopeNames, len(f.scopes))}
	d.frame = fr
	for i := range fr.scopes {
		fr.scopes[i] = scopeNames{}
	}
	fr.scopes[0].names = map[string]binding{}
	for name, b := range params {
		fr.scopes[0].names[name] = b
	}
	if err := d.collectLabels(); err != nil {
		return err
	}
	for i := range f.body {
		d.stmt = &f.body[i]
		if err := d.statement(); err != nil {
			return err
		}
		if len(d.code.insts) > maxInsts {
			return d.errorf("more than %d instructions", maxInsts)
		}
	}
	fr.labels[fr.end] = int32(len(d.code.insts))
	for _, ref := range fr.refs {
		in := &d.code.insts[ref.inst]
		if ref.table >= 0 {
			in.more.targets[ref.table] = fr.labels[ref.label]
		} else {
			in.target = fr.labels[ref.label]
		}
	}
	return nil
}

func (d *decoder) collectLabels() error {
	fr := d.frame
	for i := range fr.fn.body {
		s := &fr.fn.body[i]
		sc := &fr.scopes[s.scope]
		switch s.kind {
		case stLabel:
			if sc.labels == nil {
				sc.labels = map[string]int{}
			}
			if _, dup := sc.labels[s.op]; dup {
				return &syntaxError{s.line, "label " + s.op + " is defined twice"}
			}
			sc.labels[s.op] = len(fr.labels)
			fr.labels = append(fr.labels, -1)
		case stTargets:
			if sc.tables == nil {
				sc.tables = map[string][]string{}
			}
			sc.tables[s.op] = s.names
		}
	}
	fr.end = len(fr.labels)
	fr.labels = append(fr.labels, -1)
	return nil
}

func (d *decoder) statement() error {
	s := d.stmt
	sc := &d.frame.scopes[s.scope]
	switch s.kind {
	case stLabel:
		d.frame.labels[sc.labels[s.op]] = int32(len(d.code.insts))
		return nil
	case stTargets:
		return nil
	case stReg:
		return d.declareRegisters(s.reg)
	case stVar:
		return d.declareVariable(s.v)
	}
	d.guard, d.not = -1, false
	if s.guard != "" {
		b, err := d.register(s.guard)
		if err != nil {
			return err
		}
		if b.typ != pred {
			return d.errorf("guard %s is no predicate", s.guard)
		}
		d.guard, d.not = b.slot, s.negated
	}
	return d.instruction()
}

func (d *decoder) bind(name string, b binding) error {
	sc := &d.frame.scopes[d.stmt.scope]
	if sc.names == nil {
		sc.names = map[string]binding{}
	}
	if _, dup := sc.names[name]; dup {
		return d.errorf("%s is declared twice", name)
	}
	sc.names[name] = b
	return nil
}

func (d *decoder) declareRegisters(r regDecl) error {
	n := max(r.count, 1)
	b := binding{kind: bindReg, typ: r.typ, count: r.count}
	switch {
	case r.typ == pred:
		b.slot = tagPred + int32(d.code.preds)
		d.code.preds += n
	case r.typ.size() == 8:
		b.slot = tag64 + int32(d.code.regs64)
		d.code.regs64 += n
	case r.typ.size() == 1:
		return d.errorf("registers of 8 bits")
	default:
		b.slot = int32(d.code.regs)
		d.code.regs += n
	}
	if d.code.preds+d.code.regs+d.code.regs64 > maxSlots {
		return d.errorf("more than %d registers", maxSlots)
	}
	return d.bind(r.name, b)
}

func (d *decoder) declareVariable(v *variable) error {
	switch v.space {
	case shared:
		if v.size == 0 {
			return d.errorf("shared variable %s has no size", v.name)
		}
		return d.bind(v.name, binding{kind: bindAddr, space: shared, addr: d.sharedBase() + uint64(d.offsets[v])})
	case local, param:
		at := align(d.code.frame+localStart, v.align)
		d.code.frame = at - localStart + v.size
		if d.code.frame > maxFrame {
			return d.errorf("stack frame of more than %d bytes", maxFrame)
		}
		addr := uint64(at)
		if v.space == param {
			addr += paramFrame
		}
		return d.bind(v.name, binding{kind: bindAddr, space: v.space, addr: addr})
	}
	return d.errorf("variable %s in space %s inside a function", v.name, v.space)
}

func (d *decoder) sharedBase() uint64 { return 1024 + uint64(d.code.sharedAlign) }

// lookup finds what a name means in the statement's scope.
func (d *decoder) lookup(name string) (binding, bool) {
	stem := strings.TrimRight(name, "0123456789")
	index := -1
	if digits := name[len(stem):]; digits != "" && len(digits) < 8 && (digits[0] != '0' || len(digits) == 1) {
		index = 0
		for _, c := range digits {
			index = 10*index + int(c-'0')
		}
	}
	for sc := d.stmt.scope; sc >= 0; sc = d.frame.fn.scopes[sc] {
		names := d.frame.scopes[sc].names
		if b, ok := names[name]; ok && b.count == 0 {
			return b, true
		}
		if b, ok := names[stem]; ok && b.count > index && index >= 0 {
			b.slot += int32(index)
			b.count = 0
			return b, true
		}
	}
	if s, ok := d.module.symbols[name]; ok {
		return binding{kind: bindAddr, space: s.space, addr: s.addr}, true
	}
	if v := d.module.shared[name]; v != nil {
		if v.size == 0 {
			return binding{kind: bindAddr, space: shared, addr: d.sharedBase() + uint64(d.dynamicAt)}, true
		}
		return binding{kind: bindAddr, space: shared, addr: d.sharedBase() + uint64(d.offsets[v])}, true
	}
	return binding{}, false
}

func (d *decoder) register(name string) (binding, error) {
	b, ok := d.lookup(name)
	if !ok || b.kind != bindReg {
		return b, d.errorf("unknown register %s", name)
	}
	return b, nil
}

// label finds a label of the statement's scope or one around it.
func (d *decoder) label(name string) (int, error) {
	for sc := d.stmt.scope; sc >= 0; sc = d.frame.fn.scopes[sc] {
		if n, ok := d.frame.scopes[sc].labels[name]; ok {
			return n, nil
		}
	}
	return 0, d.errorf("unknown label %s", name)
}

func (d *decoder) emit(in inst) *inst {
	in.guard, in.not, in.line = d.guard, d.not, int32(d.stmt.line)
	if in.second == 0 {
		in.second = noSlot
	}
	d.code.insts = append(d.code.insts, in)
	return &d.code.insts[len(d.code.insts)-1]
}
