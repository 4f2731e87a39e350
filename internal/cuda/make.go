package cuda

import (
	"errors"
	"fmt"
	"math/bits"
	"unsafe"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

// poolSet is a device.Pools on the GPU, from which the kernel makeUp of kernels/measure.cu fills weights.
type poolSet struct {
	c    *context
	host *device.Pools
	fill *kernel

	codes, values, exponents, absmax, nested pool
	q8, q8Scales                             pool // the values quantised as denseQ8; only where that is asked for

	seed uint32 // of the next tensor
}

// pool is one of them.
type pool struct {
	buffer
	mask uint32 // its units of 16 bytes, less 1
}

// makeUpParams mirrors MakeUp of kernels/measure.cu.
type makeUpParams struct {
	out, codes, scales    devptr
	units                 uint32
	codeUnits, scaleUnits uint32
	codeMask, scaleMask   uint32
	seed                  uint32
}

// NewMadeSession opens a session whose weights are made up on the GPU.
func (d *Device) NewMadeSession(spec device.Spec, lim device.Limits, into, back *device.Pools) (device.Session, error) {
	x, err := d.NewSession(spec, lim)
	if err != nil {
		return nil, err
	}
	s := x.(*session)
	for i, p := range []*device.Pools{into, back} {
		if s.made[i], err = newPoolSet(d.c, p, uint32(i)); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func newPoolSet(c *context, p *device.Pools, seed uint32) (*poolSet, error) {
	s := &poolSet{c: c, host: p, seed: seed}
	v, err := dtype.DecodeVector(dtype.BF16, p.Values)
	if err != nil {
		return nil, err
	}
	codes, scales := make([]byte, denseQ8.codeBytes(len(v))), make([]byte, denseQ8.scaleBytes(len(v)))
	if err := encodeDense(denseQ8, codes, scales, v); err != nil {
		return nil, err
	}
	for _, x := range []struct {
		to    *pool
		bytes []byte
	}{
		{&s.codes, p.Codes}, {&s.values, p.Values}, {&s.exponents, p.Exponents}, {&s.absmax, p.Absmax}, {&s.nested, p.Nested}, {&s.q8, codes}, {&s.q8Scales, scales},
	} {
		if x.bytes == nil {
			continue
		}
		n := len(x.bytes)
		if n < unitBytes || bits.OnesCount(uint(n)) != 1 || n/unitBytes > 1<<31 {
			s.close()
			return nil, fmt.Errorf("a pool of %d bytes, want a power of two", n)
		}
		b, err := c.alloc(int64(n), useStaging)
		if err != nil {
			s.close()
			return nil, err
		}
		*x.to = pool{b, uint32(n/unitBytes - 1)}
		c.queue.upload(b.ptr, x.bytes)
	}
	if s.fill, err = c.kernel(kernelSpec{module: "measure", name: "makeUp", params: unsafe.Sizeof(makeUpParams{})}); err == nil {
		err = c.queue.sync()
	}
	if err != nil {
		s.close()
	}
	return s, err
}

func (s *poolSet) close() {
	if s == nil {
		return
	}
	for _, p := range []*pool{&s.codes, &s.values, &s.exponents, &s.absmax, &s.nested, &s.q8, &s.q8Scales} {
		s.c.free(p.buffer)
		*p = pool{}
	}
}

// run fills chunks: so many bytes of one pool, then so many of another. No two tensors are alike.
func (s *poolSet) run(dst devptr, chunks int64, codes pool, codeBytes int, scales pool, scaleBytes int) error {
	units := chunks * int64((codeBytes+scaleBytes)/unitBytes)
	if codes.ptr == 0 || scaleBytes > 0 && scales.ptr == 0 || (codeBytes|scaleBytes)%unitBytes != 0 || units >= 1<<32 {
		return fmt.Errorf("weights of %d times %d and %d bytes cannot be made up", chunks, codeBytes, scaleBytes)
	}
	s.seed += 2
	launch(s.c.queue, s.fill, dim{4 * s.c.info.sms, 1, 1}, dim{measureThreads, 1, 1}, 0, &makeUpParams{
		out: dst, codes: codes.ptr, scales: scales.ptr, units: uint32(units),
		codeUnits: uint32(codeBytes / unitBytes), scaleUnits: uint32(scaleBytes / unitBytes), codeMask: codes.mask, scaleMask: scales.mask, seed: s.seed,
	})
	return nil
}

// dense fills n weights of a format.
func (s *poolSet) dense(f denseFormat, n int, data, scales devptr) error {
	switch size := f.codeBytes(n); {
	case size%unitBytes != 0 || f.scaleBytes(n)%unitBytes != 0:
		return fmt.Errorf("%d weights cannot be made up: want a multiple of 256", n)
	case f == denseBF16:
		return s.run(data, size/unitBytes, s.values, unitBytes, pool{}, 0)
	case f == denseQ8:
		return errors.Join(
			s.run(data, size/unitBytes, s.q8, unitBytes, pool{}, 0), s.run(scales, f.scaleBytes(n)/unitBytes, s.q8Scales, unitBytes, pool{}, 0))
	}
	return errors.New("dense weights can be made up in BF16 and in 8 bits alone")
}

// experts fills a projection's tiles.
func (s *poolSet) experts(p *expertPlan, x *expertWeight) error {
	codes, codeBytes, scales := s.codes, tileRows*chunkCols/2, pool{}
	switch p.format {
	case expertMXFP4:
		scales = s.exponents
	case expertAbsmax:
		scales = s.absmax
	case expertNested:
		scales = s.nested
	case expertBF16:
		codes, codeBytes = s.values, tileRows*chunkCols*2
	default:
		return fmt.Errorf("experts in the GPU's %s layout cannot be made up", p.format.suffix())
	}
	chunks := int64(len(p.stack.Even)) * int64(p.rows/tileRows) * int64(p.cols/chunkCols)
	if p.format == expertNested {
		return errors.Join(s.run(x.data, chunks, codes, codeBytes, pool{}, 0), s.run(x.scaleCodes(0, 0), chunks, scales, scaleCodeBytes, pool{}, 0))
	}
	return s.run(x.data, chunks, codes, codeBytes, scales, p.format.chunkBytes()-codeBytes)
}

// scalesOfScales gives n of them, float32s: on the host, since they are few.
func (s *poolSet) scalesOfScales(n int) []byte {
	out := make([]byte, 4*n)
	for at := 0; at < len(out); {
		at += copy(out[at:], s.host.Absmax)
	}
	return out
}

var _ device.Maker = (*Device)(nil)
