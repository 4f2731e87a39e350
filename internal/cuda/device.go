package cuda

import (
	"fmt"
	"log/slog"
	"os"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

// Options configure a device; the zero value keeps every value of the checkpoint.
type Options struct {
	Log       *slog.Logger // nil: nowhere
	Int8KV    bool         // keys and values in int8, with a float32 scale for each token and head
	Int8Dense bool         // attention projections and head quantised to 8 bits, as Q8_0 does
	NoGraphs  bool         // enqueue every kernel of every step; HEARTH_CUDA_GRAPHS=0 does the same
	CacheDir  string       // of compiled kernels; "": DefaultCacheDir
	NoCache   bool         // compile the kernels anew
}

// Device is one NVIDIA GPU.
type Device struct {
	c       *context
	options Options
	driver  string // "CUDA 12.4, driver 550.54.14"
}

// Open makes a GPU ready, counted from 0 as the driver counts (CUDA_VISIBLE_DEVICES applies). The error wraps
// device.ErrNotSupported where another machine, driver or card could do it: no driver, one that is too old, a card below
// compute capability 8.0, one that others hold.
func Open(ordinal int, o Options) (*Device, error) {
	d, err := loadDriver()
	if err != nil {
		return nil, err
	}
	return open(d, ordinal, o)
}

func open(d *driver, ordinal int, o Options) (*Device, error) {
	if os.Getenv("HEARTH_CUDA_GRAPHS") == "0" {
		o.NoGraphs = true
	}
	c, err := openContext(d, ordinal, o.Log)
	if err != nil {
		return nil, err
	}
	c.memory.granule = granule
	if !o.NoCache {
		c.modules.cache.dir = o.CacheDir
		if o.CacheDir == "" {
			c.modules.cache.dir = DefaultCacheDir()
		}
	}
	return &Device{c: c, options: o, driver: d.describeVersion()}, nil
}

// describeVersion words the driver's version.
func (d *driver) describeVersion() string {
	v, _ := d.version()
	s := fmt.Sprintf("CUDA %d.%d", v/1000, v%1000/10)
	if d.module != "" {
		s += ", driver " + d.module
	}
	return s
}

// Info describes the card, with the memory that is free now.
func (d *Device) Info() device.Info {
	i, kernels := &d.c.info, "PTX for 8.0"
	if d.c.overlap {
		kernels += " with early launches"
	}
	info := device.Info{
		Name:     i.name,
		Kind:     "cuda",
		Detail:   fmt.Sprintf("compute capability %d.%d, %d multiprocessors, %s, %s", i.major, i.minor, i.sms, d.driver, kernels),
		Memory:   i.memory,
		KVFormat: dtype.BF16,
	}
	if d.options.Int8KV {
		info.KVFormat = dtype.I8
	}
	if d.c.lost == nil {
		d.c.enter()
		defer d.c.leave()
		if free, total, s := d.c.d.memoryInfo(); s == success {
			info.Free, info.Memory = free, total
		}
	}
	return info
}

// Close gives the card back. Sessions are closed before.
func (d *Device) Close() error { return d.c.close() }

// Card is what is known of a GPU without using it.
type Card struct {
	Ordinal      int
	Name         string
	Major, Minor int // compute capability
	SMs          int
	Memory       int64 // bytes
	Bandwidth    int64 // bytes a second, by its clock and width; 0: unknown
	Display      bool  // a screen hangs on it, or the system ends long kernels for another reason
	Err          error // why it cannot be used; nil if it can
}

// List describes the machine's GPUs and names the driver. It makes no context. The error says why there are none.
func List() (cards []Card, driver string, err error) {
	d, err := loadDriver()
	if err != nil {
		return nil, "", err
	}
	return d.list()
}

func (d *driver) list() (cards []Card, driver string, err error) {
	if err := d.versionOK(); err != nil {
		return nil, d.describeVersion(), err
	}
	n, s := d.deviceCount()
	if s == success && n == 0 {
		s = noDevice
	}
	if err := d.check("cuDeviceGetCount", s); err != nil {
		return nil, d.describeVersion(), err
	}
	for i := range n {
		_, info, err := d.inspect(i)
		cards = append(cards, Card{
			Ordinal: i, Name: info.name, Major: info.major, Minor: info.minor, SMs: info.sms, Memory: info.memory,
			Bandwidth: info.peakBandwidth, Display: info.display, Err: err,
		})
	}
	return cards, d.describeVersion(), nil
}
