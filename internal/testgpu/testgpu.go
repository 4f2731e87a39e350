// Package testgpu is a GPU for tests: it parses the PTX that clang writes for sm_80 and interprets it, exactly and
// strictly, so that kernels run under plain `go test` on a machine without a GPU. It never serves: it is thousands of
// times slower than the hardware.
//
// What real hardware hides is an error here: access outside an allocation, a read of bytes that nobody wrote, a
// misaligned vector, two warps that share memory without a barrier between them, an asynchronous copy that is read
// before it is waited for, threads that wait for each other for ever. Errors name kernel, block, thread and line of PTX.
//
// Not modelled:
//   - Time, caches and the number of registers: %clock counts instructions, prefetches and cache hints do nothing.
//   - Blocks that wait for each other, except by chance: a block runs to its end, Config.Workers of them at a time.
//   - Weak memory: stores are seen in order. A missing fence is found as a race, not by a wrong value.
//   - Races that a write after a read makes in global memory, and races on single bytes there.
//   - The last bits of approximate functions (ex2, lg2, rcp, rsqrt, sqrt, sin, cos, tanh .approx): they are computed in
//     float64 and rounded once. The order of sums in mma: products are exact, sums are rounded once.
//   - Instructions that no kernel of ours uses: textures, surfaces, wmma, sparse and 64-bit mma, indirect calls, anything
//     newer than sm_80. They are errors of ModuleLoad, never skipped.
package testgpu

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Results are the numbers of CUresult, as the driver returns them.
const (
	Success           = 0
	InvalidValue      = 1
	OutOfMemory       = 2
	InvalidImage      = 200
	InvalidPTX        = 218
	InvalidHandle     = 400
	NotFound          = 500
	IllegalAddress    = 700
	LaunchOutOfBounds = 701
	LaunchTimeout     = 702
	MisalignedAddress = 716
	LaunchFailed      = 719
)

// Config describes the GPU. The zero value is a GeForce RTX 3090 in miniature.
type Config struct {
	Name              string
	Major, Minor      int
	SMs               int
	SharedPerBlock    int    // bytes a block may ask for by SetMaxShared; 0: 99 KiB
	Memory            int64  // bytes of device memory; 0: 4 GiB
	Driver            int    // as cuDriverGetVersion; 0: 12040
	Workers           int    // blocks that run at the same time; 0: GOMAXPROCS. 1 makes every launch deterministic
	Shuffle           uint64 // seed of the order of blocks and warps; 0: ascending
	IgnoreGlobalRaces bool   // do not look for races in global memory
	MaxSteps          int64  // warp instructions that a block may execute before its launch fails; 0: 1<<28
}

// GPU is one device with its memory and modules. Its methods may be called from any goroutine, one at a time runs.
type GPU struct {
	mu       sync.Mutex
	config   Config
	memory   memory
	modules  map[uint64]*module
	kernels  map[uint64]*kernel
	next     uint64 // handle
	sticky   int
	last     string
	failures map[string]failure
	idle     []*block
	launches uint64
	executed atomic.Int64
	watched  uint64 // launches, as traces number them
	chain    trace  // the last ordinary launch
}

type failure struct{ after, rc int }

// New returns a GPU with empty memory.
func New(c Config) *GPU {
	if c.Name == "" {
		c.Name = "testgpu (as GeForce RTX 3090)"
	}
	if c.Major == 0 {
		c.Major, c.Minor = 8, 6
	}
	if c.SMs == 0 {
		c.SMs = 82
	}
	if c.SharedPerBlock == 0 {
		c.SharedPerBlock = 99 << 10
	}
	if c.Memory == 0 {
		c.Memory = 4 << 30
	}
	if c.Driver == 0 {
		c.Driver = 12040
	}
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.MaxSteps == 0 {
		c.MaxSteps = 1 << 28
	}
	return &GPU{config: c, modules: map[uint64]*module{}, kernels: map[uint64]*kernel{}, next: 1, failures: map[string]failure{},
		memory: memory{next: globalBase}}
}

// Config returns the configuration with its defaults filled in.
func (g *GPU) Config() Config { return g.config }

// LastError describes the newest failure; "" if there was none.
func (g *GPU) LastError() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

// FailAfter makes the n-th call from now (1: the next) of the method named call return rc, once. Methods: MemAlloc,
// MemFree, CopyIn, CopyOut, CopyDevice, Set8, Set32, ModuleLoad, Function, SetMaxShared, Launch.
func (g *GPU) FailAfter(call string, n, rc int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failures[call] = failure{n, rc}
}

// enter takes the lock and returns what the call must fail with at once: a planted failure or the sticky error.
func (g *GPU) enter(call string) int {
	g.mu.Lock()
	if f, ok := g.failures[call]; ok {
		if f.after--; f.after > 0 {
			g.failures[call] = f
		} else {
			delete(g.failures, call)
			g.last = fmt.Sprintf("%s: failure asked for by FailAfter", call)
			return f.rc
		}
	}
	return g.sticky
}

// fail records why a call fails and returns its result.
func (g *GPU) fail(rc int, format string, args ...any) int {
	g.last = fmt.Sprintf(format, args...)
	return rc
}

// Failed reports the sticky error: Success while the context is usable.
func (g *GPU) Failed() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sticky
}

// Executed counts the warp instructions of all launches so far.
func (g *GPU) Executed() int64 { return g.executed.Load() }
