package testgpu

import "math/bits"

// Tensor core instructions. A warp holds A [m, k] and B [k, n] in fragments: with group g = lane/4 and t = lane%4, a
// register of A holds a few neighbouring columns of one row, one of B a few neighbouring rows of one column.
//
//	16-bit types, m16n8k16: A registers rows g, g+8, g, g+8, columns 2t.., 2t.., 2t+8.., 2t+8..; B column g, rows 2t.., 2t+8..
//	8-bit types, m16n8k32:  the same with 4t.. and 4t+16..
//	half of k: the first half of the registers. m8: the rows of g only.
//	C and D: row g columns 2t, 2t+1, then row g+8.
type mmaShape struct {
	m, n, k  int
	a, b     scalar
	c, d     scalar
	saturate bool
}

func (s *mmaShape) perRegister() int { return 4 / s.a.size() }

// registers of A, B and C or D.
func (s *mmaShape) fragments() (a, b, c int) {
	per := s.perRegister()
	c = s.m * s.n / 32
	if s.c == f16 {
		c /= 2
	}
	return s.m * s.k / 32 / per, s.k * s.n / 32 / per, c
}

// placeA returns row and first column of register r of A.
func (s *mmaShape) placeA(lane, r int) (row, col int) {
	per := s.perRegister()
	row = lane / 4
	if s.m == 16 {
		row += 8 * (r & 1)
		r >>= 1
	}
	return row, lane%4*per + 4*per*r
}

// placeB returns first row and column of register r of B.
func (s *mmaShape) placeB(lane, r int) (row, col int) {
	per := s.perRegister()
	return lane%4*per + 4*per*r, lane / 4
}

// placeC returns row and column of element i of a lane's part of C.
func placeC(lane, i int) (row, col int) { return lane/4 + 8*(i>>1), lane%4*2 + i&1 }

// whole fails unless all 32 lanes execute the instruction together.
func (w *warp) whole(in *inst) bool {
	if w.mask == fullMask {
		return true
	}
	if w.live != fullMask {
		w.fail(LaunchFailed, bits.TrailingZeros32(w.mask), "lanes %#08x of the warp do not execute this", ^w.live)
	}
	return w.converge(in, fullMask)
}

// matrices are the operands of one mma put together.
type matrices struct {
	a [16][32]float64
	b [32][8]float64
	c [16][8]float64
}

// execMma multiplies: products are exact, sums are float64 (exact for integers), rounded once at the end.
func execMma(w *warp, in *inst) {
	if !w.whole(in) {
		return
	}
	s := &in.more.mma
	var x matrices
	na, nb, nc := s.fragments()
	va, vb, vc := in.vec[nc:nc+na], in.vec[nc+na:nc+na+nb], in.vec[nc+na+nb:]
	if s.perRegister() == 2 {
		w.gatherPairs(s, va, vb, &x)
	} else {
		w.gather(s, va, vb, &x)
	}
	w.gatherC(s, vc, &x)
	for i := range s.m {
		x.row(i, s.k)
	}
	w.scatterD(s, in.vec[:nc], &x)
}

// gatherPairs unpacks A and B of a 16-bit type.
func (w *warp) gatherPairs(s *mmaShape, va, vb []int32, x *matrices) {
	for r, slot := range va {
		reg := w.r32(slot)
		for l, v := range reg {
			a := x.a[(l>>2+8*(r&1))&15][:]
			i := (l&3*2 + 8*(r>>1)) & 14
			a[i], a[i+1] = pairOf(s.a, v)
		}
	}
	for r, slot := range vb {
		reg := w.r32(slot)
		for l, v := range reg {
			i := (l&3*2 + 8*r) & 14
			x.b[i][l>>2&7], x.b[i+1][l>>2&7] = pairOf(s.b, v)
		}
	}
}

func pairOf(t scalar, v uint32) (low, high float64) {
	if t == bf16 {
		return float64(toF32(v << 16)), float64(toF32(v & 0xffff0000))
	}
	return f16ToF64(uint16(v)), f16ToF64(uint16(v >> 16))
}

// gather unpacks A and B of any type.
func (w *warp) gather(s *mmaShape, va, vb []int32, x *matrices) {
	var v [4]float64
	for r, slot := range va {
		reg := w.r32(slot)
		for l := range 32 {
			row, col := s.placeA(l, r)
			unpack(s.a, reg[l], v[:])
			copy(x.a[row][col:], v[:s.perRegister()])
		}
	}
	for r, slot := range vb {
		reg := w.r32(slot)
		for l := range 32 {
			row, col := s.placeB(l, r)
			unpack(s.b, reg[l], v[:])
			for i := range s.perRegister() {
				x.b[row+i][col] = v[i]
			}
		}
	}
}

// row adds row i of A times B to row i of C. Eight sums, so that they need not wait for each other.
func (x *matrices) row(i, k int) {
	var s0, s1, s2, s3, s4, s5, s6, s7 float64
	for j, v := range x.a[i][:k] {
		b := &x.b[j]
		s0 += v * b[0]
		s1 += v * b[1]
		s2 += v * b[2]
		s3 += v * b[3]
		s4 += v * b[4]
		s5 += v * b[5]
		s6 += v * b[6]
		s7 += v * b[7]
	}
	c := &x.c[i]
	for j, s := range [8]float64{s0, s1, s2, s3, s4, s5, s6, s7} {
		c[j] += s
	}
}

// unpack writes the elements of one register of tf32, u8 or s8.
func unpack(t scalar, v uint32, to []float64) {
	switch t {
	case tf32:
		to[0] = float64(toF32(v &^ (1<<13 - 1)))
	case u8:
		for i := range 4 {
			to[i] = float64(uint8(v >> (8 * i)))
		}
	case s8:
		for i := range 4 {
			to[i] = float64(int8(v >> (8 * i)))
		}
	}
}

func (w *warp) gatherC(s *mmaShape, slots []int32, x *matrices) {
	for i, slot := range slots {
		reg := w.r32(slot)
		if s.c == f32 {
			for l, v := range reg {
				x.c[(l>>2+8*(i>>1))&15][l&3*2+i&1] = float64(toF32(v))
			}
			continue
		}
		for l := range 32 {
			if s.c == f16 {
				row, col := placeC(l, 2*i)
				x.c[row][col], x.c[row][col+1] = f16ToF64(uint16(reg[l])), f16ToF64(uint16(reg[l]>>16))
				continue
			}
			row, col := placeC(l, i)
			x.c[row][col] = float64(int32(reg[l]))
		}
	}
}

func (w *warp) scatterD(s *mmaShape, slots []int32, x *matrices) {
	for i, slot := range slots {
		reg := &w.r[slot]
		for l := range 32 {
			if s.d == f16 {
				row, col := placeC(l, 2*i)
				reg[l] = uint32(f64ToF16(x.c[row][col], nearestEven)) | uint32(f64ToF16(x.c[row][col+1], nearestEven))<<16
				continue
			}
			row, col := placeC(l, i)
			v := x.c[row][col]
			switch {
			case s.d == f32:
				reg[l] = ofF32(float32(v))
			case s.saturate:
				reg[l] = saturate32(int64(v))
			default:
				reg[l] = uint32(int64(v)) // |v| < 2^53: exact
			}
		}
	}
}

// execLdmatrix loads count 8x8 matrices of 16-bit elements; lane 8i+r holds the address of row r of matrix i.
func execLdmatrix(w *warp, in *inst) {
	if !w.whole(in) {
		return
	}
	var rows [32][]byte
	for l := range 8 * int(in.count) {
		addr := w.address(in, l)
		if space(in.sub) == generic {
			var where space
			if where, addr = resolve(addr); where != shared {
				w.fail(IllegalAddress, l, "ldmatrix from space %s", where)
			}
		}
		rows[l] = w.block.shared.load(w, l, addr, 16, 0)
	}
	trans := in.flags != 0
	for i, slot := range in.vec {
		d := &w.r[slot]
		for l := range 32 {
			g, t := l/4, l%4
			if trans {
				d[l] = uint32(le16(rows[8*i+2*t][2*g:])) | uint32(le16(rows[8*i+2*t+1][2*g:]))<<16
			} else {
				d[l] = le32(rows[8*i+g][4*t:])
			}
		}
	}
}
