package cuda

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"hearth/internal/device"
)

// context is one GPU in use: the driver's context, its stream and the books of its memory. One goroutine at a time uses
// it. The driver keeps the current context per thread, so every entry point brackets its work with enter and leave, which
// lock the goroutine to its thread; brackets nest, and only the outermost costs anything.
type context struct {
	d      *driver
	info   deviceInfo
	log    *slog.Logger
	handle uintptr
	dev    int32
	stream uintptr
	queue  *queue
	depth  int   // of enter
	lost   error // why the context is dead; nil while it lives
	// overlap says that kernels may begin while those before them still run.
	overlap bool

	memory  books
	modules modules
}

// deviceInfo describes the card to those who size launches, and to people.
type deviceInfo struct {
	name          string
	major, minor  int
	sms           int
	sharedMax     int   // bytes that a block may have, static and dynamic together
	l2            int   // bytes
	memory        int64 // bytes
	peakBandwidth int64 // bytes a second, from clock and width; 0 if unknown
	mode          int   // of sharing
	display       bool  // a watchdog ends long kernels
}

// openContext makes the card usable: checks driver and capability, retains its context and makes a stream.
func openContext(d *driver, ordinal int, log *slog.Logger) (*context, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	dev, info, err := d.inspect(ordinal)
	if err != nil {
		return nil, err
	}
	c := &context{d: d, info: info, log: log, dev: dev}
	c.overlap = d.overlaps(&info)
	var s status
	if c.handle, s = d.retain(dev); s != success {
		return nil, d.check("cuDevicePrimaryCtxRetain", s)
	}
	if err := c.open(); err != nil {
		if c.lost == nil {
			err = errors.Join(err, d.check("cuDevicePrimaryCtxRelease", d.release(dev)))
		}
		return nil, err
	}
	return c, nil
}

func (c *context) open() error {
	c.enter()
	defer c.leave()
	if c.lost != nil {
		return c.lost
	}
	var s status
	if c.stream, s = c.d.streamCreate(); s != success {
		return c.note("cuStreamCreate", s)
	}
	var err error
	if c.queue, err = newQueue(c); err != nil && c.lost == nil {
		err = errors.Join(err, c.note("cuStreamDestroy", c.d.streamDestroy(c.stream)))
	}
	return err
}

// versionOK refuses drivers that cannot compile our PTX.
func (d *driver) versionOK() error {
	if err := d.check("cuInit", d.init()); err != nil {
		return err
	}
	v, s := d.version()
	if s != success {
		return d.check("cuDriverGetVersion", s)
	}
	if v < leastDriver {
		return device.Refuse(fmt.Errorf("the NVIDIA driver is for CUDA %d.%d, too old for PTX 7.0: install 450.36 or newer", v/1000, v%1000/10))
	}
	return nil
}

// inspect describes card number ordinal, or says why it cannot be used.
func (d *driver) inspect(ordinal int) (dev int32, info deviceInfo, err error) {
	if err := d.versionOK(); err != nil {
		return 0, info, err
	}
	n, s := d.deviceCount()
	if s != success {
		return 0, info, d.check("cuDeviceGetCount", s)
	}
	if n == 0 {
		return 0, info, d.check("cuDeviceGetCount", noDevice)
	}
	if ordinal < 0 || ordinal >= n {
		return 0, info, fmt.Errorf("there is no GPU %d: this machine has %d, counted from 0", ordinal, n)
	}
	if dev, s = d.device(ordinal); s != success {
		return 0, info, d.check("cuDeviceGet", s)
	}
	if info, err = d.describe(dev); err != nil {
		return 0, info, err
	}
	if info.major < leastMajor {
		return dev, info, device.Refuse(fmt.Errorf("%s has compute capability %d.%d, the kernels need %d.0 or more", info.name, info.major, info.minor, leastMajor))
	}
	if info.mode == computeProhibited {
		return dev, info, device.Refuse(fmt.Errorf("%s is in compute mode 'prohibited': allow programs with 'nvidia-smi -c DEFAULT'", info.name))
	}
	return dev, info, nil
}

// describe asks for everything that is known of a card.
func (d *driver) describe(dev int32) (info deviceInfo, err error) {
	var s status
	if info.name, s = d.deviceName(dev); s != success {
		return info, d.check("cuDeviceGetName", s)
	}
	if info.memory, s = d.deviceMemory(dev); s != success {
		return info, d.check("cuDeviceTotalMem", s)
	}
	var clock, width, display int
	for _, a := range []struct {
		to   *int
		from attribute
	}{
		{&info.major, attrMajor}, {&info.minor, attrMinor}, {&info.sms, attrSMs}, {&info.sharedMax, attrSharedPerBlock},
		{&info.l2, attrL2}, {&info.mode, attrComputeMode}, {&clock, attrMemoryClock}, {&width, attrMemoryBus}, {&display, attrExecTimeout},
	} {
		if *a.to, s = d.deviceAttribute(a.from, dev); s != success {
			return info, d.check(fmt.Sprintf("cuDeviceGetAttribute %d", a.from), s)
		}
	}
	info.peakBandwidth = int64(clock) * 1000 * 2 * int64(width) / 8
	info.display = display != 0
	return info, nil
}

// enter makes the context current for the calling goroutine until leave.
func (c *context) enter() {
	c.depth++
	if c.depth > 1 {
		return
	}
	runtime.LockOSThread()
	if c.lost != nil {
		return
	}
	if err := c.note("cuCtxSetCurrent", c.d.setCurrent(c.handle)); err != nil && c.lost == nil {
		c.lose(err) // nothing can be done with it on this thread
	}
}

func (c *context) leave() {
	c.depth--
	if c.depth == 0 {
		runtime.UnlockOSThread()
	}
}

// note turns a result into an error and remembers when it killed the context.
func (c *context) note(call string, s status) error { return c.noteLog(call, s, "") }

func (c *context) noteLog(call string, s status, log string) error {
	err := c.d.checkLog(call, s, log)
	if err != nil && s.sticky() && c.lost == nil {
		c.lose(err)
	}
	return err
}

// lose gives the context up: from now on no call reaches the driver.
func (c *context) lose(err error) {
	c.lost = fmt.Errorf("%s: %w: %w", c.info.name, device.ErrLost, err)
	c.log.Error("the GPU is lost", "device", c.info.name, "error", err)
}

// poll asks until the answer is no longer notReady. It does not block in the driver, so that a GPU that never answers is
// noticed.
func (c *context) poll(call string, ask func() status) error {
	start := time.Now()
	for i := 0; ; i++ {
		if s := ask(); s != notReady {
			return c.note(call, s)
		}
		if i%16 != 0 {
			continue
		}
		runtime.Gosched() // a stream's readers may be waiting for a processor
		switch waited := time.Since(start); {
		case waited > patience:
			c.lose(fmt.Errorf("no answer for %v", patience))
			return c.lost
		case waited > spinFor:
			time.Sleep(napFor)
		}
	}
}

const (
	spinFor = 20 * time.Millisecond // a token's time: longer steps do not mind a nap
	napFor  = time.Millisecond
	// Past this the GPU counts as lost: no step comes near it.
	patience = 2 * time.Minute
)

// close gives everything back. A lost context is left to the process's end: calls into it could wait for ever. The error
// names what was still allocated.
func (c *context) close() error {
	if c.lost != nil {
		return nil
	}
	c.enter()
	defer c.leave()
	if c.lost != nil {
		return c.lost
	}
	var errs []error
	c.modules.unload(c, &errs)
	errs = append(errs, c.queue.close(), c.memory.close(c))
	errs = append(errs, c.note("cuStreamDestroy", c.d.streamDestroy(c.stream)))
	errs = append(errs, c.note("cuDevicePrimaryCtxRelease", c.d.release(c.dev)))
	c.lost = fmt.Errorf("%s: %w", c.info.name, errClosed)
	return errors.Join(errs...)
}

var errClosed = errors.New("the GPU's context is closed")
