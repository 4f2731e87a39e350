package testgpu

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

func TestF16ToF64(t *testing.T) {
	for h := range 1 << 16 {
		exp, mant := h>>10&31, float64(h&0x3ff)
		want := math.Ldexp(1+mant/1024, exp-15)
		switch {
		case exp == 0:
			want = math.Ldexp(mant/1024, -14)
		case exp == 31 && mant == 0:
			want = math.Inf(1)
		case exp == 31:
			want = math.NaN()
		}
		if h>>15 != 0 {
			want = -want
		}
		got := f16ToF64(uint16(h))
		if got != want && !(math.IsNaN(got) && math.IsNaN(want)) || math.Signbit(got) != math.Signbit(want) && !math.IsNaN(want) {
			t.Fatalf("%#04x: %v, want %v", h, got, want)
		}
	}
}

// Every border between two neighbours of a 16-bit format: the values, half-way between, and next to half-way.
func TestRoundTo16Bits(t *testing.T) {
	for _, c := range []struct {
		name  string
		to    func(float64, rounding) uint16
		value func(uint16) float64
		inf   uint16
	}{{"f16", f64ToF16, f16ToF64, 0x7c00}, {"bf16", f64ToBF16, bf16ToF64, 0x7f80}} {
		check := func(v float64, mode rounding, want uint16) {
			t.Helper()
			if got := c.to(v, mode); got != want {
				t.Fatalf("%s: %v rounds to %#04x in mode %d, want %#04x", c.name, v, got, mode, want)
			}
			switch mode { // the mirror image
			case down:
				mode = up
			case up:
				mode = down
			}
			if got := c.to(-v, mode); got != want|0x8000 {
				t.Fatalf("%s: %v rounds to %#04x in mode %d, want %#04x", c.name, -v, got, mode, want|0x8000)
			}
		}
		for h := uint16(0); h < c.inf; h++ {
			low, high := c.value(h), c.value(h+1)
			if h+1 == c.inf { // where the next value would be
				high = low + (low - c.value(h-1))
			}
			half := (low + high) / 2
			even := h + h&1
			below, above := math.Nextafter(half, 0), math.Nextafter(half, math.Inf(1))
			largest := h + 1
			for _, mode := range []rounding{nearestEven, nearestAway, towardZero, down, up} {
				check(low, mode, h)
			}
			check(half, nearestEven, even)
			check(half, nearestAway, h+1)
			for _, v := range []float64{below, half, above} {
				check(v, towardZero, h)
				check(v, down, h)
				check(v, up, largest)
			}
			check(below, nearestEven, h)
			check(above, nearestEven, h+1)
		}
	}
}

func TestF32ToBF16(t *testing.T) {
	for high := range uint32(1 << 16) {
		for _, low := range []uint32{0, 1, 0x7fff, 0x8000, 0x8001, 0xffff} {
			v := high<<16 | low
			if got, want := uint16(f32ToBF16(v)), f64ToBF16(float64(toF32(v)), nearestEven); got != want {
				t.Fatalf("%#08x: %#04x, want %#04x", v, got, want)
			}
		}
	}
}

// randomF32 favours what rounds badly: few significant bits, near exponents, small numbers.
func randomF32(random *rand.Rand) float32 {
	mant := random.Uint32()
	switch random.IntN(4) {
	case 0:
		mant &= 0x7ff000
	case 1:
		mant = 1<<random.IntN(23) - 1
	case 2:
		mant = 1 << random.IntN(23)
	}
	exp := uint32(127 + random.IntN(40) - 20)
	switch random.IntN(4) {
	case 0:
		exp = uint32(random.IntN(64))
	case 1:
		exp = uint32(random.IntN(255))
	}
	return toF32(mant&0x7fffff | exp<<23 | random.Uint32()&1<<31)
}

func exact(v float32) *big.Float { return new(big.Float).SetPrec(700).SetFloat64(float64(v)) }

func TestFma32(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 400_000 {
		a, b, c := randomF32(random), randomF32(random), randomF32(random)
		if random.IntN(3) == 0 { // near cancellation
			c = -a * b * (1 + float32(random.IntN(5)-2)*0x1p-23)
		}
		if math.IsInf(float64(c), 0) {
			continue
		}
		sum := new(big.Float).SetPrec(700).Mul(exact(a), exact(b))
		sum.Add(sum, exact(c))
		want, _ := sum.Float32()
		if sum.Sign() == 0 {
			want = a*b + c
			if a*b != 0 || c != 0 {
				want = 0 // x - x
			}
		}
		if got := fma32(a, b, c); got != want || math.Signbit(float64(got)) != math.Signbit(float64(want)) {
			t.Fatalf("fma(%x, %x, %x) = %x, want %x", a, b, c, got, want)
		}
	}
}

// Rounding in each mode is the right neighbour of the exact sum, for every format.
func TestRoundedSums(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	formats := []struct {
		f     format
		value func(uint64) float64
		nan   uint64
	}{
		{formatF16, func(v uint64) float64 { return f16ToF64(uint16(v)) }, nanF16},
		{formatBF16, func(v uint64) float64 { return bf16ToF64(uint16(v)) }, nanBF16},
		{formatF32, func(v uint64) float64 { return float64(toF32(uint32(v))) }, nanF32},
	}
	for range 100_000 {
		x := float64(randomF32(random)) * float64(randomF32(random))
		y := float64(randomF32(random))
		sum := new(big.Float).SetPrec(1200).Add(new(big.Float).SetFloat64(x), new(big.Float).SetFloat64(y))
		for _, f := range formats {
			odd := addOdd(x, y)
			low := f.value(f.f.roundF64(odd, down, f.nan))
			high := f.value(f.f.roundF64(odd, up, f.nan))
			if compareBig(low, sum) > 0 || compareBig(high, sum) < 0 {
				t.Fatalf("%v + %v lies outside [%v, %v]", x, y, low, high)
			}
			if low != high && !math.IsInf(low, 0) && !math.IsInf(high, 0) {
				if next := f.value(f.f.roundF64(math.Nextafter(low, math.Inf(1)), up, f.nan)); next != high {
					t.Fatalf("%v and %v are no neighbours", low, high)
				}
			}
			zero := f.value(f.f.roundF64(odd, towardZero, f.nan))
			if want := map[bool]float64{true: high, false: low}[sum.Sign() < 0]; zero != want {
				t.Fatalf("%v + %v toward zero: %v, want %v", x, y, zero, want)
			}
			near := f.value(f.f.roundF64(odd, nearestEven, f.nan))
			if near != low && near != high || !nearer(near, low, high, sum) {
				t.Fatalf("%v + %v: nearest %v of %v and %v", x, y, near, low, high)
			}
		}
	}
}

func compareBig(v float64, x *big.Float) int {
	if math.IsInf(v, 0) {
		return int(math.Copysign(1, v))
	}
	return new(big.Float).SetFloat64(v).Cmp(x)
}

// nearer reports whether v is at most as far from x as the other of low and high is.
func nearer(v, low, high float64, x *big.Float) bool {
	if low == high || math.IsInf(low, 0) || math.IsInf(high, 0) {
		return true
	}
	distance := func(v float64) *big.Float {
		d := new(big.Float).SetPrec(1200).Sub(x, new(big.Float).SetFloat64(v))
		return d.Abs(d)
	}
	other := low
	if v == low {
		other = high
	}
	return distance(v).Cmp(distance(other)) <= 0
}

// Integers to floats, in every mode, against big.Float.
func TestIntToFloat(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	modes := map[rounding]big.RoundingMode{nearestEven: big.ToNearestEven, towardZero: big.ToZero, down: big.ToNegativeInf, up: big.ToPositiveInf}
	for range 200_000 {
		v := int64(random.Uint64()) >> random.IntN(64)
		for mode, m := range modes {
			in := &inst{more: &extra{round: mode}}
			want, _ := new(big.Float).SetPrec(24).SetMode(m).SetInt64(v).Float32()
			if got := toF32(uint32(intToFloat(s64, f32, in, uint64(v)))); got != want {
				t.Fatalf("%d in mode %d: %v, want %v", v, mode, got, want)
			}
		}
		if got := math.Float32frombits(uint32(intToFloat(u64, f32, &inst{more: &extra{}}, uint64(v)))); got != float32(uint64(v)) {
			t.Fatalf("%d: %v", uint64(v), got)
		}
	}
}
