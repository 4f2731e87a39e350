package testgpu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// module is a loaded PTX text: its kernels, decoded, and its variables.
type module struct {
	lines     []string
	constants []byte
	kernels   map[string]*kernel
	symbols   map[string]symbol
	shared    map[string]*variable
	funcs     map[string]*function
}

// symbol is a variable with a fixed address.
type symbol struct {
	space space
	addr  uint64
}

// kernel is an entry of a module.
type kernel struct {
	name      string
	handle    uint64
	code      *code
	maxShared int
}

// code is a decoded kernel with the functions it calls built in.
type code struct {
	name         string
	module       *module
	insts        []inst
	k32          []lanes
	k64          []lanes64
	regs         int
	regs64       int
	preds        int
	virtual      int // registers that PTX declares
	allocated    bool
	entry32      []int32 // slots that may be read before they are written
	entry64      []int32
	frame        int // bytes of a lane's stack
	staticShared int
	sharedAlign  int
	paramBytes   int
	maxThreads   int
	reqThreads   int
}

// Info describes a function.
type Info struct {
	Name         string
	ParamBytes   int
	StaticShared int // bytes
	MaxThreads   int // a block; 1024 if the kernel does not say
	Local        int // bytes of stack a thread
	Registers    int // virtual ones, which says little about the real number
}

// line returns the text of a line of PTX, counted from 1.
func (m *module) line(n int) string {
	if n < 1 || n > len(m.lines) {
		return "?"
	}
	text := strings.Join(strings.Fields(m.lines[n-1]), " ")
	if len(text) > 160 {
		text = text[:160] + "..."
	}
	return text
}

// ModuleLoad parses and decodes PTX. log names the line of what is wrong or unknown.
func (g *GPU) ModuleLoad(ptx []byte) (mod uint64, rc int, log string) {
	rc = g.enter("ModuleLoad")
	defer g.mu.Unlock()
	if rc != Success {
		return 0, rc, ""
	}
	src := strings.TrimRight(string(ptx), "\x00")
	m, err := g.load(src)
	if err != nil {
		log = err.Error()
		if bad := new(syntaxError); errors.As(err, &bad) && m != nil {
			log += ": " + m.line(bad.line)
		}
		return 0, g.fail(InvalidPTX, "ModuleLoad: %s", log), log
	}
	mod = g.handle()
	g.modules[mod] = m
	for _, k := range m.kernels {
		k.handle = g.handle()
		g.kernels[k.handle] = k
	}
	return mod, Success, ""
}

func (g *GPU) handle() uint64 {
	g.next++
	return 0x5e000000 + g.next<<4
}

func (g *GPU) load(src string) (*module, error) {
	m := &module{lines: strings.Split(src, "\n"), kernels: map[string]*kernel{}, symbols: map[string]symbol{},
		shared: map[string]*variable{}, funcs: map[string]*function{}}
	p, err := parse(src)
	if err != nil {
		return m, err
	}
	for _, f := range p.funcs {
		if old := m.funcs[f.name]; old == nil || old.declaration {
			m.funcs[f.name] = f
		} else if !f.declaration {
			return m, &syntaxError{f.line, "function " + f.name + " is defined twice"}
		}
	}
	images := map[*variable]*allocation{}
	for _, v := range p.vars {
		if err := g.declare(m, v, images); err != nil {
			return m, err
		}
	}
	for _, v := range p.vars {
		if err := m.initialise(v, images[v]); err != nil {
			return m, err
		}
	}
	for _, f := range p.funcs {
		if !f.entry || f.declaration {
			continue
		}
		c, err := m.decode(f)
		if err != nil {
			return m, err
		}
		m.kernels[f.name] = &kernel{name: f.name, code: c}
	}
	return m, nil
}

// declare gives a variable of the module its address.
func (g *GPU) declare(m *module, v *variable, images map[*variable]*allocation) error {
	if _, dup := m.symbols[v.name]; dup || m.shared[v.name] != nil {
		return &syntaxError{v.line, "variable " + v.name + " is declared twice"}
	}
	switch v.space {
	case shared:
		if v.size == 0 && !v.ext {
			return &syntaxError{v.line, "shared variable " + v.name + " has no size"}
		}
		m.shared[v.name] = v
	case constant:
		at := align(len(m.constants), v.align)
		if at+v.size > 64<<10 {
			return &syntaxError{v.line, "more than 64 KiB of constants"}
		}
		m.constants = append(m.constants, make([]byte, at+v.size-len(m.constants))...)
		m.symbols[v.name] = symbol{constant, constStart + uint64(at)}
	case global:
		if v.ext || v.size == 0 {
			return &syntaxError{v.line, "global variable " + v.name + " has no definition here"}
		}
		a := g.memory.add(int64(v.size))
		a.owned = true
		g.memory.used -= int64(v.size)
		fill(a.written, 1) // globals start as zeros
		images[v] = a
		m.symbols[v.name] = symbol{global, a.base}
	}
	return nil
}

// initialise writes a variable's initial values.
func (m *module) initialise(v *variable, a *allocation) error {
	if v.init == nil {
		return nil
	}
	var image []byte
	switch {
	case v.space == constant:
		at := m.symbols[v.name].addr - constStart
		image = m.constants[at : at+uint64(v.size)]
	case a != nil:
		image = a.data
	default:
		return &syntaxError{v.line, "variable " + v.name + " cannot have initial values"}
	}
	size := v.typ.size()
	for i, e := range v.init {
		if (i+1)*size > len(image) {
			return &syntaxError{v.line, "too many initial values for " + v.name}
		}
		bits, err := m.initialBits(v, e)
		if err != nil {
			return err
		}
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], bits)
		copy(image[i*size:], b[:size])
	}
	return nil
}

func (m *module) initialBits(v *variable, e initial) (uint64, error) {
	if e.sym != "" {
		name, isGeneric := strings.CutPrefix(e.sym, "generic ")
		s, ok := m.symbols[name]
		if !ok {
			return 0, &syntaxError{e.tok.line, "unknown variable " + name}
		}
		if isGeneric && s.space == constant {
			return s.addr + constWindow, nil
		}
		return s.addr, nil
	}
	bits := e.tok.bits
	if e.tok.kind == tokFloat {
		switch {
		case v.typ == f32 && !e.tok.single:
			bits = uint64(math.Float32bits(float32(math.Float64frombits(bits))))
		case v.typ == f64 && e.tok.single, !v.typ.float():
			return 0, &syntaxError{e.tok.line, fmt.Sprintf("initial value %s of type %s", e.tok.text, v.typ)}
		}
		if e.neg {
			bits ^= 1 << (8*v.typ.size() - 1)
		}
		return bits, nil
	}
	if e.neg {
		bits = -bits
	}
	return bits, nil
}

// Function returns the handle of a module's kernel.
func (g *GPU) Function(mod uint64, name string) (fn uint64, rc int) {
	rc = g.enter("Function")
	defer g.mu.Unlock()
	if rc != Success {
		return 0, rc
	}
	m, ok := g.modules[mod]
	if !ok {
		return 0, g.fail(InvalidHandle, "Function %q of an unknown module", name)
	}
	k, ok := m.kernels[name]
	if !ok {
		return 0, g.fail(NotFound, "the module has no kernel %q", name)
	}
	return k.handle, Success
}

// Functions lists the kernels of a module.
func (g *GPU) Functions(mod uint64) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	if m, ok := g.modules[mod]; ok {
		for name := range m.kernels {
			names = append(names, name)
		}
	}
	return names
}

// FunctionInfo describes a kernel; false if there is none with this handle.
func (g *GPU) FunctionInfo(fn uint64) (Info, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k, ok := g.kernels[fn]
	if !ok {
		return Info{}, false
	}
	c := k.code
	info := Info{Name: k.name, ParamBytes: c.paramBytes, StaticShared: c.staticShared, MaxThreads: c.maxThreads, Local: c.frame,
		Registers: c.virtual}
	if info.MaxThreads == 0 {
		info.MaxThreads = 1024
	}
	return info, true
}

// SetMaxShared allows a kernel that much dynamic shared memory, as CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES does.
func (g *GPU) SetMaxShared(fn uint64, bytes int) int {
	rc := g.enter("SetMaxShared")
	defer g.mu.Unlock()
	if rc != Success {
		return rc
	}
	k, ok := g.kernels[fn]
	if !ok {
		return g.fail(InvalidHandle, "SetMaxShared of an unknown function")
	}
	if bytes < 0 || bytes+k.code.staticShared > g.config.SharedPerBlock {
		return g.fail(InvalidValue, "SetMaxShared of kernel %s: %d bytes and %d static, the device has %d", k.name, bytes, k.code.staticShared, g.config.SharedPerBlock)
	}
	k.maxShared = bytes
	return Success
}
