package testgpu

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// rig is a GPU with one loaded module, whose failures fail the test.
type rig struct {
	*GPU
	t   testing.TB
	mod uint64
}

func newRig(t testing.TB, c Config, file string) *rig {
	t.Helper()
	ptx, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return loadRig(t, c, ptx)
}

func loadRig(t testing.TB, c Config, ptx []byte) *rig {
	t.Helper()
	r := &rig{GPU: New(c), t: t}
	var rc int
	var log string
	if r.mod, rc, log = r.ModuleLoad(ptx); rc != Success {
		t.Fatalf("ModuleLoad: %d %s", rc, log)
	}
	return r
}

func (r *rig) alloc(n int) uint64 {
	r.t.Helper()
	p, rc := r.MemAlloc(int64(n))
	if rc != Success {
		r.t.Fatalf("MemAlloc: %d %s", rc, r.LastError())
	}
	return p
}

// put copies values into new memory.
func put[T any](r *rig, v []T) uint64 {
	r.t.Helper()
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		r.t.Fatal(err)
	}
	p := r.alloc(len(b))
	if rc := r.CopyIn(p, b); rc != Success {
		r.t.Fatalf("CopyIn: %d %s", rc, r.LastError())
	}
	return p
}

func get[T any](r *rig, p uint64, n int) []T {
	r.t.Helper()
	v := make([]T, n)
	b := make([]byte, binary.Size(v))
	if rc := r.CopyOut(b, p); rc != Success {
		r.t.Fatalf("CopyOut: %d %s", rc, r.LastError())
	}
	if _, err := binary.Decode(b, binary.LittleEndian, v); err != nil {
		r.t.Fatal(err)
	}
	return v
}

// pack lays parameters out as C does.
func pack(args ...any) []byte {
	var b []byte
	for _, a := range args {
		for len(b)%binary.Size(a) != 0 {
			b = append(b, 0)
		}
		b, _ = binary.Append(b, binary.LittleEndian, a)
	}
	return b
}

func (r *rig) try(name string, grid, block [3]int, shared int, args ...any) int {
	r.t.Helper()
	fn, rc := r.Function(r.mod, name)
	if rc != Success {
		r.t.Fatalf("Function %s: %d", name, rc)
	}
	return r.Launch(fn, grid, block, shared, pack(args...))
}

func (r *rig) run(name string, grid, block [3]int, shared int, args ...any) {
	r.t.Helper()
	if rc := r.try(name, grid, block, shared, args...); rc != Success {
		r.t.Fatalf("%d %s", rc, r.LastError())
	}
}

// variants are the configurations under which every kernel must give the same result.
func variants() map[string]Config {
	return map[string]Config{"serial": {Workers: 1}, "parallel": {Workers: 4}, "shuffled": {Workers: 2, Shuffle: 7}}
}

func each(t *testing.T, f func(t *testing.T, r *rig)) {
	for name, c := range variants() {
		t.Run(name, func(t *testing.T) { f(t, newRig(t, c, "testdata/kernels.ptx")) })
	}
}

func randomFloats(n int, seed uint64) []float32 {
	random := rand.New(rand.NewPCG(seed, 1))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(random.NormFloat64())
	}
	return v
}

func TestSaxpy(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		x, y := randomFloats(1000, 1), randomFloats(1000, 2)
		px, py := put(r, x), put(r, y)
		r.run("saxpy", [3]int{3, 1, 1}, [3]int{96, 1, 1}, 0, float32(1.7), px, py, int32(len(x)))
		for i, v := range get[float32](r, py, len(y)) {
			if want := fma32(1.7, x[i], y[i]); v != want {
				t.Fatalf("y[%d] = %v, want %v", i, v, want)
			}
		}
	})
}

func TestReduce(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		x := make([]float32, 5000)
		want := float32(0)
		for i := range x {
			x[i] = float32(i%17 - 5)
			want += x[i] // small integers: exact in any order
		}
		px, parts, done, sum := put(r, x), r.alloc(4*7), put(r, []uint32{0}), r.alloc(4)
		for range 2 { // the counter resets itself
			r.run("reduce", [3]int{7, 1, 1}, [3]int{128, 1, 1}, 0, px, int32(len(x)), parts, done, sum)
			if got := get[float32](r, sum, 1)[0]; got != want {
				t.Fatalf("sum %v, want %v", got, want)
			}
		}
	})
}

func TestSort(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		random := rand.New(rand.NewPCG(3, 3))
		x := make([]int32, 150)
		for i := range x {
			x[i] = int32(random.IntN(1000))
		}
		px := put(r, x)
		r.run("sort", [3]int{1, 1, 1}, [3]int{96, 1, 1}, 0, px, int32(len(x)))
		slices.Sort(x)
		if got := get[int32](r, px, len(x)); !slices.Equal(got, x) {
			t.Fatalf("got %v", got)
		}
	})
}

func divergent(v int32) int32 {
	s := int32(0)
	switch v & 7 {
	case 0:
		s = v * 3
	case 1:
		for k := range v {
			if k%3 != 1 {
				s += k
			}
		}
	case 2:
		for ; v > 1; s++ {
			if v&1 != 0 {
				v = 3*v + 1
			} else {
				v /= 2
			}
		}
	case 3:
		s = -v
	case 4:
		for k := v; k > 0; k -= 5 {
			for j := range k {
				s ^= j * k
			}
		}
	case 5:
		s = 7
	case 6:
		s = v/3 - v%5
	default:
		s = int32(bits.OnesCount32(uint32(v)) + bits.LeadingZeros32(uint32(v)|1))
	}
	return s
}

func TestDiverge(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		in := make([]int32, 200)
		for i := range in {
			in[i] = int32(i * 37 % 101)
		}
		pin, out := put(r, in), r.alloc(4*len(in))
		r.run("diverge", [3]int{4, 1, 1}, [3]int{64, 1, 1}, 0, pin, out, int32(len(in)))
		for i, got := range get[int32](r, out, len(in)) {
			if want := divergent(in[i]); got != want {
				t.Errorf("%d: %d, want %d", in[i], got, want)
			}
		}
	})
}

func TestGemm(t *testing.T) {
	const m, n, k = 128, 96, 160
	a, b := make([]uint16, m*k), make([]uint16, n*k)
	for i, v := range randomFloats(m*k, 5) {
		a[i] = uint16(f32ToBF16(math.Float32bits(v)))
	}
	for i, v := range randomFloats(n*k, 6) {
		b[i] = uint16(f32ToBF16(math.Float32bits(v)))
	}
	for _, kn := range []bool{false, true} {
		each(t, func(t *testing.T, r *rig) {
			name := "gemmNK"
			if kn {
				name = "gemmKN"
			}
			pa, pb, pc := put(r, a), put(r, b), r.alloc(4*m*n)
			r.run(name, [3]int{n / 32, m / 64, 1}, [3]int{128, 1, 1}, 0, pa, pb, pc, int32(n), int32(k))
			c := get[float32](r, pc, m*n)
			for i := range m {
				for j := range n {
					sum, size := 0.0, 0.0
					for l := range k {
						at := j*k + l
						if kn {
							at = l*n + j
						}
						p := bf16ToF64(a[i*k+l]) * bf16ToF64(b[at])
						sum, size = sum+p, size+math.Abs(p)
					}
					if math.Abs(float64(c[i*n+j])-sum) > size*0x1p-22*k/16 {
						t.Fatalf("%s: c[%d, %d] = %v, want %v", name, i, j, c[i*n+j], sum)
					}
				}
			}
		})
	}
}

func TestCalls(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		x := []float32{1, 2, 3, 4, 5, 6}
		px, py := put(r, x), r.alloc(4*40)
		r.run("calls", [3]int{1, 1, 1}, [3]int{40, 1, 1}, 0, px, py, int32(6))
		for i, got := range get[float32](r, py, 40) {
			want := float32(0)
			for k := 5; k >= 0; k-- {
				want = want*0.5 + x[k] + float32(i)
			}
			if i&1 != 0 {
				want += 1 + 2*2 + 3*4
			}
			if got != want {
				t.Errorf("y[%d] = %v, want %v", i, got, want)
			}
		}
	})
}

func TestWarps(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		x := make([]uint32, 64)
		for i := range x {
			x[i] = uint32(i*i*7) % 31
		}
		px, py := put(r, x), r.alloc(16*len(x))
		r.run("warps", [3]int{1, 1, 1}, [3]int{len(x), 1, 1}, 0, px, py)
		got := get[uint32](r, py, 4*len(x))
		for i := range x {
			first := i &^ 31
			want := [4]uint32{}
			for j := first; j < first+32; j++ {
				if j <= i {
					want[0] += x[j]
				}
				want[1] = max(want[1], x[j])
				want[2] |= x[j] & 1 << (j - first)
				if x[j]%5 == x[i]%5 {
					want[3] |= 1 << (j - first)
				}
			}
			if g := [4]uint32(got[4*i:]); g != want {
				t.Errorf("thread %d: %v, want %v", i, g, want)
			}
		}
	})
}
