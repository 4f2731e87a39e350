package testgpu

import (
	"fmt"
	"strings"
)

// What the parser yields: declarations and statements by name, nothing resolved.
type program struct {
	vars  []*variable
	funcs []*function
}

// variable is a declaration outside of registers: .global, .const, .shared, .local or .param.
type variable struct {
	name  string
	space space
	typ   scalar
	align int
	size  int // bytes; 0 for the extern shared array
	ext   bool
	init  []initial
	line  int
}

// initial is one element of an initialiser: a number or the address of a variable.
type initial struct {
	tok token
	neg bool
	sym string
}

type function struct {
	name        string
	entry       bool
	declaration bool // no body here
	params      []*variable
	results     []*variable
	maxThreads  int
	reqThreads  int
	body        []stmt
	scopes      []int // parent of each scope; scope 0 is the body
	line        int
}

type stmtKind uint8

const (
	stInstr stmtKind = iota
	stLabel
	stReg
	stVar
	stTargets
)

type stmt struct {
	kind    stmtKind
	scope   int
	line    int
	guard   string
	negated bool
	op      string // opcode, label or name of the table
	args    []arg
	reg     regDecl
	v       *variable
	names   []string // branch targets
}

type regDecl struct {
	typ   scalar
	name  string
	count int // 0: the name itself
}

type argKind uint8

const (
	argName   argKind = iota // register, variable, label or special register
	argInt                   //
	argFloat                 //
	argAddr                  // [name+value] or [value]
	argVector                // {...}
	argPair                  // p|q
	argList                  // (...), of a call
)

type arg struct {
	kind   argKind
	name   string
	not    bool // !p
	value  int64
	single bool // argFloat given as 0f
	elems  []arg
}

type parser struct {
	scanner
	tok  token
	prog program
}

// limits on what a hostile text may ask for.
const (
	maxRegisters = 1 << 16 // of one declaration
	maxVariable  = 1 << 28 // bytes
	maxScopes    = 1 << 16
)

func parse(src string) (*program, error) {
	p := &parser{scanner: scanner{src: src, line: 1}}
	if err := p.advance(); err != nil {
		return nil, err
	}
	for p.tok.kind != tokEnd {
		if err := p.top(); err != nil {
			return nil, err
		}
	}
	return &p.prog, nil
}

func (p *parser) advance() (err error) {
	p.tok, err = p.next()
	return err
}

func (p *parser) errorf(format string, args ...any) error {
	return &syntaxError{p.tok.line, fmt.Sprintf(format, args...)}
}

func (p *parser) is(punct string) bool { return p.tok.kind == tokPunct && p.tok.text == punct }

// accept passes the punctuation if it is there.
func (p *parser) accept(punct string) (bool, error) {
	if !p.is(punct) {
		return false, nil
	}
	return true, p.advance()
}

func (p *parser) expect(punct string) error {
	if !p.is(punct) {
		return p.errorf("expected %q, found %q", punct, p.tok.text)
	}
	return p.advance()
}

func (p *parser) name() (string, error) {
	if p.tok.kind != tokName {
		return "", p.errorf("expected a name, found %q", p.tok.text)
	}
	s := p.tok.text
	return s, p.advance()
}

func (p *parser) integer() (int64, error) {
	neg, err := p.accept("-")
	if err != nil {
		return 0, err
	}
	if p.tok.kind != tokInt {
		return 0, p.errorf("expected an integer, found %q", p.tok.text)
	}
	v := int64(p.tok.bits)
	if neg {
		v = -v
	}
	return v, p.advance()
}

// count reads an integer in [0, most].
func (p *parser) count(what string, most int64) (int, error) {
	v, err := p.integer()
	if err == nil && (v < 0 || v > most) {
		err = p.errorf("%s %d is not between 0 and %d", what, v, most)
	}
	return int(v), err
}

// top reads one thing at module level.
func (p *parser) top() error {
	if p.tok.kind != tokName {
		return p.errorf("expected a directive, found %q", p.tok.text)
	}
	switch p.tok.text {
	case ".version":
		return p.version()
	case ".target":
		return p.target()
	case ".address_size":
		if err := p.advance(); err != nil {
			return err
		}
		if v, err := p.integer(); err != nil || v != 64 {
			return p.errorf("address size is not 64")
		}
		return nil
	case ".file", ".loc":
		return p.skipLine()
	case ".section":
		return p.skipSection()
	}
	ext := false
	for p.tok.text == ".visible" || p.tok.text == ".extern" || p.tok.text == ".weak" || p.tok.text == ".common" {
		ext = ext || p.tok.text == ".extern"
		if err := p.advance(); err != nil {
			return err
		}
	}
	switch p.tok.text {
	case ".entry", ".func":
		return p.function()
	case ".global", ".const", ".shared":
		v, err := p.variable(ext)
		if err != nil {
			return err
		}
		p.prog.vars = append(p.prog.vars, v)
		return p.expect(";")
	}
	return p.errorf("unknown directive %q", p.tok.text)
}

func (p *parser) version() error {
	if err := p.advance(); err != nil {
		return err
	}
	if p.tok.kind != tokFloat || !strings.HasPrefix(p.tok.text, "6.") && !strings.HasPrefix(p.tok.text, "7.") && !strings.HasPrefix(p.tok.text, "8.") {
		return p.errorf("version %q is not served (6.0 to 8.x)", p.tok.text)
	}
	return p.advance()
}

func (p *parser) target() error {
	if err := p.advance(); err != nil {
		return err
	}
	switch p.tok.text {
	case "sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90":
	default:
		return p.errorf("target %q is not served (sm_70 to sm_90)", p.tok.text)
	}
	if err := p.advance(); err != nil {
		return err
	}
	for p.is(",") {
		if err := p.advance(); err != nil {
			return err
		}
		if _, err := p.name(); err != nil {
			return err
		}
	}
	return nil
}

// skipLine passes a directive that ends with its line.
func (p *parser) skipLine() error {
	line := p.tok.line
	for p.tok.kind != tokEnd && p.tok.line == line {
		if err := p.advance(); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) skipSection() error {
	for !p.is("{") && p.tok.kind != tokEnd {
		if err := p.advance(); err != nil {
			return err
		}
	}
	for !p.is("}") {
		if p.tok.kind == tokEnd {
			return p.errorf("section does not end")
		}
		if err := p.advance(); err != nil {
			return err
		}
	}
	return p.advance()
}

// variable reads from the state space up to, not including, what ends the declaration.
func (p *parser) variable(ext bool) (*variable, error) {
	v := &variable{ext: ext, line: p.tok.line, align: 0}
	var ok bool
	if v.space, ok = spaceOf(strings.TrimPrefix(p.tok.text, ".")); !ok {
		return nil, p.errorf("expected a state space, found %q", p.tok.text)
	}
	vec := 1
	if err := p.advance(); err != nil {
		return nil, err
	}
	for p.tok.kind == tokName && strings.HasPrefix(p.tok.text, ".") {
		var err error
		switch word := p.tok.text[1:]; word {
		case "align":
			if err = p.advance(); err == nil {
				v.align, err = p.count("alignment", 1<<16)
			}
		case "ptr": // .ptr .space .align n: a hint about what a pointer points to
			if err = p.advance(); err == nil {
				err = p.pointerHint()
			}
		case "v2", "v4":
			vec = int(word[1] - '0')
			err = p.advance()
		default:
			if v.typ, ok = scalarOf(word); !ok {
				return nil, p.errorf("unknown type %q", p.tok.text)
			}
			err = p.advance()
		}
		if err != nil {
			return nil, err
		}
	}
	if v.typ.size() == 0 {
		return nil, p.errorf("a variable needs a type with a size")
	}
	if v.align == 0 {
		v.align = v.typ.size() * vec
	}
	if v.align&(v.align-1) != 0 {
		return nil, p.errorf("alignment %d is no power of two", v.align)
	}
	var err error
	if v.name, err = p.name(); err != nil {
		return nil, err
	}
	elems, err := p.dimensions()
	if err != nil {
		return nil, err
	}
	if v.size = v.typ.size() * vec * elems; v.size > maxVariable {
		return nil, p.errorf("variable %s of %d bytes", v.name, v.size)
	}
	if is, err := p.accept("="); err != nil || !is {
		return v, err
	}
	v.init, err = p.initialiser(nil, 0)
	return v, err
}

func (p *parser) pointerHint() error {
	for p.tok.kind == tokName && strings.HasPrefix(p.tok.text, ".") {
		word := p.tok.text
		if err := p.advance(); err != nil {
			return err
		}
		if word == ".align" {
			_, err := p.integer()
			return err
		}
	}
	return nil
}

// dimensions reads [n][m]...; an empty pair of brackets counts as 0 elements, none as 1.
func (p *parser) dimensions() (int, error) {
	elems := 1
	for p.is("[") {
		if err := p.advance(); err != nil {
			return 0, err
		}
		n := 0
		if !p.is("]") {
			var err error
			if n, err = p.count("dimension", maxVariable); err != nil {
				return 0, err
			}
		}
		if err := p.expect("]"); err != nil {
			return 0, err
		}
		if elems *= n; elems > maxVariable {
			return 0, p.errorf("array of %d elements", elems)
		}
	}
	return elems, nil
}

func (p *parser) initialiser(to []initial, depth int) ([]initial, error) {
	if depth > 8 {
		return nil, p.errorf("initial values are nested too deep")
	}
	if is, err := p.accept("{"); err != nil {
		return nil, err
	} else if is {
		for !p.is("}") {
			if to, err = p.initialiser(to, depth+1); err != nil {
				return nil, err
			}
			if more, err := p.accept(","); err != nil {
				return nil, err
			} else if !more {
				break
			}
		}
		return to, p.expect("}")
	}
	neg, err := p.accept("-")
	if err != nil {
		return nil, err
	}
	switch p.tok.kind {
	case tokInt, tokFloat:
		to = append(to, initial{tok: p.tok, neg: neg})
		return to, p.advance()
	case tokName:
		to = append(to, initial{sym: p.tok.text, tok: p.tok})
		if p.tok.text == "generic" {
			if err := p.advance(); err != nil {
				return nil, err
			}
			if err := p.expect("("); err != nil {
				return nil, err
			}
			to[len(to)-1].sym = "generic " + p.tok.text
			if _, err := p.name(); err != nil {
				return nil, err
			}
			return to, p.expect(")")
		}
		return to, p.advance()
	}
	return nil, p.errorf("bad initialiser %q", p.tok.text)
}
