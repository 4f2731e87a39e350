package cuda

import (
	"fmt"
	"time"
	"unsafe"

	"hearth/internal/device"
)

// readParams, multiplyParams and fillParams mirror Read, Multiply and Fill of kernels/measure.cu.
type readParams struct {
	data, out devptr
	units     int64
}

type multiplyParams struct {
	out    devptr
	rounds int64
}

type fillParams struct {
	out                  devptr
	units                int64
	seed, keep, set, pad uint32
}

const (
	measureThreads = 512
	unitBytes      = 16
	readMost       = 1 << 30
	readLeast      = 128 << 20 // more than any card's L2
)

// ReadBandwidth reads 1 GiB of random bytes again and again by plain 16-byte loads, or half of what is free where that is
// less.
func (d *Device) ReadBandwidth(t time.Duration) (float64, error) {
	free := d.Info().Free
	n := min(readMost, free/2) &^ (unitBytes - 1)
	if n < readLeast {
		return 0, fmt.Errorf("%d MiB of GPU memory are free, measuring its bandwidth takes %d", free>>20, 2*readLeast>>20)
	}
	return d.c.readBandwidth(n, t)
}

func (c *context) readBandwidth(n int64, t time.Duration) (float64, error) {
	const launches = 8 // a pass: what waiting for the end adds is then lost in it
	read, err := c.kernel(kernelSpec{module: "measure", name: "readAll", params: unsafe.Sizeof(readParams{})})
	if err != nil {
		return 0, err
	}
	data, err := c.alloc(n+unitBytes, useWorkspace)
	if err != nil {
		return 0, err
	}
	defer c.free(data)
	if err := c.fill(data.ptr, n, 1, anyBits); err != nil {
		return 0, err
	}
	best, err := c.best(t, func() {
		for range launches {
			launch(c.queue, read, dim{4 * c.info.sms, 1, 1}, dim{measureThreads, 1, 1}, 0, &readParams{data.ptr, data.ptr + devptr(n), n / unitBytes})
		}
	})
	return float64(launches*n) / best.Seconds(), err
}

// Arithmetic multiplies BF16 fragments on the tensor cores by the instruction that the kernels use, mma.sync.
func (d *Device) Arithmetic(t time.Duration) (float64, error) { return d.c.arithmetic(1<<13, t) }

func (c *context) arithmetic(rounds int64, t time.Duration) (float64, error) {
	const warp = 8 * 2 * 16 * 8 * 16 // operations of a warp in a round
	multiply, err := c.kernel(kernelSpec{module: "measure", name: "multiplyAll", params: unsafe.Sizeof(multiplyParams{})})
	if err != nil {
		return 0, err
	}
	out, err := c.alloc(4, useWorkspace)
	if err != nil {
		return 0, err
	}
	defer c.free(out)
	blocks := 2 * c.info.sms
	best, err := c.best(t, func() {
		launch(c.queue, multiply, dim{blocks, 1, 1}, dim{measureThreads, 1, 1}, 0, &multiplyParams{out.ptr, rounds})
	})
	return float64(rounds) * float64(blocks*measureThreads/32*warp) / best.Seconds(), err
}

// best runs f pass after pass, for about the time t and once before it, and returns the shortest pass.
func (c *context) best(t time.Duration, f func()) (time.Duration, error) {
	f()
	best := time.Duration(0)
	err := c.queue.sync()
	for start := time.Now(); err == nil && (best == 0 || time.Since(start) < t); {
		begin := time.Now()
		f()
		err = c.queue.sync()
		if pass := time.Since(begin); best == 0 || pass < best {
			best = pass
		}
	}
	return max(best, 1), err
}

// wordKind says what random words may be: (random & keep) + set.
type wordKind struct{ keep, set uint32 }

var (
	anyBits   = wordKind{keep: ^uint32(0)}
	bf16Pairs = wordKind{0x80ff80ff, 0x3e003e00} // magnitudes from 1/8 to 1/2
	keyScale  = wordKind{0, 0x3b000000}          // 2^-9: int8 codes then stand for at most 1/4
)

// fill queues random words for n bytes, a multiple of 16.
func (c *context) fill(dst devptr, n int64, seed uint32, b wordKind) error {
	fill, err := c.kernel(kernelSpec{module: "measure", name: "fill", params: unsafe.Sizeof(fillParams{})})
	if err != nil || n == 0 {
		return err
	}
	launch(c.queue, fill, dim{4 * c.info.sms, 1, 1}, dim{measureThreads, 1, 1}, 0, &fillParams{
		out: dst, units: n / unitBytes, seed: seed, keep: b.keep, set: b.set,
	})
	return nil
}

// Prime makes up the keys and values of all layers.
func (s *session) Prime(seed uint64) error {
	for l := range s.kv {
		pages := s.shape.FullPages
		if s.kv[l].window > 0 {
			pages = s.shape.WindowPages
		}
		if err := s.c.prime(s.shape, &s.kv[l], pages, uint32(seed)+uint32(l)); err != nil {
			return err
		}
	}
	return s.c.queue.sync()
}

// prime makes up the keys and values of one layer with so many pages.
func (c *context) prime(s *shape, kv *kvLayer, pages int, seed uint32) error {
	n := int64(pages) * int64(s.KVHeads*s.PageSize)
	codes, width := bf16Pairs, int64(2*headDim)
	if kv.kScale != 0 {
		codes, width = anyBits, headDim
	}
	for i, part := range [...]struct {
		at    devptr
		bytes int64
		kind  wordKind
	}{{kv.k, n * width, codes}, {kv.v, n * width, codes}, {kv.kScale, 4 * n, keyScale}, {kv.vScale, 4 * n, keyScale}} {
		if part.at == 0 {
			continue
		}
		if err := c.fill(part.at, part.bytes, seed*4+uint32(i), part.kind); err != nil {
			return err
		}
	}
	return nil
}

var (
	_ device.Meter  = (*Device)(nil)
	_ device.Primer = (*session)(nil)
)
