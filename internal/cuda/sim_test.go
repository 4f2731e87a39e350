package cuda

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"hearth/internal/testgpu"
	"hearth/internal/testmodel"
)

// sim is a driver over package testgpu. Memory, kernels and their errors are testgpu's; streams, events, graphs and
// page-locked memory are made here: everything runs at once, except what is captured, which runs when its graph does. It
// is stricter than the driver: a call without a current context fails, and so does whatever a capture should not meet.
type sim struct {
	mu   sync.Mutex // of what follows; modules are compiled on several goroutines
	gpu  *testgpu.GPU
	c    *context // that calls come from, once it is open
	next uintptr

	pins    map[*byte]*simPin
	allocs  map[uintptr]bool
	streams map[uintptr]bool
	events  map[uintptr]bool
	modules map[uintptr]bool
	graphs  map[uintptr][]func() status
	execs   map[uintptr][]func() status

	capturing bool
	recorded  []func() status

	calls   map[string]int // by name, since the start
	plan    map[string]simFailure
	dead    bool     // by a planned failure that is sticky
	late    []string // calls after that
	stalled bool     // the stream never becomes idle
	idle    bool     // kernels and copies succeed and do nothing
	jitLog  string   // of the next link that fails
}

type simPin struct {
	host   []byte
	dev    devptr // of a copy that kernels read, brought up to date before each launch; 0: not mapped
	copied []byte
}

// simFailure makes call number at return s.
type simFailure struct {
	at int
	s  status
}

const captureUnsupported status = 900

func newSim(config testgpu.Config) (*sim, *driver) {
	m := &sim{
		gpu: testgpu.New(config), pins: map[*byte]*simPin{}, allocs: map[uintptr]bool{}, streams: map[uintptr]bool{}, events: map[uintptr]bool{}, modules: map[uintptr]bool{},
		graphs: map[uintptr][]func() status{}, execs: map[uintptr][]func() status{}, calls: map[string]int{}, plan: map[string]simFailure{},
	}
	d := &driver{}
	m.fillDevice(d)
	m.fillMemory(d)
	m.fillModules(d)
	m.fillStreams(d)
	m.fillGraphs(d)
	return m, d
}

// failAfter makes the n-th call from now (1: the next) return s, once.
func (m *sim) failAfter(call string, n int, s status) {
	m.plan[call] = simFailure{m.calls[call] + n, s}
}

// enter counts a call, and says what it must return at once.
func (m *sim) enter(call string) status {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[call]++
	if m.dead {
		m.late = append(m.late, call)
		return launchFailed
	}
	if f, ok := m.plan[call]; ok && f.at == m.calls[call] {
		delete(m.plan, call)
		m.dead = f.s.sticky()
		return f.s
	}
	if m.c != nil && m.c.depth == 0 {
		return contextCurrent
	}
	return status(m.gpu.Failed())
}

// behind is enter for what the compiler's goroutines call, whatever the context's own does meanwhile.
func (m *sim) behind(call string) status {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[call]++
	if f, ok := m.plan[call]; ok && f.at == m.calls[call] {
		delete(m.plan, call)
		return f.s
	}
	return success
}

// outside is enter for what a capture should not meet.
func (m *sim) outside(call string) status {
	s := m.enter(call)
	if s == success && m.capturing {
		return captureUnsupported
	}
	return s
}

// work is enter for what runs on the stream: now, or when the graph does.
func (m *sim) work(call string, run func() status) status {
	if s := m.enter(call); s != success {
		return s
	}
	switch {
	case m.capturing:
		m.recorded = append(m.recorded, run)
		return success
	case m.idle:
		return success
	}
	return run()
}

func (m *sim) handle() uintptr {
	m.next++
	return m.next
}

// take removes a handle from its set.
func take[V any](set map[uintptr]V, h uintptr) status {
	if _, ok := set[h]; !ok {
		return invalidHandle
	}
	delete(set, h)
	return success
}

const invalidHandle status = 400

func (m *sim) fillDevice(d *driver) {
	cfg := m.gpu.Config()
	d.module = "testgpu"
	d.errorName = func(s status) string {
		return fmt.Sprintf("CUDA_ERROR_%d [%s]", s, m.gpu.LastError())
	}
	d.init = func() status { return m.enter("cuInit") }
	d.version = func() (int, status) { return cfg.Driver, m.enter("cuDriverGetVersion") }
	d.deviceCount = func() (int, status) { return 1, m.enter("cuDeviceGetCount") }
	d.device = func(ordinal int) (int32, status) { return int32(ordinal), m.enter("cuDeviceGet") }
	d.deviceName = func(int32) (string, status) { return cfg.Name, m.enter("cuDeviceGetName") }
	d.deviceMemory = func(int32) (int64, status) { return cfg.Memory, m.enter("cuDeviceTotalMem") }
	attributes := map[attribute]int{
		attrMajor: cfg.Major, attrMinor: cfg.Minor, attrSMs: cfg.SMs, attrSharedPerBlock: cfg.SharedPerBlock,
		attrL2: 6 << 20, attrMemoryClock: 9751000, attrMemoryBus: 384,
	}
	d.deviceAttribute = func(a attribute, _ int32) (int, status) { return attributes[a], m.enter("cuDeviceGetAttribute") }
	d.retain = func(int32) (uintptr, status) { return 1, m.enter("cuDevicePrimaryCtxRetain") }
	d.release = func(int32) status { return m.enter("cuDevicePrimaryCtxRelease") }
	d.setCurrent = func(uintptr) status { return m.enter("cuCtxSetCurrent") }
	d.memoryInfo = func() (int64, int64, status) {
		free, total := m.gpu.MemInfo()
		return free, total, m.enter("cuMemGetInfo")
	}
}

func (m *sim) fillMemory(d *driver) {
	d.alloc = func(n int64) (devptr, status) {
		if s := m.outside("cuMemAlloc"); s != success {
			return 0, s
		}
		p, rc := m.gpu.MemAlloc(n)
		if rc == testgpu.Success {
			m.allocs[uintptr(p)] = true
		}
		return devptr(p), status(rc)
	}
	d.free = func(p devptr) status {
		if s := m.outside("cuMemFree"); s != success {
			return s
		}
		delete(m.allocs, uintptr(p))
		return status(m.gpu.MemFree(uint64(p)))
	}
	d.hostAlloc = func(n int, mapped bool) ([]byte, devptr, status) {
		if s := m.outside("cuMemHostAlloc"); s != success {
			return nil, 0, s
		}
		p := &simPin{host: make([]byte, n)}
		if mapped {
			dev, rc := m.gpu.MemAlloc(int64(n))
			if rc != testgpu.Success {
				return nil, 0, status(rc)
			}
			p.dev = devptr(dev)
		}
		m.pins[&p.host[0]] = p
		return p.host, p.dev, success
	}
	d.hostFree = func(host []byte) status {
		if s := m.outside("cuMemFreeHost"); s != success {
			return s
		}
		p := m.pins[&host[0]]
		if p == nil {
			return invalidValue
		}
		delete(m.pins, &host[0])
		if p.dev != 0 {
			return status(m.gpu.MemFree(uint64(p.dev)))
		}
		return success
	}
	d.copyIn = func(dst devptr, src []byte, _ uintptr) status {
		if s := m.outside("cuMemcpyHtoDAsync"); s != success {
			return s
		}
		return m.pinned(src, func() int { return m.gpu.CopyIn(uint64(dst), src) })
	}
	d.copyOut = func(dst []byte, src devptr, _ uintptr) status {
		if s := m.outside("cuMemcpyDtoHAsync"); s != success {
			return s
		}
		if m.idle {
			clear(dst)
		}
		return m.pinned(dst, func() int { return m.gpu.CopyOut(dst, uint64(src)) })
	}
	d.copyDevice = func(dst, src devptr, n int64, _ uintptr) status {
		return m.work("cuMemcpyDtoDAsync", func() status { return status(m.gpu.CopyDevice(uint64(dst), uint64(src), n)) })
	}
	d.set8 = func(dst devptr, v byte, n int64, _ uintptr) status {
		return m.work("cuMemsetD8Async", func() status { return status(m.gpu.Set8(uint64(dst), v, n)) })
	}
}

// pinned refuses host memory that an asynchronous copy may not touch.
func (m *sim) pinned(b []byte, run func() int) status {
	for _, p := range m.pins {
		switch {
		case !within(p.host, b):
		case m.idle:
			return success
		default:
			return status(run())
		}
	}
	return invalidValue
}

// within says whether b is a part of a, in memory.
func within(a, b []byte) bool {
	return len(b) > 0 && pointer(&b[0]) >= pointer(&a[0]) && pointer(&b[len(b)-1]) <= pointer(&a[len(a)-1])
}

func pointer(p *byte) uintptr { return uintptr(unsafe.Pointer(p)) }

func (m *sim) fillModules(d *driver) {
	d.link = func(_ uintptr, ptx []byte) ([]byte, string, status) {
		if s := m.behind("cuLinkComplete"); s != success {
			return nil, m.jitLog, s
		}
		return bytes.Clone(ptx), "", success
	}
	d.moduleLoad = func(image []byte) (uintptr, string, status) {
		if s := m.outside("cuModuleLoadDataEx"); s != success {
			return 0, m.jitLog, s
		}
		if m.idle {
			h := m.handle()
			m.modules[h] = true
			return h, "", success
		}
		h, rc, log := m.gpu.ModuleLoad(image)
		if rc != testgpu.Success {
			return 0, log, status(rc)
		}
		m.modules[uintptr(h)] = true
		return uintptr(h), "", success
	}
	d.moduleUnload = func(mod uintptr) status {
		if s := m.outside("cuModuleUnload"); s != success {
			return s
		}
		return take(m.modules, mod)
	}
	d.function = func(mod uintptr, name string) (uintptr, status) {
		if s := m.outside("cuModuleGetFunction"); s != success {
			return 0, s
		}
		if m.idle {
			return m.handle(), success
		}
		fn, rc := m.gpu.Function(uint64(mod), name)
		return uintptr(fn), status(rc)
	}
	d.functionGet = func(fn uintptr, a functionAttribute) (int, status) {
		info, ok := m.gpu.FunctionInfo(uint64(fn))
		if s := m.enter("cuFuncGetAttribute"); s != success || !ok && !m.idle {
			return 0, max(s, invalidHandle)
		}
		return map[functionAttribute]int{funcSharedBytes: info.StaticShared, funcLocalBytes: info.Local}[a], success
	}
	d.functionSet = func(fn uintptr, a functionAttribute, v int) status {
		if s := m.outside("cuFuncSetAttribute"); s != success {
			return s
		}
		if a == funcMaxShared && !m.idle {
			return status(m.gpu.SetMaxShared(uint64(fn), v))
		}
		return success
	}
	d.launch = func(fn uintptr, grid, block dim, shared int, _ uintptr, params []byte) status {
		params = bytes.Clone(params)
		return m.work("cuLaunchKernel", func() status {
			m.refresh()
			return status(m.gpu.Launch(uint64(fn), grid, block, shared, params))
		})
	}
	d.launchOverlapping = func(fn uintptr, grid, block dim, shared int, _ uintptr, params []byte) status {
		params = bytes.Clone(params)
		return m.work("cuLaunchKernelEx", func() status {
			m.refresh()
			return status(m.gpu.LaunchOverlapping(uint64(fn), grid, block, shared, params))
		})
	}
}

// refresh shows kernels what the host has written to mapped memory.
func (m *sim) refresh() {
	for _, p := range m.pins {
		if p.dev != 0 && !bytes.Equal(p.copied, p.host) {
			m.gpu.CopyIn(uint64(p.dev), p.host)
			p.copied = append(p.copied[:0], p.host...)
		}
	}
}

func (m *sim) fillStreams(d *driver) {
	make1 := func(set map[uintptr]bool, call string) func() (uintptr, status) {
		return func() (uintptr, status) {
			if s := m.outside(call); s != success {
				return 0, s
			}
			h := m.handle()
			set[h] = true
			return h, success
		}
	}
	d.streamCreate, d.eventCreate = make1(m.streams, "cuStreamCreate"), make1(m.events, "cuEventCreate")
	d.streamDestroy = func(h uintptr) status {
		if s := m.outside("cuStreamDestroy"); s != success {
			return s
		}
		return take(m.streams, h)
	}
	d.eventDestroy = func(h uintptr) status {
		if s := m.outside("cuEventDestroy"); s != success {
			return s
		}
		return take(m.events, h)
	}
	d.streamQuery = func(uintptr) status {
		s := m.outside("cuStreamQuery")
		if s == success && m.stalled {
			time.Sleep(time.Second) // of a synctest bubble
			return notReady
		}
		return s
	}
	d.eventRecord = func(_, _ uintptr) status { return m.outside("cuEventRecord") }
	d.eventQuery = func(uintptr) status { return m.outside("cuEventQuery") }
	d.eventElapsed = func(_, _ uintptr) (float32, status) { return 1, m.outside("cuEventElapsedTime") }
}

func (m *sim) fillGraphs(d *driver) {
	d.captureBegin = func(uintptr) status {
		s := m.outside("cuStreamBeginCapture")
		m.capturing = m.capturing || s == success
		return s
	}
	d.captureEnd = func(uintptr) (uintptr, status) {
		s := m.enter("cuStreamEndCapture")
		m.capturing = false
		if s != success {
			return 0, s
		}
		h := m.handle()
		m.graphs[h], m.recorded = m.recorded, nil
		return h, success
	}
	d.graphInstantiate = func(graph uintptr) (uintptr, string, status) {
		if s := m.outside("cuGraphInstantiate"); s != success {
			return 0, "", s
		}
		h := m.handle()
		m.execs[h] = m.graphs[graph]
		return h, "", success
	}
	d.graphLaunch = func(exec, _ uintptr) status {
		if s := m.outside("cuGraphLaunch"); s != success {
			return s
		}
		for _, run := range m.execs[exec] {
			if m.idle {
				break
			}
			if s := run(); s != success {
				return s
			}
		}
		return success
	}
	d.graphDestroy = func(h uintptr) status {
		if s := m.outside("cuGraphDestroy"); s != success {
			return s
		}
		return take(m.graphs, h)
	}
	d.execDestroy = func(h uintptr) status {
		if s := m.outside("cuGraphExecDestroy"); s != success {
			return s
		}
		return take(m.execs, h)
	}
}

// leaks lists what was made and not given back.
func (m *sim) leaks() (all []string) {
	for name, n := range map[string]int{
		"allocations": len(m.allocs), "page-locked buffers": len(m.pins), "streams": len(m.streams), "events": len(m.events), "modules": len(m.modules),
		"graphs": len(m.graphs), "executable graphs": len(m.execs),
	} {
		if n > 0 {
			all = append(all, fmt.Sprintf("%d %s", n, name))
		}
	}
	return all
}

// arithmetic names the tests that compare what kernels compute.
var arithmetic = regexp.MustCompile(`^Test(Decode|Prefill|Rope|Int8|Dense|Expert|Random|Prime|Parity|ReplayEqualsEager|Lossy|NormRoute|Route|Sort|Sample|EveryCall|Residual|Sizes|MadeUp|Embedding|DriverCount)`)

// skipArithmetic spares the race detector the interpreter's work, which it makes twenty times slower. What is left are the
// tests of the host's code, where goroutines meet; testgpu has its own.
func skipArithmetic(t testing.TB) {
	t.Helper()
	if testmodel.Race && arithmetic.MatchString(t.Name()) {
		t.Skip("the interpreter is too slow under the race detector: run this test without it")
	}
}

// simContext is a context on a GPU of the given kind; what is left of it at the end of the test is an error.
func simContext(t testing.TB, config testgpu.Config) (*sim, *context) {
	t.Helper()
	skipArithmetic(t)
	m, d := newSim(config)
	c, err := openContext(d, 0, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	m.c = c
	t.Cleanup(func() {
		lost := c.lost != nil // and left to the end of the process
		if err := c.close(); err != nil {
			t.Errorf("closing: %v", err)
		}
		if left := m.leaks(); len(left) > 0 && !lost {
			t.Errorf("left behind: %v", left)
		}
	})
	return m, c
}

// testContexts gives every test the same code on the interpreter, and on the real card where there is one. What they do
// not free is an error.
func testContexts(t testing.TB) map[string]*context {
	t.Helper()
	_, c := simContext(t, testgpu.Config{})
	all := map[string]*context{"sim": c}
	d, err := loadDriver()
	if err != nil {
		t.Logf("not on a GPU: %v", err)
		return all
	}
	g, err := openContext(d, 0, testLog(t))
	if err != nil {
		t.Logf("not on the GPU: %v", err)
		return all
	}
	g.modules.cache.dir = DefaultCacheDir()
	t.Cleanup(func() {
		if err := g.close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	all["gpu"] = g
	return all
}

// eachContext runs a test on all of them, in a fixed order.
func eachContext(t *testing.T, f func(t *testing.T, c *context)) {
	t.Helper()
	all := testContexts(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) { f(t, all[name]) })
	}
}

// testLog writes what the package logs to the test.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(logWriter{t}, nil))
}

type logWriter struct{ testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	w.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}
