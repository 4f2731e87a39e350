package cuda

import (
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"strings"
	"time"
)

// The driver compiles PTX for the card at hand, which takes it a good part of a second for each module. So modules are
// compiled several at a time, and behind the back of whoever loads weights meanwhile.

// compilation is one module's way through the driver's compiler.
type compilation struct {
	ptx, cubin []byte
	log        string
	status     status
	ended      time.Time
	done       chan struct{} // closed when all of the above is there
}

// compile begins with what the cache lacks of modules. Those that patterns name without there being one are none.
func (c *context) compile(patterns ...string) error {
	if c.lost != nil {
		return c.lost
	}
	ms := &c.modules
	for _, pattern := range patterns {
		files, err := fs.Glob(ptxFiles, "kernels/"+pattern+".ptx")
		if err != nil {
			return err
		}
		for _, file := range files {
			ptx, err := c.ptx(file)
			if err != nil {
				return err
			}
			name := strings.TrimSuffix(path.Base(file), ".ptx")
			if ms.loaded[name] == nil && ms.under[name] == nil && !ms.cache.has(c.cacheKey(ptx)) {
				c.begin(name, ptx)
			}
		}
	}
	return nil
}

// begin compiles one module on a goroutine of its own.
func (c *context) begin(name string, ptx []byte) *compilation {
	ms := &c.modules
	if ms.under == nil {
		ms.under = map[string]*compilation{}
	}
	if ms.slots == nil {
		ms.slots = make(chan struct{}, runtime.GOMAXPROCS(0))
	}
	if ms.compiled == 0 {
		ms.began = time.Now()
	}
	ms.compiled++
	w := &compilation{ptx: ptx, done: make(chan struct{})}
	ms.under[name] = w
	go func() {
		ms.slots <- struct{}{}
		w.run(c.d, c.handle)
		<-ms.slots
		close(w.done)
	}()
	return w
}

// run leaves the context and its books alone.
func (w *compilation) run(d *driver, context uintptr) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w.cubin, w.log, w.status = d.link(context, w.ptx)
	w.ended = time.Now()
}

// loadModule loads a module from the cache, or from the driver's compiler, for which it waits.
func (c *context) loadModule(name string, ptx []byte) (uintptr, error) {
	ms := &c.modules
	key := c.cacheKey(ptx)
	w := ms.under[name]
	if w == nil {
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
		w = c.begin(name, ptx)
	}
	<-w.done
	delete(ms.under, name)
	if w.ended.After(ms.ended) {
		ms.ended = w.ended
	}
	if err := c.noteLog("cuLinkComplete", w.status, w.log); err != nil {
		return 0, fmt.Errorf("kernels/%s.ptx: %w", name, err)
	}
	h, log, s := c.d.moduleLoad(w.cubin)
	if err := c.noteLog("cuModuleLoadDataEx", s, log); err != nil {
		return 0, fmt.Errorf("kernels/%s.ptx: %w", name, err)
	}
	if err := ms.cache.put(key, w.cubin); err != nil {
		c.log.Warn("compiled kernels cannot be kept; the next start compiles them again", "error", err)
		ms.cache.dir = "" // said once
	}
	return h, nil
}

// unload waits for the compiler, which uses the context, and gives all modules back.
func (ms *modules) unload(c *context, errs *[]error) {
	for _, w := range ms.under {
		<-w.done
	}
	for _, m := range ms.loaded {
		*errs = append(*errs, c.note("cuModuleUnload", c.d.moduleUnload(m.handle)))
	}
	ms.loaded, ms.under, ms.later = nil, nil, nil
}
