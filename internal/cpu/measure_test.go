package cpu

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"hearth/internal/device"
)

// Figures differ with the machine; that they are numbers and that a second thread does not undo the first does not.
func TestMeter(t *testing.T) {
	for _, l := range levels() {
		if l.usable() != nil {
			continue
		}
		d, err := New(Options{Threads: 2, Level: l.name})
		if err != nil {
			t.Fatal(err)
		}
		if read := d.readBandwidth(1<<20, time.Millisecond); !(read > 0) || math.IsInf(read, 0) {
			t.Errorf("%s reads %v bytes a second", l.name, read)
		}
		peak, err := d.Arithmetic(time.Millisecond)
		if l.name == "portable" {
			if !errors.Is(err, device.ErrNotSupported) {
				t.Errorf("portable Go has a peak of %v, error %v", peak, err)
			}
			continue
		}
		if err != nil || !(peak > 0) || math.IsInf(peak, 0) {
			t.Errorf("%s does %v operations a second, error %v", l.name, peak, err)
		}
		d, err = New(Options{Threads: 2, Level: l.name, Activations: BFloat16})
		if err != nil {
			t.Fatal(err)
		}
		if peak, err := d.Arithmetic(time.Millisecond); err != nil || !(peak > 0) || math.IsInf(peak, 0) {
			t.Errorf("%s does %v operations of BF16 a second, error %v", l.name, peak, err)
		}
	}
}

func TestSumWords(t *testing.T) {
	b := make([]byte, 192)
	for i := range b {
		b[i] = byte(i)
	}
	var want uint64
	for i := 0; i < len(b); i += 8 {
		for j := 7; j >= 0; j-- {
			want += uint64(b[i+j]) << (8 * j)
		}
	}
	if got := sumWords(b); got != want {
		t.Errorf("sum %d, want %d", got, want)
	}
}

// Primed pages hold ordinary numbers, and two pages of a layer differ.
func TestPrime(t *testing.T) {
	const page = 16 * 2 * 64
	s := &session{keys: [][]float32{make([]float32, 600*page), nil}, values: [][]float32{make([]float32, 600*page), nil}}
	if err := s.Prime(3); err != nil {
		t.Fatal(err)
	}
	for _, dst := range [2][]float32{s.keys[0], s.values[0]} {
		for i, v := range dst {
			if !(v >= -1 && v <= 1) {
				t.Fatalf("value %d is %v", i, v)
			}
		}
		for p := 1; p < 600; p++ {
			if slices.Equal(dst[:page], dst[p*page:(p+1)*page]) {
				t.Fatalf("pages 0 and %d are the same", p)
			}
		}
	}
}
