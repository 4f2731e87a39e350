//go:build linux || windows

package cuda

import (
	"bytes"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library finds the driver's functions by name.
type library struct {
	symbol  func(name string) (uintptr, error)
	missing []string
}

// get resolves a function; calling address 0 would be the end of the process, so what is missing is collected and refused.
func (l *library) get(name string) uintptr {
	fn, err := l.symbol(name)
	if err != nil || fn == 0 {
		l.missing = append(l.missing, name)
		return 0
	}
	return fn
}

// optional resolves a function that older drivers lack; 0: it is not there.
func (l *library) optional(name string) uintptr {
	fn, err := l.symbol(name)
	if err != nil {
		return 0
	}
	return fn
}

// call is purego.SyscallN with the driver's result. Pointers are converted in the argument list of each call below, as
// package unsafe asks; go:uintptrescapes keeps what they point to on the heap and alive.
//
//go:uintptrescapes
func call(fn uintptr, args ...uintptr) status {
	r, _, _ := purego.SyscallN(fn, args...)
	return status(int32(r))
}

// bind fills the table from the driver's library. Names carry the version whose parameters are written here.
func bind(symbol func(string) (uintptr, error)) (*driver, error) {
	l := &library{symbol: symbol}
	d := &driver{}
	d.bindDevice(l)
	d.bindMemory(l)
	d.bindModules(l)
	d.bindOverlap(l)
	d.bindStreams(l)
	d.bindGraphs(l)
	if len(l.missing) > 0 {
		return nil, fmt.Errorf("the NVIDIA driver lacks %s: install 450.36 or newer", l.missing[0])
	}
	return d, nil
}

func (d *driver) bindDevice(l *library) {
	errorName, initialise, version := l.get("cuGetErrorName"), l.get("cuInit"), l.get("cuDriverGetVersion")
	count, get, name := l.get("cuDeviceGetCount"), l.get("cuDeviceGet"), l.get("cuDeviceGetName")
	memory, attr := l.get("cuDeviceTotalMem_v2"), l.get("cuDeviceGetAttribute")
	retain, release := l.get("cuDevicePrimaryCtxRetain"), l.get("cuDevicePrimaryCtxRelease_v2")
	current, info := l.get("cuCtxSetCurrent"), l.get("cuMemGetInfo_v2")

	d.errorName = func(s status) string {
		var p *byte
		if call(errorName, uintptr(s), uintptr(unsafe.Pointer(&p))) != success || p == nil {
			return ""
		}
		b := unsafe.Slice(p, 64) // names are shorter, and constants of the library
		for n, c := range b {
			if c == 0 {
				return string(b[:n])
			}
		}
		return ""
	}
	d.init = func() status { return call(initialise, 0) }
	d.version = func() (int, status) {
		var v int32
		s := call(version, uintptr(unsafe.Pointer(&v)))
		return int(v), s
	}
	d.deviceCount = func() (int, status) {
		var n int32
		s := call(count, uintptr(unsafe.Pointer(&n)))
		return int(n), s
	}
	d.device = func(ordinal int) (dev int32, s status) {
		s = call(get, uintptr(unsafe.Pointer(&dev)), uintptr(ordinal))
		return dev, s
	}
	d.deviceName = func(dev int32) (string, status) {
		b := make([]byte, 256)
		s := call(name, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(dev))
		b, _, _ = bytes.Cut(b, []byte{0})
		return string(b), s
	}
	d.deviceMemory = func(dev int32) (n int64, s status) {
		s = call(memory, uintptr(unsafe.Pointer(&n)), uintptr(dev))
		return n, s
	}
	d.deviceAttribute = func(a attribute, dev int32) (int, status) {
		var v int32
		s := call(attr, uintptr(unsafe.Pointer(&v)), uintptr(a), uintptr(dev))
		return int(v), s
	}
	d.retain = func(dev int32) (ctx uintptr, s status) {
		s = call(retain, uintptr(unsafe.Pointer(&ctx)), uintptr(dev))
		return ctx, s
	}
	d.release = func(dev int32) status { return call(release, uintptr(dev)) }
	d.setCurrent = func(ctx uintptr) status { return call(current, ctx) }
	d.memoryInfo = func() (free, total int64, s status) {
		s = call(info, uintptr(unsafe.Pointer(&free)), uintptr(unsafe.Pointer(&total)))
		return free, total, s
	}
}

const hostMapped = 2 // CU_MEMHOSTALLOC_DEVICEMAP

func (d *driver) bindMemory(l *library) {
	alloc, free := l.get("cuMemAlloc_v2"), l.get("cuMemFree_v2")
	hostAlloc, hostFree, hostPointer := l.get("cuMemHostAlloc"), l.get("cuMemFreeHost"), l.get("cuMemHostGetDevicePointer_v2")
	in, out, within, set := l.get("cuMemcpyHtoDAsync_v2"), l.get("cuMemcpyDtoHAsync_v2"), l.get("cuMemcpyDtoDAsync_v2"), l.get("cuMemsetD8Async")

	d.alloc = func(n int64) (p devptr, s status) {
		s = call(alloc, uintptr(unsafe.Pointer(&p)), uintptr(n))
		return p, s
	}
	d.free = func(p devptr) status { return call(free, uintptr(p)) }
	d.hostAlloc = func(n int, mapped bool) ([]byte, devptr, status) {
		var p unsafe.Pointer
		flags := uintptr(0)
		if mapped {
			flags = hostMapped
		}
		if s := call(hostAlloc, uintptr(unsafe.Pointer(&p)), uintptr(n), flags); s != success {
			return nil, 0, s
		}
		var dev devptr
		if !mapped {
			return unsafe.Slice((*byte)(p), n), 0, success
		}
		if s := call(hostPointer, uintptr(unsafe.Pointer(&dev)), uintptr(p), 0); s != success {
			call(hostFree, uintptr(p))
			return nil, 0, s
		}
		return unsafe.Slice((*byte)(p), n), dev, success
	}
	d.hostFree = func(host []byte) status { return call(hostFree, uintptr(unsafe.Pointer(unsafe.SliceData(host)))) }
	d.copyIn = func(dst devptr, src []byte, stream uintptr) status {
		return call(in, uintptr(dst), uintptr(unsafe.Pointer(unsafe.SliceData(src))), uintptr(len(src)), stream)
	}
	d.copyOut = func(dst []byte, src devptr, stream uintptr) status {
		return call(out, uintptr(unsafe.Pointer(unsafe.SliceData(dst))), uintptr(src), uintptr(len(dst)), stream)
	}
	d.copyDevice = func(dst, src devptr, n int64, stream uintptr) status {
		return call(within, uintptr(dst), uintptr(src), uintptr(n), stream)
	}
	d.set8 = func(dst devptr, v byte, n int64, stream uintptr) status {
		return call(set, uintptr(dst), uintptr(v), uintptr(n), stream)
	}
}

// Options of the driver's compiler (CUjit_option), and the kind of its input.
const (
	jitErrorLog     = 5
	jitErrorLogSize = 6
	jitInputPTX     = 1
	logSize         = 16 << 10
)

// jitLog is the compiler's options: nothing but room for its messages.
type jitLog struct {
	options [2]int32
	values  [2]uintptr
	text    [logSize]byte
}

func newJITLog() *jitLog {
	l := &jitLog{options: [2]int32{jitErrorLog, jitErrorLogSize}}
	l.values = [2]uintptr{uintptr(unsafe.Pointer(&l.text)), logSize} // the text lies in the same object of the heap, which does not move
	return l
}

func (l *jitLog) String() string {
	b, _, _ := bytes.Cut(l.text[:], []byte{0})
	return string(bytes.TrimSpace(b))
}

func (d *driver) bindModules(l *library) {
	create, add, complete, destroy := l.get("cuLinkCreate_v2"), l.get("cuLinkAddData_v2"), l.get("cuLinkComplete"), l.get("cuLinkDestroy")
	load, unload, function := l.get("cuModuleLoadDataEx"), l.get("cuModuleUnload"), l.get("cuModuleGetFunction")
	get, set, launch := l.get("cuFuncGetAttribute"), l.get("cuFuncSetAttribute"), l.get("cuLaunchKernel")

	d.link = func(ctx uintptr, ptx []byte) ([]byte, string, status) {
		if s := d.setCurrent(ctx); s != success {
			return nil, "", s
		}
		log := newJITLog()
		var state uintptr
		s := call(create, 2, uintptr(unsafe.Pointer(&log.options)), uintptr(unsafe.Pointer(&log.values)), uintptr(unsafe.Pointer(&state)))
		if s != success {
			return nil, log.String(), s
		}
		defer func() {
			call(destroy, state)
			runtime.KeepAlive(log) // the linker writes to it until then
		}()
		text := append(bytes.Clone(ptx), 0) // as a C string
		name := [...]byte{'p', 't', 'x', 0}
		s = call(add, state, jitInputPTX, uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)), uintptr(unsafe.Pointer(&name)), 0, 0, 0)
		if s != success {
			return nil, log.String(), s
		}
		var image *byte // the linker's, until it is destroyed
		var n uintptr
		if s = call(complete, state, uintptr(unsafe.Pointer(&image)), uintptr(unsafe.Pointer(&n))); s != success {
			return nil, log.String(), s
		}
		return bytes.Clone(unsafe.Slice(image, n)), log.String(), success
	}
	d.moduleLoad = func(image []byte) (mod uintptr, text string, s status) {
		log := newJITLog()
		s = call(load, uintptr(unsafe.Pointer(&mod)), uintptr(unsafe.Pointer(unsafe.SliceData(image))), 2,
			uintptr(unsafe.Pointer(&log.options)), uintptr(unsafe.Pointer(&log.values)))
		return mod, log.String(), s
	}
	d.moduleUnload = func(mod uintptr) status { return call(unload, mod) }
	d.function = func(mod uintptr, name string) (fn uintptr, s status) {
		text := append([]byte(name), 0)
		s = call(function, uintptr(unsafe.Pointer(&fn)), mod, uintptr(unsafe.Pointer(&text[0])))
		return fn, s
	}
	d.functionGet = func(fn uintptr, a functionAttribute) (int, status) {
		var v int32
		s := call(get, uintptr(unsafe.Pointer(&v)), uintptr(a), fn)
		return int(v), s
	}
	d.functionSet = func(fn uintptr, a functionAttribute, v int) status { return call(set, fn, uintptr(a), uintptr(v)) }
	d.launch = func(fn uintptr, grid, block dim, shared int, stream uintptr, params []byte) status {
		one := [1]unsafe.Pointer{unsafe.Pointer(unsafe.SliceData(params))}
		return call(launch, fn, uintptr(grid[0]), uintptr(grid[1]), uintptr(grid[2]), uintptr(block[0]), uintptr(block[1]), uintptr(block[2]),
			uintptr(shared), stream, uintptr(unsafe.Pointer(&one)), 0)
	}
}

// launchConfig and launchAttribute are CUlaunchConfig and CUlaunchAttribute.
type launchConfig struct {
	grid, block [3]uint32
	shared      uint32
	stream      uintptr
	attributes  *launchAttribute
	count       uint32
}

type launchAttribute struct {
	id    uint32
	_     uint32
	value [64]byte
}

const programmaticSerialization = 6 // CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION

func (d *driver) bindOverlap(l *library) {
	launch := l.optional("cuLaunchKernelEx")
	if launch == 0 {
		return
	}
	d.launchOverlapping = func(fn uintptr, grid, block dim, shared int, stream uintptr, params []byte) status {
		one := [1]unsafe.Pointer{unsafe.Pointer(unsafe.SliceData(params))}
		a := launchAttribute{id: programmaticSerialization, value: [64]byte{1}}
		c := launchConfig{shared: uint32(shared), stream: stream, attributes: &a, count: 1}
		for i := range 3 {
			c.grid[i], c.block[i] = uint32(grid[i]), uint32(block[i])
		}
		return call(launch, uintptr(unsafe.Pointer(&c)), fn, uintptr(unsafe.Pointer(&one)), 0)
	}
}

const streamNonBlocking = 1 // apart from the legacy default stream

func (d *driver) bindStreams(l *library) {
	create, destroy, query := l.get("cuStreamCreate"), l.get("cuStreamDestroy_v2"), l.get("cuStreamQuery")
	eventCreate, eventDestroy := l.get("cuEventCreate"), l.get("cuEventDestroy_v2")
	record, eventQuery, elapsed := l.get("cuEventRecord"), l.get("cuEventQuery"), l.get("cuEventElapsedTime")

	d.streamCreate = func() (stream uintptr, s status) {
		s = call(create, uintptr(unsafe.Pointer(&stream)), streamNonBlocking)
		return stream, s
	}
	d.streamDestroy = func(stream uintptr) status { return call(destroy, stream) }
	d.streamQuery = func(stream uintptr) status { return call(query, stream) }
	d.eventCreate = func() (event uintptr, s status) {
		s = call(eventCreate, uintptr(unsafe.Pointer(&event)), 0)
		return event, s
	}
	d.eventDestroy = func(event uintptr) status { return call(eventDestroy, event) }
	d.eventRecord = func(event, stream uintptr) status { return call(record, event, stream) }
	d.eventQuery = func(event uintptr) status { return call(eventQuery, event) }
	d.eventElapsed = func(from, to uintptr) (ms float32, s status) {
		s = call(elapsed, uintptr(unsafe.Pointer(&ms)), from, to)
		return ms, s
	}
}

const captureRelaxed = 2 // other threads may go on as they like

func (d *driver) bindGraphs(l *library) {
	begin, end := l.get("cuStreamBeginCapture_v2"), l.get("cuStreamEndCapture")
	instantiate, launch := l.get("cuGraphInstantiate_v2"), l.get("cuGraphLaunch")
	destroy, execDestroy := l.get("cuGraphDestroy"), l.get("cuGraphExecDestroy")

	d.captureBegin = func(stream uintptr) status { return call(begin, stream, captureRelaxed) }
	d.captureEnd = func(stream uintptr) (graph uintptr, s status) {
		s = call(end, stream, uintptr(unsafe.Pointer(&graph)))
		return graph, s
	}
	d.graphInstantiate = func(graph uintptr) (exec uintptr, log string, s status) {
		var node uintptr
		text := make([]byte, logSize)
		s = call(instantiate, uintptr(unsafe.Pointer(&exec)), graph, uintptr(unsafe.Pointer(&node)), uintptr(unsafe.Pointer(&text[0])), logSize)
		text, _, _ = bytes.Cut(text, []byte{0})
		return exec, string(text), s
	}
	d.graphLaunch = func(exec, stream uintptr) status { return call(launch, exec, stream) }
	d.graphDestroy = func(graph uintptr) status { return call(destroy, graph) }
	d.execDestroy = func(exec uintptr) status { return call(execDestroy, exec) }
}
