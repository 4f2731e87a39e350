package device

import (
	"context"
	"time"
)

// Meter is a device that can tell what it does at best, so that a speed can be given as a share of that. Each method
// works for about the time it is given and reports its best pass. Its error wraps ErrNotSupported where there is no way
// to measure.
type Meter interface {
	// ReadBandwidth reads memory and does nothing else: bytes a second.
	ReadBandwidth(time.Duration) (float64, error)
	// Arithmetic multiplies and adds numbers in registers, by the instructions that large products use: operations a
	// second, a product and a sum counting as two.
	Arithmetic(time.Duration) (float64, error)
}

// Primer is a session that can make up the content of all pages of its KV cache: finite keys and values of ordinary size,
// so that a step at any depth can be timed without computing what comes before it.
type Primer interface {
	Prime(seed uint64) error
}

// Warmer is a session that reads weights from a file's mapping in each step, and so runs at the disk's speed until they
// are in memory.
type Warmer interface {
	// WarmBytes is how much there is to read.
	WarmBytes() int64
	// Warm brings the weights into memory, in the order that a step wants them. Steps may run meanwhile, and read ahead
	// until all is there. It calls progress, from several goroutines, with the bytes read so far, and ends early with ctx.
	Warm(ctx context.Context, progress func(done int64)) error
	// ReadAhead says whether an operation asks for all its weights before it uses the first: worth its time only while
	// they are not in memory.
	ReadAhead(bool)
}
