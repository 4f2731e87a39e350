package cuda

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
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
	name   string
	fn     uintptr
	shared int
	params uintptr

	registers, static, local int // a thread's registers; bytes of static shared and of local memory
}

// modules are the compiled PTX files of a context, loaded when a kernel of theirs is first asked for.
type modules struct {
	loaded map[string]*module
	ahead  map[string][]byte // compiled and not yet loaded
	cache  cache

	compiled int           // modules that the cache lacked
	spent    time.Duration // on them
}

type module struct {
	handle  uintptr
	entries map[string]entry
}

// entry is what PTX says of a kernel.
type entry struct {
	params  int // bytes
	threads int // .maxntid, 0 if not given
}

// kernel makes a kernel ready to launch. Its module is compiled once; the disk cache spares the next start.
func (c *context) kernel(s kernelSpec) (*kernel, error) {
	if c.lost != nil {
		return nil, c.lost
	}
	c.enter()
	defer c.leave()
	m, err := c.module(s.module)
	if err != nil {
		return nil, err
	}
	e, ok := m.entries[s.name]
	if !ok {
		return nil, fmt.Errorf("kernels/%s.ptx has no kernel %q", s.module, s.name)
	}
	if e.params != int(s.params) {
		return nil, fmt.Errorf("kernel %s takes %d bytes of parameters, its caller passes %d", s.name, e.params, s.params)
	}
	k := &kernel{name: s.name, shared: s.shared, params: s.params}
	var st status
	if k.fn, st = c.d.function(m.handle, s.name); st != success {
		return nil, fmt.Errorf("kernel %s: %w", s.name, c.note("cuModuleGetFunction", st))
	}
	for _, a := range []struct {
		to   *int
		from functionAttribute
	}{{&k.registers, funcRegisters}, {&k.static, funcSharedBytes}, {&k.local, funcLocalBytes}} {
		if *a.to, st = c.d.functionGet(k.fn, a.from); st != success {
			return nil, fmt.Errorf("kernel %s: %w", s.name, c.note("cuFuncGetAttribute", st))
		}
	}
	if need := k.static + s.shared; need > c.info.sharedMax {
		return nil, fmt.Errorf("kernel %s needs %d bytes of shared memory, %s allows %d", s.name, need, c.info.name, c.info.sharedMax)
	}
	if k.static+s.shared > defaultSharedMemory {
		if st = c.d.functionSet(k.fn, funcMaxShared, s.shared); st != success {
			return nil, fmt.Errorf("kernel %s, %d bytes shared: %w", s.name, s.shared, c.note("cuFuncSetAttribute", st))
		}
	}
	c.log.Debug("kernel", "name", s.name, "registers", k.registers, "shared", k.static+s.shared, "local", k.local)
	return k, nil
}

// module loads kernels/NAME.ptx: from the cache, or by the driver's compiler.
func (c *context) module(name string) (*module, error) {
	ms := &c.modules
	if m := ms.loaded[name]; m != nil {
		return m, nil
	}
	ptx, err := ptxFiles.ReadFile("kernels/" + name + ".ptx")
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

func (c *context) loadModule(name string, ptx []byte) (uintptr, error) {
	ms := &c.modules
	key := c.cacheKey(ptx)
	if cubin := ms.cache.get(key); cubin != nil {
		h, log, s := c.d.moduleLoad(cubin)
		if s == success {
			return h, nil
		}
		c.log.Warn("a cached kernel does not load and is compiled again", "module", name, "error", c.noteLog("cuModuleLoadDataEx", s, log))
		ms.cache.drop(key)
		if c.lost != nil {
			return 0, c.lost
		}
	}
	if ms.ahead[name] == nil {
		if err := c.link([]*compilation{{name: name, ptx: ptx}}); err != nil {
			return 0, err
		}
	}
	cubin := ms.ahead[name]
	delete(ms.ahead, name)
	h, log, s := c.d.moduleLoad(cubin)
	if err := c.noteLog("cuModuleLoadDataEx", s, log); err != nil {
		return 0, fmt.Errorf("kernels/%s.ptx: %w", name, err)
	}
	if err := ms.cache.put(key, cubin); err != nil {
		c.log.Warn("compiled kernels cannot be kept; the next start compiles them again", "error", err)
		ms.cache.dir = "" // said once
	}
	return h, nil
}

// compile has the driver compile what the cache lacks of modules, several at a time: uncached, each takes it a good part of
// a second. Those that patterns name without there being one are none.
func (c *context) compile(patterns ...string) error {
	c.enter()
	defer c.leave()
	ms := &c.modules
	var work []*compilation
	for _, pattern := range patterns {
		files, err := fs.Glob(ptxFiles, "kernels/"+pattern+".ptx")
		if err != nil {
			return err
		}
		for _, file := range files {
			ptx, err := ptxFiles.ReadFile(file)
			if err != nil {
				return err
			}
			name := strings.TrimSuffix(path.Base(file), ".ptx")
			if ms.loaded[name] == nil && ms.ahead[name] == nil && !ms.cache.has(c.cacheKey(ptx)) {
				work = append(work, &compilation{name: name, ptx: ptx})
			}
		}
	}
	return c.link(work)
}

// link runs the driver's compiler.
func (c *context) link(work []*compilation) error {
	if c.lost != nil || len(work) == 0 {
		return c.lost
	}
	ms, start := &c.modules, time.Now()
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, w := range work {
		g.Go(func() error { w.run(c); return nil })
	}
	_ = g.Wait() // results are in work
	ms.compiled, ms.spent = ms.compiled+len(work), ms.spent+time.Since(start)
	if ms.ahead == nil {
		ms.ahead = map[string][]byte{}
	}
	for _, w := range work {
		if err := c.noteLog(w.call, w.status, w.log); err != nil {
			return fmt.Errorf("kernels/%s.ptx: %w", w.name, err)
		}
		ms.ahead[w.name] = w.cubin
	}
	return nil
}

// compilation is one module's way through the driver's compiler.
type compilation struct {
	name, call, log string
	ptx, cubin      []byte
	status          status
}

// run is called on a goroutine of its own, so it makes the context current on its thread and leaves the books alone.
func (w *compilation) run(c *context) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w.call = "cuCtxSetCurrent"
	if w.status = c.d.setCurrent(c.handle); w.status == success {
		w.call = "cuLinkComplete"
		w.cubin, w.log, w.status = c.d.link(w.ptx)
	}
}

func (ms *modules) unload(c *context, errs *[]error) {
	for _, m := range ms.loaded {
		*errs = append(*errs, c.note("cuModuleUnload", c.d.moduleUnload(m.handle)))
	}
	ms.loaded, ms.ahead = nil, nil
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
