package testgpu

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// launch is one kernel launch while it runs.
type launch struct {
	gpu     *GPU
	kernel  *kernel
	grid    [3]int
	block   [3]int
	dynamic int
	params  []byte
	serial  atomic.Int64
	order   []int32 // of blocks, when shuffled
	failed  atomic.Pointer[string]
	rc      atomic.Int64
	trace   trace // the launch's part of traces; 0: races are not looked for
	since   trace // first launch that may still run; 0: none
	waited  atomic.Bool
	syncs   syncs
}

// block is a thread block with its warps; workers use one again and again.
type block struct {
	launch     *launch
	id         [3]int
	serial     int
	warps      []*warp
	unfinished int // warps
	shared     sharedMemory
	barriers   [16]barrier
	steps      int64
	regs       []lanes
	regs64     []lanes64
	preds      []uint32
	order      []int
	random     *rand.Rand
	acquired   int64 // moment up to which the block has seen what others published
}

// quantum is how long a warp runs before another one gets its turn.
const quantum = 1 << 12

// Launch runs a kernel to its end. params is the kernel's parameter block as PTX lays it out.
func (g *GPU) Launch(fn uint64, grid, blockDim [3]int, shared int, params []byte) int {
	return g.launch(fn, grid, blockDim, shared, params, false)
}

func (g *GPU) launch(fn uint64, grid, blockDim [3]int, shared int, params []byte, overlapping bool) int {
	rc := g.enter("Launch")
	defer g.mu.Unlock()
	if rc != Success {
		return rc
	}
	k, ok := g.kernels[fn]
	if !ok {
		return g.fail(InvalidHandle, "Launch of an unknown function")
	}
	if msg, rc := g.checkLaunch(k, grid, blockDim, shared, params); rc != Success {
		return g.fail(rc, "Launch of kernel %s: %s", k.name, msg)
	}
	if !k.code.allocated {
		k.code.allocate()
	}
	g.launches++
	l := &launch{gpu: g, kernel: k, grid: grid, block: blockDim, dynamic: shared, params: params}
	blocks := grid[0] * grid[1] * grid[2]
	if g.config.Shuffle != 0 {
		l.order = make([]int32, blocks)
		for i, v := range rand.New(rand.NewPCG(g.config.Shuffle, g.launches)).Perm(blocks) {
			l.order[i] = int32(v)
		}
	}
	g.watch(l, blocks)
	g.follow(l, overlapping)
	workers := min(g.config.Workers, blocks)
	for len(g.idle) < workers {
		g.idle = append(g.idle, &block{})
	}
	if workers == 1 {
		l.work(g.idle[0], blocks)
	} else {
		var all sync.WaitGroup
		for _, b := range g.idle[:workers] {
			all.Go(func() { l.work(b, blocks) })
		}
		all.Wait()
	}
	if msg := l.failed.Load(); msg != nil {
		g.sticky = int(l.rc.Load())
		return g.fail(g.sticky, "%s", *msg)
	}
	if overlapping && !l.waited.Load() {
		g.sticky = LaunchFailed
		return g.fail(g.sticky, "kernel %s: was launched before the one before it was complete, and does not wait for that", k.name)
	}
	return Success
}

func (g *GPU) checkLaunch(k *kernel, grid, blockDim [3]int, shared int, params []byte) (string, int) {
	c := k.code
	threads := 1
	for i := range 3 {
		most := [3]int{1 << 31, 65535, 65535}[i]
		if grid[i] < 1 || grid[i] >= most+1 {
			return fmt.Sprintf("grid %v", grid), InvalidValue
		}
		if blockDim[i] < 1 || blockDim[i] > [3]int{1024, 1024, 64}[i] {
			return fmt.Sprintf("block %v", blockDim), InvalidValue
		}
		threads *= blockDim[i]
	}
	most := 1024
	if c.maxThreads > 0 {
		most = c.maxThreads
	}
	switch {
	case threads > most:
		return fmt.Sprintf("%d threads a block, at most %d", threads, most), LaunchOutOfBounds
	case c.reqThreads > 0 && threads != c.reqThreads:
		return fmt.Sprintf("%d threads a block, must be %d", threads, c.reqThreads), LaunchOutOfBounds
	case shared < 0 || c.staticShared+shared > max(48<<10, c.staticShared+k.maxShared):
		return fmt.Sprintf("%d bytes of static and %d of dynamic shared memory without SetMaxShared", c.staticShared, shared), InvalidValue
	case c.staticShared+shared > g.config.SharedPerBlock:
		return fmt.Sprintf("%d bytes of static and %d of dynamic shared memory, the device has %d", c.staticShared, shared, g.config.SharedPerBlock), InvalidValue
	case len(params) != c.paramBytes:
		return fmt.Sprintf("%d bytes of parameters, PTX declares %d", len(params), c.paramBytes), InvalidValue
	case grid[0] > (1<<31-1)/grid[1]/grid[2]:
		return fmt.Sprintf("grid %v", grid), InvalidValue
	}
	return "", Success
}

// work runs blocks until none is left or one has failed.
func (l *launch) work(b *block, blocks int) {
	b.prepare(l)
	for l.failed.Load() == nil {
		i := int(l.serial.Add(1)) - 1
		if i >= blocks {
			return
		}
		if l.order != nil {
			i = int(l.order[i])
		}
		f := b.run(i)
		l.gpu.executed.Add(b.steps)
		if f != nil {
			text := b.explain(f)
			if l.failed.CompareAndSwap(nil, &text) {
				l.rc.Store(int64(f.rc))
			}
			return
		}
	}
}

// explain words a fault: kernel, block, thread, what, and the line of PTX.
func (b *block) explain(f *fault) string {
	c := b.launch.kernel.code
	where := fmt.Sprintf("kernel %s: block (%d,%d,%d)", c.name, b.id[0], b.id[1], b.id[2])
	if f.lane >= 0 {
		where += fmt.Sprintf(" thread %d", f.lane)
	}
	return fmt.Sprintf("%s: %s (line %d: %s)", where, f.msg, f.line, c.module.line(int(f.line)))
}

// prepare makes room for the blocks of a launch.
func (b *block) prepare(l *launch) {
	b.launch = l
	c := l.kernel.code
	warps := (l.block[0]*l.block[1]*l.block[2] + 31) / 32
	b.regs = grow(b.regs, warps*c.regs)
	b.regs64 = grow(b.regs64, warps*c.regs64)
	b.preds = grow(b.preds, warps*c.preds)
	for len(b.warps) < warps {
		b.warps = append(b.warps[:len(b.warps):len(b.warps)], &warp{})
	}
	b.warps = b.warps[:warps]
	if l.gpu.config.Shuffle != 0 {
		b.random = rand.New(rand.NewPCG(l.gpu.config.Shuffle, 1))
	}
	for i, w := range b.warps {
		w.block, w.code, w.index = b, c, i
		w.r = b.regs[i*c.regs : (i+1)*c.regs]
		w.d = b.regs64[i*c.regs64 : (i+1)*c.regs64]
		w.p = b.preds[i*c.preds : (i+1)*c.preds]
		w.cached = &allocation{}
	}
}

// poison fills the registers that may be read before they are written with what is no useful number and no address.
func (w *warp) poison() {
	for _, i := range w.code.entry32 {
		for l := range w.r[i] {
			w.r[i][l] = 0xfffbadad
		}
	}
	for _, i := range w.code.entry64 {
		for l := range w.d[i] {
			w.d[i][l] = 0xfffbadadfffbadad
		}
	}
	clear(w.p)
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// run executes block number i of the grid.
func (b *block) run(i int) (failed *fault) {
	l := b.launch
	b.serial = i
	b.id = l.blockID(i)
	b.acquired = 0
	b.shared.reset(l.kernel.code.staticShared+l.dynamic, l.kernel.code.sharedAlign)
	b.barriers = [16]barrier{}
	b.steps = 0
	b.unfinished = len(b.warps)
	threads := l.block[0] * l.block[1] * l.block[2]
	for i, w := range b.warps {
		w.start(min(threads-32*i, 32))
	}
	at := 0
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *fault:
			failed = b.locate(r, at)
		default:
			failed = b.locate(&fault{rc: LaunchFailed, lane: -1, msg: fmt.Sprintf("testgpu: %v\n%s", r, debug.Stack())}, at)
		}
	}()
	b.schedule(&at)
	return nil
}

// locate fills in what a fault does not know: line and thread of the warp that ran.
func (b *block) locate(f *fault, at int) *fault {
	w := b.warps[at]
	if f.line == 0 {
		f.line = w.code.insts[max(w.pc-1, 0)].line
	}
	if f.lane >= 0 {
		f.lane += 32 * at
	}
	return f
}

func (w *warp) start(threads int) {
	w.started = uint32(1<<threads - 1)
	w.live, w.active, w.waiting = w.started, w.started, 0
	w.pc, w.other = 0, never
	w.state = ready
	w.lastSync = 1
	w.carry = 0
	w.early = 0
	if w.block.launch.since != 0 {
		w.early = fullMask
	}
	w.poison()
	w.fences = fences{}
	w.copies.reset()
	w.locals.reset(w.code.frame)
}

// schedule runs the warps in turn until all have finished; at is the one that runs.
func (b *block) schedule(at *int) {
	limit := b.launch.gpu.config.MaxSteps
	for b.unfinished > 0 {
		moved := false
		for _, i := range b.turns() {
			w := b.warps[i]
			if w.state != ready {
				continue
			}
			*at, moved = i, true
			b.steps += int64(w.run(b.slice()))
			if w.state == finished {
				b.unfinished--
				for id := range b.barriers {
					b.check(id)
				}
			}
			if b.steps > limit {
				w.fail(LaunchTimeout, -1, "the block has run %d instructions: it spins, or Config.MaxSteps is too small", b.steps)
			}
		}
		if !moved {
			b.deadlock(at)
		}
	}
}

func (b *block) turns() []int {
	if b.random != nil || len(b.order) != len(b.warps) {
		b.order = b.order[:0]
		for i := range b.warps {
			b.order = append(b.order, i)
		}
	}
	if b.random != nil {
		b.random.Shuffle(len(b.order), func(i, j int) { b.order[i], b.order[j] = b.order[j], b.order[i] })
	}
	return b.order
}

func (b *block) slice() int {
	if b.random != nil {
		return 1 + b.random.IntN(200)
	}
	return quantum
}

// deadlock names a barrier at which some warps wait for others that do not come.
func (b *block) deadlock(at *int) {
	for i, w := range b.warps {
		if w.state == atBarrier {
			*at = i
			bar := &b.barriers[w.barrier]
			w.fail(LaunchFailed, 0, "deadlock: %d threads wait at barrier %d, which %s", bar.arrived, w.barrier, b.missing(bar))
		}
	}
}

func (b *block) missing(bar *barrier) string {
	if bar.count != 0 {
		return fmt.Sprintf("expects %d", bar.count)
	}
	for i, w := range b.warps {
		if w.state == atBarrier && &b.barriers[w.barrier] != bar {
			return fmt.Sprintf("warp %d does not reach: it waits at line %d", i, w.code.insts[w.pc-1].line)
		}
	}
	return "expects more"
}
