package cuda

import (
	"hearth/internal/device"
	"hearth/internal/dtype"
)

// Paper is a card that need not be here: it can be planned for, and holds and computes nothing.
type Paper struct{ d *Device }

// OnPaper takes the name, capability, multiprocessors and memory of k, of which reserved bytes count as taken by the driver.
func OnPaper(k Card, reserved int64, o Options) (*Paper, error) {
	info := deviceInfo{name: k.Name, major: k.Major, minor: k.Minor, sms: k.SMs, sharedMax: leastShared, memory: k.Memory}
	d := countingDriver(&info)
	d.memoryInfo = func() (free, total int64, s status) { return k.Memory - reserved, k.Memory, success }
	c, err := openContext(d, 0, o.Log)
	if err != nil {
		return nil, err
	}
	c.memory.granule = granule
	return &Paper{&Device{c: c, options: o, driver: "on paper"}}, nil
}

// leastShared is the shared memory that a block may have on every card of compute capability 8.0 and more.
const leastShared = 99 << 10

// Info describes the card.
func (p *Paper) Info() device.Info { return p.d.Info() }

// LayerBytes is what LoadLayer would take.
func (p *Paper) LayerBytes(w *device.Layer) (int64, error) { return p.d.LayerBytes(w) }

// HeadBytes is what LoadHead would take.
func (p *Paper) HeadBytes(w dtype.Plane) (int64, error) { return p.d.HeadBytes(w) }

// StepBytes is what NewSession would take beside the KV cache.
func (p *Paper) StepBytes(s device.Spec, l device.Limits) (int64, error) { return p.d.StepBytes(s, l) }

var _ device.Sizer = (*Paper)(nil)
