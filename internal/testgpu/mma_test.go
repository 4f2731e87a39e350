package testgpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// where gives row and column of element i of a lane's fragment, as the PTX ISA's tables do: g is lane/4, t is lane%4.
type where func(g, t, i int) (row, col int)

type mmaCase struct {
	shape, types string
	m, k         int
	a, c         scalar
	b            scalar
	placeA       where
	placeB       where
}

func plus(cond bool, n int) int { return n * int(b2u(cond)) }

func mmaCases() []mmaCase {
	k16 := func(types string, a, c scalar) mmaCase {
		return mmaCase{"m16n8k16", types, 16, 16, a, c, a,
			func(g, t, i int) (int, int) {
				return g + plus(!(i < 2 || i >= 4 && i < 6), 8), t*2 + i&1 + plus(i >= 4, 8)
			},
			func(g, t, i int) (int, int) { return t*2 + i&1 + plus(i >= 2, 8), g }}
	}
	k8 := func(types string, a, c scalar) mmaCase {
		return mmaCase{"m16n8k8", types, 16, 8, a, c, a,
			func(g, t, i int) (int, int) { return g + plus(i >= 2, 8), t*2 + i&1 },
			func(g, t, i int) (int, int) { return t*2 + i, g }}
	}
	bytes32 := func(types string, a, b scalar) mmaCase {
		return mmaCase{"m16n8k32", types, 16, 32, a, s32, b,
			func(g, t, i int) (int, int) {
				return g + plus(!(i < 4 || i >= 8 && i < 12), 8), t*4 + i&3 + plus(i >= 8, 16)
			},
			func(g, t, i int) (int, int) { return t*4 + i&3 + plus(i >= 4, 16), g }}
	}
	return []mmaCase{
		k16("f32.bf16.bf16.f32", bf16, f32), k16("f32.f16.f16.f32", f16, f32), k16("f16.f16.f16.f16", f16, f16),
		k8("f32.bf16.bf16.f32", bf16, f32), k8("f32.f16.f16.f32", f16, f32), k8("f16.f16.f16.f16", f16, f16),
		bytes32("s32.s8.s8.s32", s8, s8), bytes32("s32.u8.s8.s32", u8, s8), bytes32("satfinite.s32.s8.s8.s32", s8, s8),
		{"m16n8k16", "s32.s8.s8.s32", 16, 16, s8, s32, s8,
			func(g, t, i int) (int, int) { return g + plus(i >= 4, 8), t*4 + i&3 },
			func(g, t, i int) (int, int) { return t*4 + i, g }},
		{"m8n8k16", "s32.s8.u8.s32", 8, 16, s8, s32, u8,
			func(g, t, i int) (int, int) { return g, t*4 + i },
			func(g, t, i int) (int, int) { return t*4 + i, g }},
		{"m16n8k8", "f32.tf32.tf32.f32", 16, 8, tf32, f32, tf32,
			func(g, t, i int) (int, int) { return g + plus(i == 1 || i == 3, 8), t + plus(i >= 2, 4) },
			func(g, t, i int) (int, int) { return t + plus(i == 1, 4), g }},
		{"m16n8k4", "f32.tf32.tf32.f32", 16, 4, tf32, f32, tf32,
			func(g, t, i int) (int, int) { return g + plus(i == 1, 8), t },
			func(g, t, i int) (int, int) { return t, g }},
	}
}

// operand makes random elements that are exact in their type, and their encoding.
func operand(random *rand.Rand, t scalar) (float64, uint32) {
	switch t {
	case bf16:
		v := uint16(f32ToBF16(math.Float32bits(float32(random.NormFloat64()))))
		return bf16ToF64(v), uint32(v)
	case f16:
		v := f64ToF16(random.NormFloat64(), nearestEven)
		return f16ToF64(v), uint32(v)
	case tf32:
		v := math.Float32bits(float32(random.NormFloat64())) &^ 0x1fff
		return float64(toF32(v)), v
	case u8:
		v := random.UintN(256)
		return float64(v), uint32(v)
	case s8:
		v := int8(random.UintN(256))
		return float64(v), uint32(uint8(v))
	case s32:
		v := int32(random.Uint32() >> 1)
		return float64(v), uint32(v)
	}
	v := float32(random.NormFloat64())
	return float64(v), math.Float32bits(v)
}

func names(prefix string, n int) string {
	var s []string
	for i := range n {
		s = append(s, fmt.Sprintf("%s%d", prefix, i))
	}
	return strings.Join(s, ", ")
}

// Every shape multiplies matrices, put into fragments by the ISA's tables.
func TestMma(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 9))
	for _, c := range mmaCases() {
		t.Run(c.shape+"."+c.types, func(t *testing.T) {
			var a [16][32]float64
			var b [32][8]float64
			var sum [16][8]float64
			perA, perC := 4/c.a.size(), 1
			if c.c == f16 {
				perC = 2
			}
			na, nb, nc := c.m*c.k/32/perA, c.k*8/32/perA, c.m*8/32/perC
			words := make([]uint32, 32*(na+nb+nc))
			fill := func(first, regs, per int, t scalar, place where, set func(row, col int, v float64)) {
				for lane := range 32 {
					for i := range regs * per {
						v, bits := operand(random, t)
						row, col := place(lane/4, lane%4, i)
						set(row, col, v)
						words[lane*(na+nb+nc)+first+i/per] |= bits << (32 / per * (i % per))
					}
				}
			}
			placeC := func(g, t, i int) (int, int) { return g + plus(i >= 2, 8), t*2 + i&1 }
			fill(0, na, perA, c.a, c.placeA, func(r, k int, v float64) { a[r][k] = v })
			fill(na, nb, perA, c.b, c.placeB, func(k, n int, v float64) { b[k][n] = v })
			fill(na+nb, nc, perC, c.c, placeC, func(r, n int, v float64) { sum[r][n] = v })
			got := runMma(t, c, words, na, nb, nc)
			for lane := range 32 {
				for i := range nc * perC {
					row, col := placeC(lane/4, lane%4, i)
					want, size := sum[row][col], math.Abs(sum[row][col])
					for k := range c.k {
						want += a[row][k] * b[k][col]
						size += math.Abs(a[row][k] * b[k][col])
					}
					word := got[lane*nc+i/perC]
					var v, tolerance float64
					switch c.c {
					case f16:
						v, tolerance = f16ToF64(uint16(word>>(16*(i&1)))), size*0x1p-11
					case s32:
						v = float64(int32(word))
						if strings.HasPrefix(c.types, "satfinite") {
							want = min(max(want, -1<<31), 1<<31-1)
						} else {
							want = float64(int32(int64(want)))
						}
					default:
						v, tolerance = float64(toF32(word)), size*0x1p-24
					}
					if math.Abs(v-want) > tolerance {
						t.Fatalf("row %d column %d: %v, want %v", row, col, v, want)
					}
				}
			}
		})
	}
}

func runMma(t *testing.T, c mmaCase, words []uint32, na, nb, nc int) []uint32 {
	var loads, stores strings.Builder
	n := na + nb + nc
	for i := range n {
		reg := fmt.Sprintf("a%d", i)
		switch {
		case i >= na+nb:
			reg = fmt.Sprintf("c%d", i-na-nb)
		case i >= na:
			reg = fmt.Sprintf("b%d", i-na)
		}
		fmt.Fprintf(&loads, "ld.global.b32 %s, [at+%d];\n", reg, 4*i)
	}
	for i := range nc {
		fmt.Fprintf(&stores, "st.global.b32 [to+%d], c%d;\n", 4*i, i)
	}
	types := c.types
	layout := "row.col."
	ptx := fmt.Sprintf(`%s.entry k(.param .u64 in, .param .u64 out) {
.reg .u64 at, to; .reg .u32 lane; .reg .b32 a<8>, b<8>, c<8>;
mov.u32 lane, %%tid.x; ld.param.u64 at, [in]; ld.param.u64 to, [out];
mad.wide.u32 at, lane, %d, at; mad.wide.u32 to, lane, %d, to;
%s
mma.sync.aligned.%s.%s%s {%s}, {%s}, {%s}, {%s};
%s
}
`, header, 4*n, 4*nc, loads.String(), c.shape, layout, types, names("c", nc), names("a", na), names("b", nb), names("c", nc), stores.String())
	r := loadRig(t, Config{}, []byte(ptx))
	in, out := put(r, words), r.alloc(4*32*nc)
	r.run("k", [3]int{1, 1, 1}, [3]int{32, 1, 1}, 0, in, out)
	return get[uint32](r, out, 32*nc)
}

// ldmatrix gives lane l row l/4, columns 2(l%4) and the next of each matrix; .trans the same of the transposed one.
func TestLdmatrix(t *testing.T) {
	for _, n := range []int{1, 2, 4} {
		for _, trans := range []string{"", ".trans"} {
			ptx := fmt.Sprintf(`%s.entry k(.param .u64 in, .param .u64 out) {
.reg .u64 at, to; .reg .b32 lane, s, v<4>, d<4>, a; .shared .align 16 .b8 tile[512];
mov.u32 lane, %%tid.x; ld.param.u64 at, [in]; ld.param.u64 to, [out];
mad.wide.u32 at, lane, 16, at; mad.wide.u32 to, lane, 16, to;
mov.u32 s, tile; mad.lo.u32 a, lane, 16, s;
ld.global.v4.b32 {v0, v1, v2, v3}, [at]; st.shared.v4.b32 [a], {v0, v1, v2, v3};
bar.sync 0;
xor.b32 a, lane, 3; mad.lo.u32 a, a, 16, s; // rows in another order
mov.b32 d0, 0; mov.b32 d1, 0; mov.b32 d2, 0; mov.b32 d3, 0;
ldmatrix.sync.aligned.m8n8.x%d%s.shared.b16 {%s}, [a];
st.global.v4.b32 [to], {d0, d1, d2, d3};
}
`, header, n, trans, names("d", n))
			r := loadRig(t, Config{}, []byte(ptx))
			data := make([]uint16, 256)
			for i := range data {
				data[i] = uint16(i)
			}
			out := r.alloc(512)
			r.run("k", [3]int{1, 1, 1}, [3]int{32, 1, 1}, 0, put(r, data), out)
			got := get[uint16](r, out, 256)
			for lane := range 32 {
				for i := range 2 * n {
					row, col := lane/4, lane%4*2+i%2
					if trans != "" {
						row, col = col, row
					}
					want := uint16(((i/2*8+row)^3)*8 + col)
					if v := got[lane*8+i]; v != want {
						t.Fatalf("x%d%s: lane %d element %d is %d, want %d", n, trans, lane, i, v, want)
					}
				}
			}
		}
	}
}
