package cuda

import (
	"errors"
	"fmt"

	"hearth/internal/device"
)

// devptr is an address in the GPU's memory; 0: none.
type devptr uint64

// status is what every call of the driver returns (CUresult).
type status int32

// dim is a grid or a block, in x, y and z.
type dim [3]int

// driver is the part of the CUDA driver API that is used here. Handles are the driver's own. Calls are asynchronous
// where they take a stream; host memory that such a call reads or writes must come from hostAlloc.
type driver struct {
	errorName func(status) string // "CUDA_ERROR_OUT_OF_MEMORY"; "" if unknown
	module    string              // version of the kernel module, "550.54.14"; "" if unknown

	init            func() status
	version         func() (v int, s status) // 1000*major + 10*minor of CUDA
	deviceCount     func() (n int, s status)
	device          func(ordinal int) (dev int32, s status)
	deviceName      func(dev int32) (name string, s status)
	deviceMemory    func(dev int32) (bytes int64, s status)
	deviceAttribute func(a attribute, dev int32) (v int, s status)

	retain     func(dev int32) (ctx uintptr, s status) // the device's primary context
	release    func(dev int32) status
	setCurrent func(ctx uintptr) status // for the calling thread
	memoryInfo func() (free, total int64, s status)

	alloc     func(n int64) (p devptr, s status)
	free      func(p devptr) status
	hostAlloc func(n int, mapped bool) (host []byte, dev devptr, s status) // page-locked; kernels read it at dev if mapped
	hostFree  func(host []byte) status

	// link compiles for the device of a context, which it makes current on the calling thread.
	link         func(ctx uintptr, ptx []byte) (cubin []byte, log string, s status)
	moduleLoad   func(image []byte) (mod uintptr, log string, s status)
	moduleUnload func(mod uintptr) status
	function     func(mod uintptr, name string) (fn uintptr, s status)
	functionGet  func(fn uintptr, a functionAttribute) (v int, s status)
	functionSet  func(fn uintptr, a functionAttribute, v int) status

	streamCreate  func() (stream uintptr, s status)
	streamDestroy func(stream uintptr) status
	streamQuery   func(stream uintptr) status // notReady while work is under way

	eventCreate  func() (event uintptr, s status)
	eventDestroy func(event uintptr) status
	eventRecord  func(event, stream uintptr) status
	eventQuery   func(event uintptr) status
	eventElapsed func(from, to uintptr) (milliseconds float32, s status)

	launch func(fn uintptr, grid, block dim, shared int, stream uintptr, params []byte) status
	// launchOverlapping is launch of a kernel that may begin before the one before it is complete; nil: not in this driver.
	launchOverlapping func(fn uintptr, grid, block dim, shared int, stream uintptr, params []byte) status
	copyIn            func(dst devptr, src []byte, stream uintptr) status
	copyOut           func(dst []byte, src devptr, stream uintptr) status
	copyDevice        func(dst, src devptr, n int64, stream uintptr) status
	set8              func(dst devptr, v byte, n int64, stream uintptr) status

	captureBegin     func(stream uintptr) status
	captureEnd       func(stream uintptr) (graph uintptr, s status)
	graphInstantiate func(graph uintptr) (exec uintptr, log string, s status)
	graphLaunch      func(exec, stream uintptr) status
	graphDestroy     func(graph uintptr) status
	execDestroy      func(exec uintptr) status
}

// attribute is a CUdevice_attribute.
type attribute int32

const (
	attrSMs            attribute = 16
	attrExecTimeout    attribute = 17
	attrComputeMode    attribute = 20
	attrMemoryClock    attribute = 36 // kHz
	attrMemoryBus      attribute = 37 // bits
	attrL2             attribute = 38
	attrMajor          attribute = 75
	attrMinor          attribute = 76
	attrSharedPerBlock attribute = 97 // with opt-in
)

const (
	computeProhibited   = 2        // a compute mode
	leastDriver         = 11000    // CUDA 11.0: PTX 7.0, Linux driver 450.36
	leastMajor          = 8        // compute capability
	defaultSharedMemory = 48 << 10 // what a kernel may use without asking
)

// functionAttribute is a CUfunction_attribute.
type functionAttribute int32

const (
	funcSharedBytes functionAttribute = 1 // static
	funcLocalBytes  functionAttribute = 3
	funcRegisters   functionAttribute = 4
	funcMaxShared   functionAttribute = 8 // dynamic
	funcCarveout    functionAttribute = 9 // preferred part of a multiprocessor's memory that is shared memory, per cent
)

// Results that are treated apart.
const (
	success             status = 0
	invalidValue        status = 1
	outOfMemory         status = 2
	stubLibrary         status = 34
	deviceUnavailable   status = 46
	noDevice            status = 100
	invalidImage        status = 200
	contextCurrent      status = 201 // invalid context: none is current
	noBinary            status = 209
	eccUncorrectable    status = 214
	invalidPTX          status = 218
	unsupportedPTX      status = 222
	notReady            status = 600
	illegalAddress      status = 700
	outOfResources      status = 701
	launchTimeout       status = 702
	contextDestroyed    status = 709
	hardwareStack       status = 714
	illegalInstruction  status = 715
	misaligned          status = 716
	invalidAddressSpace status = 717
	invalidPC           status = 718
	launchFailed        status = 719
	operatingSystem     status = 304
	systemNotReady      status = 802
	systemMismatch      status = 803 // driver library and kernel module differ
	compatUnsupported   status = 804 // forward compatibility on a card that has none
	unknown             status = 999
)

// sticky says that the context is dead: every later call would return the same.
func (s status) sticky() bool {
	switch s {
	case eccUncorrectable, illegalAddress, launchTimeout, contextDestroyed, hardwareStack, illegalInstruction, misaligned,
		invalidAddressSpace, invalidPC, launchFailed, deviceUnavailable, unknown:
		return true
	}
	return false
}

// advice is what the user can do; "" where only we can.
func (s status) advice() string {
	switch s {
	case outOfMemory:
		return "free memory on the GPU (nvidia-smi shows who holds it), or use a smaller --max-model-len or --gpu-memory-utilization"
	case deviceUnavailable:
		return "another process holds the GPU in exclusive mode: end it, or allow sharing with 'nvidia-smi -c DEFAULT'"
	case noDevice:
		return "no NVIDIA GPU is visible: look at nvidia-smi, CUDA_VISIBLE_DEVICES and, in a container, whether GPUs are passed in"
	case invalidPTX, unsupportedPTX, noBinary:
		return "update the NVIDIA driver: it must understand PTX 7.0 (450.36 or newer)"
	case systemMismatch:
		return "the driver's library and kernel module have different versions: restart the machine after a driver update"
	case stubLibrary:
		return "the library is the toolkit's stub, not the driver's: put the folder with the driver's libcuda.so.1 first in LD_LIBRARY_PATH"
	case systemNotReady:
		return "the system's GPUs are not ready: on machines with NVSwitch, start nvidia-fabricmanager"
	case compatUnsupported:
		return "the compatibility libraries of CUDA do not serve this card: take them out of LD_LIBRARY_PATH, or update the driver"
	case operatingSystem:
		return "the driver's kernel module does not answer: look at nvidia-smi and, in a container, whether GPUs are passed in"
	case unknown:
		return "the driver has failed: nvidia-smi and dmesg say more, and after a sleep of the machine a restart may help"
	case eccUncorrectable:
		return "the GPU's memory reported an error that it could not correct: reset or replace the card"
	case launchTimeout:
		return "the system's watchdog ended a kernel because the GPU also drives a display: use a smaller --max-num-batched-tokens"
	case illegalAddress, illegalInstruction, misaligned, launchFailed, hardwareStack, invalidAddressSpace, invalidPC:
		return "this is an error in hearth or in the hardware: please report it with the lines above"
	}
	return ""
}

// Error is a failed call of the driver.
type Error struct {
	Call string // "cuMemAlloc"
	Code int    // CUresult
	Name string // "CUDA_ERROR_OUT_OF_MEMORY"
	Log  string // of the compiler in the driver, where there is one
	Lost bool   // the context is dead
}

func (e *Error) Error() string {
	name := e.Name
	if name == "" {
		name = "error"
	}
	s := fmt.Sprintf("%s: %s (%d)", e.Call, name, e.Code)
	if e.Log != "" {
		s += ": " + e.Log
	}
	if a := status(e.Code).advice(); a != "" {
		s += ": " + a
	}
	return s
}

// Is makes a lost context device.ErrLost, and what another driver or card could do device.ErrNotSupported.
func (e *Error) Is(target error) bool {
	switch target {
	case device.ErrLost:
		return e.Lost
	case device.ErrNotSupported:
		switch status(e.Code) {
		case noDevice, invalidPTX, unsupportedPTX, noBinary, systemMismatch, deviceUnavailable, stubLibrary, systemNotReady, compatUnsupported, operatingSystem:
			return true
		}
	}
	return false
}

// check turns a call's result into an error.
func (d *driver) check(call string, s status) error { return d.checkLog(call, s, "") }

func (d *driver) checkLog(call string, s status, log string) error {
	if s == success {
		return nil
	}
	return &Error{Call: call, Code: int(s), Name: d.errorName(s), Log: log, Lost: s.sticky()}
}

// errNoDriver is wrapped where the driver's library cannot be opened.
var errNoDriver = errors.New("no NVIDIA driver")
