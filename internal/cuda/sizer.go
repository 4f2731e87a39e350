package cuda

import (
	"cmp"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

var _ device.Sizer = (*Device)(nil)

// LayerBytes is what LoadLayer will take.
func (d *Device) LayerBytes(w *device.Layer) (int64, error) {
	s := &shape{Spec: device.Spec{Hidden: len(w.AttnNorm), Heads: len(w.Sinks), Experts: w.Router.Weight.Rows}}
	n, err := layerBytes(s, &denseOps{}, &expertOps{c: d.c, shape: s}, w, d.options)
	return roundUp(n, d.c.memory.granule), err
}

// HeadBytes is what LoadHead will take.
func (d *Device) HeadBytes(p dtype.Plane) (int64, error) {
	return roundUp(headBytes(p, d.options), d.c.memory.granule), nil
}

// unplannedBlocks stands for the pages of a sequence while they are not planned: 131,072 positions in pages of 16.
const unplannedBlocks = 8192

// StepBytes is what NewSession will take beside the KV cache. It opens a session with a driver that only counts, so that
// the answer cannot be out of date.
func (d *Device) StepBytes(spec device.Spec, lim device.Limits) (int64, error) {
	c, err := openContext(countingDriver(&d.c.info), 0, nil)
	if err != nil {
		return 0, err
	}
	c.memory.granule = d.c.memory.granule
	if lim.FullPages == 0 {
		lim.FullPages = cmp.Or(lim.MaxBlocks, unplannedBlocks)
		lim.WindowPages = 1
	}
	s := &session{c: c, options: d.options}
	if err := s.open(spec, lim); err != nil {
		return 0, err
	}
	m := s.Memory()
	return m.Activation, nil
}

// countingDriver is a card without a card: everything succeeds, memory has no end and holds zeros.
func countingDriver(info *deviceInfo) *driver {
	next := devptr(1 << 40)
	attributes := map[attribute]int{
		attrMajor: info.major, attrMinor: info.minor, attrSMs: info.sms, attrSharedPerBlock: info.sharedMax, attrL2: info.l2,
	}
	handle := func() (uintptr, status) { return 1, success }
	done := func(uintptr) status { return success }
	return &driver{
		errorName:       func(status) string { return "" },
		init:            func() status { return success },
		version:         func() (int, status) { return leastDriver, success },
		deviceCount:     func() (int, status) { return 1, success },
		device:          func(int) (int32, status) { return 0, success },
		deviceName:      func(int32) (string, status) { return info.name, success },
		deviceMemory:    func(int32) (int64, status) { return info.memory, success },
		deviceAttribute: func(a attribute, _ int32) (int, status) { return attributes[a], success },
		retain:          func(int32) (uintptr, status) { return handle() },
		release:         func(int32) status { return success },
		setCurrent:      done,
		memoryInfo:      func() (int64, int64, status) { return info.memory, info.memory, success },
		alloc: func(n int64) (devptr, status) {
			p := next
			next += devptr(roundUp(n, alignment))
			return p, success
		},
		free: func(devptr) status { return success },
		hostAlloc: func(n int, _ bool) ([]byte, devptr, status) {
			return make([]byte, n), next, success
		},
		hostFree:     func([]byte) status { return success },
		link:         func(_ uintptr, ptx []byte) ([]byte, string, status) { return ptx, "", success },
		moduleLoad:   func([]byte) (uintptr, string, status) { return 1, "", success },
		moduleUnload: done,
		function:     func(uintptr, string) (uintptr, status) { return handle() },
		functionGet:  func(uintptr, functionAttribute) (int, status) { return 0, success },
		functionSet:  func(uintptr, functionAttribute, int) status { return success },

		streamCreate:  handle,
		streamDestroy: done,
		streamQuery:   done,
		eventCreate:   handle,
		eventDestroy:  done,
		eventRecord:   func(uintptr, uintptr) status { return success },
		eventQuery:    done,

		launch:     func(uintptr, dim, dim, int, uintptr, []byte) status { return success },
		copyIn:     func(devptr, []byte, uintptr) status { return success },
		copyOut:    func(dst []byte, _ devptr, _ uintptr) status { clear(dst); return success },
		copyDevice: func(devptr, devptr, int64, uintptr) status { return success },
		set8:       func(devptr, byte, int64, uintptr) status { return success },
	}
}
