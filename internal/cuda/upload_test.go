package cuda

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// slowBus is a driver whose copies are only made when the host waits for them: what a bus that is slower than the reading
// of files looks like. It says how far reading runs ahead.
type slowBus struct {
	*driver
	memory  []byte // of the device; addresses count from 0
	pending []busCopy
	marks   map[uintptr]int // of events: copies before them, since the start
	made    int
	ahead   int // most bytes that were under way at once
	next    uintptr
}

type busCopy struct {
	dst  devptr
	from []byte
}

func newSlowBus(size int) *slowBus {
	b := &slowBus{driver: countingDriver(&deviceInfo{name: "slow", major: 8, sms: 4, sharedMax: leastShared, memory: 1 << 34}), memory: make([]byte, size), marks: map[uintptr]int{}}
	b.copyIn = func(dst devptr, src []byte, _ uintptr) status {
		b.pending = append(b.pending, busCopy{dst, src})
		n := 0
		for _, p := range b.pending {
			n += len(p.from)
		}
		b.ahead = max(b.ahead, n)
		return success
	}
	b.eventCreate = func() (uintptr, status) { b.next++; return b.next, success }
	b.eventRecord = func(event, _ uintptr) status { b.marks[event] = b.made + len(b.pending); return success }
	b.eventQuery = func(event uintptr) status { b.run(b.marks[event]); return success }
	b.streamQuery = func(uintptr) status { b.run(b.made + len(b.pending)); return success }
	return b
}

// run makes copies, until so many have been made in all. They read what the host's buffers hold now.
func (b *slowBus) run(until int) {
	for ; b.made < until; b.made++ {
		p := b.pending[0]
		copy(b.memory[p.dst:], p.from)
		b.pending = b.pending[1:]
	}
}

// Reading runs ahead of the bus by all buffers but the one that is being filled, whatever the pieces' sizes, and nothing is
// overwritten before it has arrived.
func TestReadingOverlapsCopies(t *testing.T) {
	for name, pieces := range map[string][]int{
		"one tensor":                 {6 * pinCount * pinSize},
		"experts' codes, and scales": slices.Repeat([]int{8294400, 518400}, 12),
		"small tensors":              slices.Repeat([]int{300_000, 17, 4096}, 300),
	} {
		t.Run(name, func(t *testing.T) {
			total := 0
			for _, n := range pieces {
				total += n
			}
			src := make([]byte, total)
			r := rand.New(rand.NewPCG(1, uint64(total)))
			for i := 0; i < total; i += 1 + r.IntN(200) {
				src[i] = byte(r.Uint32())
			}
			bus := newSlowBus(total)
			c, err := openContext(bus.driver, 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			u, err := newUploader(c)
			if err != nil {
				t.Fatal(err)
			}
			at := 0
			for _, n := range pieces {
				u.copy(devptr(at), src[at:at+n])
				at += n
			}
			if err := u.close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(bus.memory, src) {
				t.Error("what arrived is not what was sent")
			}
			if least := (pinCount-1)*pinSize - pinSize/4; bus.ahead < least || bus.ahead > pinCount*pinSize {
				t.Errorf("at most %d bytes were under way at once, want %d to %d", bus.ahead, least, pinCount*pinSize)
			}
		})
	}
}
