package testgpu

import "strings"

// function reads .entry or .func with its body.
func (p *parser) function() error {
	f := &function{entry: p.tok.text == ".entry", line: p.tok.line}
	if err := p.advance(); err != nil {
		return err
	}
	var err error
	if p.is("(") {
		if f.results, err = p.params(); err != nil {
			return err
		}
	}
	if f.name, err = p.name(); err != nil {
		return err
	}
	if p.is("(") {
		if f.params, err = p.params(); err != nil {
			return err
		}
	}
	for p.tok.kind == tokName && strings.HasPrefix(p.tok.text, ".") {
		if err := p.tuning(f); err != nil {
			return err
		}
	}
	p.prog.funcs = append(p.prog.funcs, f)
	if p.is(";") {
		f.declaration = true
		return p.advance()
	}
	f.scopes = []int{-1}
	if err := p.expect("{"); err != nil {
		return err
	}
	return p.block(f, 0)
}

// params reads (.param ..., ...).
func (p *parser) params() ([]*variable, error) {
	var all []*variable
	if err := p.expect("("); err != nil {
		return nil, err
	}
	for !p.is(")") {
		v, err := p.variable(false)
		if err != nil {
			return nil, err
		}
		if v.space != param {
			return nil, p.errorf("parameter %s is in space %s", v.name, v.space)
		}
		all = append(all, v)
		if more, err := p.accept(","); err != nil {
			return nil, err
		} else if !more {
			break
		}
	}
	return all, p.expect(")")
}

// tuning reads a performance directive between a function's name and its body.
func (p *parser) tuning(f *function) error {
	word := p.tok.text
	if err := p.advance(); err != nil {
		return err
	}
	switch word {
	case ".noreturn":
		return nil
	case ".pragma":
		if p.tok.kind != tokString {
			return p.errorf(".pragma wants a string")
		}
		if err := p.advance(); err != nil {
			return err
		}
		return p.expect(";")
	case ".maxntid", ".reqntid", ".minnctapersm", ".maxnctapersm", ".maxnreg":
	default:
		return p.errorf("unknown directive %q", word)
	}
	n := 1
	for {
		v, err := p.count(word, 1<<20)
		if err != nil {
			return err
		}
		if n *= v; n > 1<<20 {
			return p.errorf("%s is too large", word)
		}
		if more, err := p.accept(","); err != nil {
			return err
		} else if !more {
			break
		}
	}
	switch word {
	case ".maxntid":
		f.maxThreads = n
	case ".reqntid":
		f.reqThreads = n
	}
	return nil
}

// block reads statements up to the closing brace of scope.
func (p *parser) block(f *function, scope int) error {
	for {
		switch {
		case p.tok.kind == tokEnd:
			return p.errorf("function %s does not end", f.name)
		case p.is("}"):
			if f.scopes[scope] < 0 {
				return p.advance()
			}
			scope = f.scopes[scope]
			if err := p.advance(); err != nil {
				return err
			}
		case p.is("{"):
			if len(f.scopes) > maxScopes {
				return p.errorf("too many scopes")
			}
			f.scopes = append(f.scopes, scope)
			scope = len(f.scopes) - 1
			if err := p.advance(); err != nil {
				return err
			}
		case p.is(";"): // empty
			if err := p.advance(); err != nil {
				return err
			}
		default:
			if err := p.statement(f, scope); err != nil {
				return err
			}
		}
	}
}

func (p *parser) statement(f *function, scope int) error {
	s := stmt{scope: scope, line: p.tok.line}
	if is, err := p.accept("@"); err != nil {
		return err
	} else if is {
		if s.negated, err = p.accept("!"); err != nil {
			return err
		}
		if s.guard, err = p.name(); err != nil {
			return err
		}
	}
	if p.tok.kind != tokName {
		return p.errorf("expected an instruction, found %q", p.tok.text)
	}
	s.op = p.tok.text
	if s.op[0] == '.' {
		if s.guard != "" {
			return p.errorf("a directive takes no guard")
		}
		return p.directive(f, scope)
	}
	if err := p.advance(); err != nil {
		return err
	}
	if p.is(":") && s.guard == "" {
		if err := p.advance(); err != nil {
			return err
		}
		return p.label(f, s)
	}
	for !p.is(";") {
		a, err := p.operand()
		if err != nil {
			return err
		}
		s.args = append(s.args, a)
		if more, err := p.accept(","); err != nil {
			return err
		} else if !more {
			break
		}
	}
	if !p.is(";") {
		return p.errorf("expected \";\" after %s, found %q", s.op, p.tok.text)
	}
	f.body = append(f.body, s)
	return p.advance()
}

// label adds a label or, if .branchtargets follows, a table of labels.
func (p *parser) label(f *function, s stmt) error {
	if p.tok.kind != tokName || p.tok.text != ".branchtargets" {
		s.kind = stLabel
		f.body = append(f.body, s)
		return nil
	}
	s.kind = stTargets
	if err := p.advance(); err != nil {
		return err
	}
	for {
		name, err := p.name()
		if err != nil {
			return err
		}
		s.names = append(s.names, name)
		if more, err := p.accept(","); err != nil {
			return err
		} else if !more {
			break
		}
	}
	f.body = append(f.body, s)
	return p.expect(";")
}

func (p *parser) directive(f *function, scope int) error {
	switch p.tok.text {
	case ".reg":
		return p.registers(f, scope)
	case ".local", ".shared", ".param":
		s := stmt{kind: stVar, scope: scope, line: p.tok.line}
		v, err := p.variable(false)
		if err != nil {
			return err
		}
		s.v = v
		f.body = append(f.body, s)
		return p.expect(";")
	case ".loc", ".file":
		return p.skipLine()
	case ".pragma":
		if err := p.advance(); err != nil {
			return err
		}
		if p.tok.kind != tokString {
			return p.errorf(".pragma wants a string")
		}
		if err := p.advance(); err != nil {
			return err
		}
		return p.expect(";")
	}
	return p.errorf("unknown directive %q", p.tok.text)
}

// registers reads .reg .type a, b, %c<n>;
func (p *parser) registers(f *function, scope int) error {
	line := p.tok.line
	if err := p.advance(); err != nil {
		return err
	}
	word, err := p.name()
	if err != nil {
		return err
	}
	typ, ok := scalarOf(strings.TrimPrefix(word, "."))
	if !ok {
		return p.errorf("unknown register type %q", word)
	}
	for {
		s := stmt{kind: stReg, scope: scope, line: line, reg: regDecl{typ: typ}}
		if s.reg.name, err = p.name(); err != nil {
			return err
		}
		if is, err := p.accept("<"); err != nil {
			return err
		} else if is {
			if s.reg.count, err = p.count("number of registers", maxRegisters); err != nil {
				return err
			}
			if err := p.expect(">"); err != nil {
				return err
			}
			if s.reg.count == 0 {
				return p.errorf("no registers %s<0>", s.reg.name)
			}
		}
		f.body = append(f.body, s)
		if more, err := p.accept(","); err != nil {
			return err
		} else if !more {
			return p.expect(";")
		}
	}
}

func (p *parser) operand() (arg, error) {
	switch {
	case p.is("["):
		return p.address()
	case p.is("{"):
		return p.group(argVector, "{", "}")
	case p.is("("):
		return p.group(argList, "(", ")")
	case p.is("!"):
		if err := p.advance(); err != nil {
			return arg{}, err
		}
		name, err := p.name()
		return arg{kind: argName, name: name, not: true}, err
	case p.is("-") || p.tok.kind == tokInt || p.tok.kind == tokFloat:
		return p.literal()
	}
	name, err := p.name()
	if err != nil {
		return arg{}, err
	}
	a := arg{kind: argName, name: name}
	switch {
	case p.is("|"):
		if err := p.advance(); err != nil {
			return arg{}, err
		}
		second, err := p.name()
		return arg{kind: argPair, elems: []arg{a, {kind: argName, name: second}}}, err
	case p.is("+"): // symbol + offset
		if err := p.advance(); err != nil {
			return arg{}, err
		}
		a.value, err = p.integer()
	}
	return a, err
}

func (p *parser) literal() (arg, error) {
	neg, err := p.accept("-")
	if err != nil {
		return arg{}, err
	}
	t := p.tok
	a := arg{kind: argInt, value: int64(t.bits)}
	switch t.kind {
	case tokInt:
		if neg {
			a.value = -a.value
		}
	case tokFloat:
		if neg {
			return a, p.errorf("a minus before a float literal")
		}
		a.kind, a.single = argFloat, t.single
	default:
		return a, p.errorf("expected a number, found %q", t.text)
	}
	return a, p.advance()
}

func (p *parser) group(kind argKind, open, end string) (arg, error) {
	a := arg{kind: kind}
	if err := p.expect(open); err != nil {
		return a, err
	}
	for !p.is(end) {
		if p.is("{") || p.is("(") || p.is("[") {
			return a, p.errorf("nested group of operands")
		}
		e, err := p.operand()
		if err != nil {
			return a, err
		}
		a.elems = append(a.elems, e)
		if more, err := p.accept(","); err != nil {
			return a, err
		} else if !more {
			break
		}
	}
	return a, p.expect(end)
}

// address reads [name], [name+n], [name+-n] or [n].
func (p *parser) address() (arg, error) {
	a := arg{kind: argAddr}
	if err := p.expect("["); err != nil {
		return a, err
	}
	var err error
	if p.tok.kind == tokName {
		if a.name, err = p.name(); err != nil {
			return a, err
		}
		if plus, err := p.accept("+"); err != nil {
			return a, err
		} else if !plus && !p.is("-") {
			return a, p.expect("]")
		}
	}
	if a.value, err = p.integer(); err != nil {
		return a, err
	}
	return a, p.expect("]")
}
