package cpu

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"

	"hearth/internal/device"
)

// Sizes of what ReadBandwidth reads: far more than any cache where memory allows it.
const (
	readLeast = 64 << 20
	readMost  = 1 << 30
)

// ReadBandwidth reads up to 1 GiB again and again with every thread.
func (d *Device) ReadBandwidth(t time.Duration) (float64, error) {
	n := readMost
	if _, free := systemMemory(); free > 0 {
		n = int(min(readMost, max(readLeast, free/4)))
	}
	return d.readBandwidth(n, t), nil
}

func (d *Device) readBandwidth(n int, t time.Duration) float64 {
	data := make([]byte, n)
	for i := 0; i < n; i += os.Getpagesize() {
		data[i] = 1 // untouched pages are all one
	}
	share := n / d.threads &^ 4095
	best := d.best(t, func(thread int) { readMemory(data[thread*share : (thread+1)*share]) })
	return float64(share*d.threads) / best.Seconds()
}

// Arithmetic runs multiply-adds of the level's vectors, or of its tiles, with every thread.
func (d *Device) Arithmetic(t time.Duration) (float64, error) {
	loop, flops := multiplyAdds(d.level.name, d.round)
	if loop == nil {
		return 0, fmt.Errorf("the peak of level %s: %w", d.level.name, device.ErrNotSupported)
	}
	const rounds = 1 << 20
	best := d.best(t, func(int) { loop(rounds) })
	return float64(rounds*flops*d.threads) / best.Seconds(), nil
}

// best runs f on every thread, pass after pass for the time t, and returns the shortest pass.
func (d *Device) best(t time.Duration, f func(thread int)) time.Duration {
	var best time.Duration
	for start := time.Now(); best == 0 || time.Since(start) < t; {
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range d.threads {
			wg.Go(func() { f(i) })
		}
		wg.Wait()
		if pass := time.Since(begin); best == 0 || pass < best {
			best = pass
		}
	}
	return best
}

// sumWords reads b, whose length is a multiple of 64, without vectors.
func sumWords(b []byte) (sum uint64) {
	for ; len(b) >= 64; b = b[64:] {
		w := (*[64]byte)(b)
		sum += binary.LittleEndian.Uint64(w[0:]) + binary.LittleEndian.Uint64(w[8:]) + binary.LittleEndian.Uint64(w[16:]) +
			binary.LittleEndian.Uint64(w[24:]) + binary.LittleEndian.Uint64(w[32:]) + binary.LittleEndian.Uint64(w[40:]) +
			binary.LittleEndian.Uint64(w[48:]) + binary.LittleEndian.Uint64(w[56:])
	}
	return sum
}
