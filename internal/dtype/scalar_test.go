package dtype

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// half is a 16-bit format described by its fields, for an independent slow conversion.
type half struct {
	name      string
	exp, frac int // bits
	from      func(uint16) float32
	to        func(float32) uint16
}

var halves = []half{
	{"F16", 5, 10, FromF16, ToF16},
	{"BF16", 8, 7, FromBF16, ToBF16},
}

func (h half) inf() uint16 { return (1<<h.exp - 1) << h.frac }

// value is the number that positive bits stand for; the infinity's bits give the next power of two.
func (h half) value(bits uint16) float64 {
	bias := 1<<(h.exp-1) - 1
	exp, frac := int(bits>>h.frac), int(bits)&(1<<h.frac-1)
	if exp == 0 {
		return math.Ldexp(float64(frac), 1-bias-h.frac)
	}
	return math.Ldexp(float64(frac+1<<h.frac), exp-bias-h.frac)
}

// nearest rounds by bisection and comparison with the midpoint, which float64 holds exactly.
func (h half) nearest(f float32) uint16 {
	x := math.Abs(float64(f))
	low, high := uint16(0), h.inf()
	if x >= h.value(high) {
		low = high
	} else {
		for high-low > 1 {
			if mid := low + (high-low)/2; h.value(mid) <= x {
				low = mid
			} else {
				high = mid
			}
		}
		mid := (h.value(low) + h.value(low+1)) / 2
		if x > mid || x == mid && low&1 == 1 {
			low++
		}
	}
	if math.Signbit(float64(f)) {
		low |= 0x8000
	}
	return low
}

func TestWidenEvery16Bits(t *testing.T) {
	for _, h := range halves {
		for i := range 1 << 16 {
			bits := uint16(i)
			got := h.from(bits)
			if bits&0x7FFF > h.inf() {
				if got == got || math.Signbit(float64(got)) != (bits>>15 == 1) {
					t.Fatalf("%s %04X is %v, want NaN of the same sign", h.name, bits, got)
				}
				continue
			}
			want := math.Inf(1)
			if bits&0x7FFF != h.inf() {
				want = h.value(bits & 0x7FFF)
			}
			if bits>>15 == 1 {
				want = -want
			}
			if math.Float64bits(float64(got)) != math.Float64bits(want) {
				t.Fatalf("%s %04X is %v, want %v", h.name, bits, got, want)
			}
			if back := h.to(got); back != bits {
				t.Fatalf("%s %04X becomes %v, then %04X", h.name, bits, got, back)
			}
		}
	}
}

// TestNarrowAround visits each value, each midpoint of neighbours, and the float32 on either side of both.
func TestNarrowAround(t *testing.T) {
	check := func(h half, f float32) {
		if got, want := h.to(f), h.nearest(f); got != want {
			t.Fatalf("%s of %v (%08X) is %04X, want %04X", h.name, f, math.Float32bits(f), got, want)
		}
	}
	for _, h := range halves {
		for bits := range h.inf() {
			low, high := h.value(bits), h.value(bits+1)
			for _, x := range [...]float32{float32(low), float32((low + high) / 2)} {
				for _, f := range [...]float32{x, math.Nextafter32(x, -1), math.Nextafter32(x, math.MaxFloat32)} {
					check(h, f)
					check(h, -f)
				}
			}
		}
		check(h, math.MaxFloat32)
		check(h, math.SmallestNonzeroFloat32)
		check(h, float32(math.Inf(1)))
		check(h, float32(math.Inf(-1)))
	}
}

func TestNarrowAnyFloat32(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
		for _, h := range halves {
			got := h.to(f)
			if f != f {
				quiet := uint16(1) << (h.frac - 1)
				if got&0x7FFF <= h.inf() || got&quiet == 0 || math.Signbit(float64(f)) != (got>>15 == 1) {
					t.Fatalf("%s of NaN %08X is %04X", h.name, math.Float32bits(f), got)
				}
				continue
			}
			if want := h.nearest(f); got != want {
				t.Fatalf("%s of %v is %04X, want %04X", h.name, f, got, want)
			}
		}
	})
}

func TestE8M0(t *testing.T) {
	for e := range 255 {
		if got, want := float64(FromE8M0(uint8(e))), math.Ldexp(1, e-127); got != want {
			t.Errorf("%d is %v, want %v", e, got, want)
		}
	}
	if v := FromE8M0(255); v == v {
		t.Errorf("255 is %v, want NaN", v)
	}
}
