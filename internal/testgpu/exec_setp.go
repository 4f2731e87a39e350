package testgpu

import "unsafe"

// Comparisons. For floats the plain ones are false for NaN, the ...u ones true.
const (
	cmpEq = iota
	cmpNe
	cmpLt
	cmpLe
	cmpGt
	cmpGe
	cmpEqu
	cmpNeu
	cmpLtu
	cmpLeu
	cmpGtu
	cmpGeu
	cmpNum
	cmpNaN
)

var comparisons = map[string]uint8{"eq": cmpEq, "ne": cmpNe, "lt": cmpLt, "le": cmpLe, "gt": cmpGt, "ge": cmpGe,
	"lo": cmpLt, "ls": cmpLe, "hi": cmpGt, "hs": cmpGe,
	"equ": cmpEqu, "neu": cmpNeu, "ltu": cmpLtu, "leu": cmpLeu, "gtu": cmpGtu, "geu": cmpGeu, "num": cmpNum, "nan": cmpNaN}

type number interface {
	int32 | uint32 | int64 | uint64 | float32 | float64
}

// compare returns the mask of lanes where a op b.
func compare[T number](op uint8, a, b *[32]T) (m uint32) {
	switch op {
	case cmpEq:
		for l := range a {
			m |= b2u(a[l] == b[l]) << l
		}
	case cmpNe: // ordered: false for NaN, which is above, below and equal to nothing
		for l := range a {
			m |= (b2u(a[l] < b[l]) | b2u(a[l] > b[l])) << l
		}
	case cmpLt:
		for l := range a {
			m |= b2u(a[l] < b[l]) << l
		}
	case cmpLe:
		for l := range a {
			m |= b2u(a[l] <= b[l]) << l
		}
	case cmpGt:
		for l := range a {
			m |= b2u(a[l] > b[l]) << l
		}
	case cmpGe:
		for l := range a {
			m |= b2u(a[l] >= b[l]) << l
		}
	case cmpNum:
		for l := range a {
			m |= b2u(a[l] == a[l] && b[l] == b[l]) << l
		}
	case cmpNaN:
		return ^compare(cmpNum, a, b)
	case cmpNeu:
		return ^compare(cmpEq, a, b)
	default: // an unordered comparison is the opposite of the ordered opposite
		return ^compare([...]uint8{cmpEqu: cmpNe, cmpLtu: cmpGe, cmpLeu: cmpGt, cmpGtu: cmpLe, cmpGeu: cmpLt}[op], a, b)
	}
	return m
}

func as[T number, L lanes | lanes64](p *L) *[32]T { return (*[32]T)(unsafe.Pointer(p)) }

// compareOperands compares the operands of in, whose type is in width.
func (w *warp) compareOperands(in *inst) uint32 {
	switch scalar(in.width) {
	case u32:
		return compare(in.sub, w.r32(in.a), w.r32(in.b))
	case s32:
		return compare(in.sub, as[int32](w.r32(in.a)), as[int32](w.r32(in.b)))
	case u64:
		return compare(in.sub, w.r64(in.a), w.r64(in.b))
	case s64:
		return compare(in.sub, as[int64](w.r64(in.a)), as[int64](w.r64(in.b)))
	case f32:
		return compare(in.sub, as[float32](w.r32(in.a)), as[float32](w.r32(in.b)))
	}
	return compare(in.sub, as[float64](w.r64(in.a)), as[float64](w.r64(in.b)))
}

func execSetp(w *warp, in *inst) { w.setPred(in.d, w.compareOperands(in)) }

const (
	boolNone = iota
	boolAnd
	boolOr
	boolXor
)

func combine(op uint8, t, c uint32) uint32 {
	switch op {
	case boolAnd:
		return t & c
	case boolOr:
		return t | c
	case boolXor:
		return t ^ c
	}
	return t
}

// execSetpBool is setp with a second result or a boolean combination (flags) with predicate c.
func execSetpBool(w *warp, in *inst) {
	t, c := w.compareOperands(in), w.pred(in.c)
	p, q := combine(in.flags, t, c), combine(in.flags, ^t, c)
	if in.d >= 0 {
		w.setPred(in.d, p)
	}
	if in.second >= 0 {
		w.setPred(in.second, q)
	}
}

// execSet writes imm where the comparison holds, else 0.
func execSet(w *warp, in *inst) {
	t := combine(in.flags, w.compareOperands(in), w.pred(in.c))
	d := w.dst32(in)
	for l := range d {
		d[l] = uint32(in.imm) & -(t >> l & 1)
	}
}
