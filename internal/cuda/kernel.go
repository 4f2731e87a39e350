package cuda

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// The kernels, compiled by clang for compute capability 8.0 in PTX 7.0 (kernels/build.go). The driver compiles them for
// the card at hand.
//
//go:embed kernels/*.ptx
var ptxFiles embed.FS

// kernelSpec names a kernel and what its launches may ask for.
type kernelSpec struct {
	module, name string  // kernels/MODULE.ptx, and the function in it
	shared       int     // most dynamic shared memory that a launch asks for, bytes
	params       uintptr // size of the parameter struct, compared with the PTX
}

// kernel is a function on the GPU.
type kernel struct {
	name, module string
	fn           uintptr // 0: its module is still being compiled
	shared       int
	params       uintptr
	waits        bool // may be launched before the kernel before it is complete

	registers, static, local int // a thread's registers; bytes of static shared and of local memory
}

// modules are the compiled PTX files of a context, loaded when a kernel of theirs is first needed.
type modules struct {
	loaded map[string]*module
	under  map[string]*compilation // under way, or done and not yet loaded
	cache  cache
	later  []*kernel     // of modules under compilation
	slots  chan struct{} // taken by what is compiled now

	compiled     int // modules that the cache lacked
	began, ended time.Time
}

type module struct {
	handle  uintptr
	entries map[string]entry
}

// entry is what PTX says of a kernel.
type entry struct {
	params  int  // bytes
	threads int  // .maxntid, 0 if not given
	waits   bool // has griddepcontrol.wait
}

// kernel makes a kernel ready to launch. Its module is compiled once; the disk cache spares the next start. Where compile
// has begun with the module, the kernel waits for it at its first launch, or in resolveAll.
func (c *context) kernel(s kernelSpec) (*kernel, error) {
	if c.lost != nil {
		return nil, c.lost
	}
	k := &kernel{name: s.name, module: s.module, shared: s.shared, params: s.params}
	if c.modules.under[s.module] != nil {
		c.modules.later = append(c.modules.later, k)
		return k, nil
	}
	if err := c.resolve(k); err != nil {
		return nil, err
	}
	return k, nil
}

// resolveAll makes all kernels ready.
func (c *context) resolveAll() error {
	for _, k := range c.modules.later {
		if err := c.resolve(k); err != nil {
			return err
		}
	}
	c.modules.later = nil
	return nil
}

// resolve looks a kernel up in its module.
func (c *context) resolve(k *kernel) error {
	if k.fn != 0 {
		return nil
	}
	if c.lost != nil {
		return c.lost
	}
	c.enter()
	defer c.leave()
	m, err := c.module(k.module)
	if err != nil {
		return err
	}
	e, ok := m.entries[k.name]
	if !ok {
		return fmt.Errorf("kernels/%s.ptx has no kernel %q", k.module, k.name)
	}
	if e.params != int(k.params) {
		return fmt.Errorf("kernel %s takes %d bytes of parameters, its caller passes %d", k.name, e.params, k.params)
	}
	fn, st := c.d.function(m.handle, k.name)
	if st != success {
		return fmt.Errorf("kernel %s: %w", k.name, c.note("cuModuleGetFunction", st))
	}
	for _, a := range []struct {
		to   *int
		from functionAttribute
	}{{&k.registers, funcRegisters}, {&k.static, funcSharedBytes}, {&k.local, funcLocalBytes}} {
		if *a.to, st = c.d.functionGet(fn, a.from); st != success {
			return fmt.Errorf("kernel %s: %w", k.name, c.note("cuFuncGetAttribute", st))
		}
	}
	if need := k.static + k.shared; need > c.info.sharedMax {
		return fmt.Errorf("kernel %s needs %d bytes of shared memory, %s allows %d", k.name, need, c.info.name, c.info.sharedMax)
	}
	if k.static+k.shared > defaultSharedMemory {
		if st = c.d.functionSet(fn, funcMaxShared, k.shared); st != success {
			return fmt.Errorf("kernel %s, %d bytes shared: %w", k.name, k.shared, c.note("cuFuncSetAttribute", st))
		}
	}
	if e.waits {
		// Kernels overlap only where they divide the multiprocessor's memory alike.
		if st = c.d.functionSet(fn, funcCarveout, overlapCarveout); st != success {
			return fmt.Errorf("kernel %s: %w", k.name, c.note("cuFuncSetAttribute", st))
		}
	}
	c.log.Debug("kernel", "name", k.name, "registers", k.registers, "shared", k.static+k.shared, "local", k.local)
	k.fn, k.waits = fn, e.waits
	return nil
}

// module loads kernels/NAME.ptx: from the cache, or by the driver's compiler.
func (c *context) module(name string) (*module, error) {
	ms := &c.modules
	if m := ms.loaded[name]; m != nil {
		return m, nil
	}
	ptx, err := c.ptx("kernels/" + name + ".ptx")
	if err != nil {
		return nil, fmt.Errorf("no kernels of the name %q are built in: %w", name, err)
	}
	m := &module{}
	if m.entries, err = ptxEntries(ptx); err != nil {
		return nil, fmt.Errorf("kernels/%s.ptx: %w", name, err)
	}
	if m.handle, err = c.loadModule(name, ptx); err != nil {
		return nil, err
	}
	if ms.loaded == nil {
		ms.loaded = map[string]*module{}
	}
	ms.loaded[name] = m
	return m, nil
}

var (
	paramPattern   = regexp.MustCompile(`\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+[\w$]+(?:\[(\d+)\])?`)
	threadsPattern = regexp.MustCompile(`\.maxntid\s+(\d+)(?:,\s*(\d+))?(?:,\s*(\d+))?`)
)

// ptxEntries lists the kernels in PTX as clang writes it, each with one parameter: a struct.
func ptxEntries(ptx []byte) (map[string]entry, error) {
	all := map[string]entry{}
	for rest := ptx; ; {
		_, after, found := bytes.Cut(rest, []byte(".entry "))
		if !found {
			break
		}
		// NAME ( parameters ) directives { body
		head, body, ok := bytes.Cut(after, []byte("{"))
		name, params, ok2 := bytes.Cut(head, []byte("("))
		params, directives, ok3 := bytes.Cut(params, []byte(")"))
		if !ok || !ok2 || !ok3 {
			return nil, fmt.Errorf("kernel %.40q has no parameters or no body", after)
		}
		e, err := parseEntry(params, directives)
		if err != nil {
			return nil, fmt.Errorf("kernel %s: %w", bytes.TrimSpace(name), err)
		}
		text, _, _ := bytes.Cut(body, []byte("\n}"))
		e.waits = overlapWait.Match(text)
		all[string(bytes.TrimSpace(name))] = e
		rest = body
	}
	if len(all) == 0 {
		return nil, errors.New("no kernel in it")
	}
	return all, nil
}

func parseEntry(params, directives []byte) (e entry, err error) {
	p := paramPattern.FindAllSubmatch(params, -1)
	if len(p) != 1 || string(p[0][1]) != "b8" {
		return e, fmt.Errorf("%d parameters, want one struct by value", len(p))
	}
	if e.params, err = strconv.Atoi(string(p[0][2])); err != nil || e.params > maxParams {
		return e, fmt.Errorf("parameters of %q bytes", p[0][2])
	}
	t := threadsPattern.FindSubmatch(directives)
	if t == nil {
		return e, nil
	}
	e.threads = 1
	for _, d := range t[1:] {
		if len(d) == 0 {
			continue
		}
		n, err := strconv.Atoi(string(d))
		if err != nil {
			return e, fmt.Errorf(".maxntid %q", d)
		}
		e.threads *= n
	}
	return e, nil
}
