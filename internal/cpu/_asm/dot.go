package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Every sum of products is taken in one order, whichever kernel takes it: lane l of eight adds elements l, l+8, l+16, ...
// one fused multiply-add after the other, and reduce4 adds the lanes. So a result does not depend on how many rows a
// batch has.

// dotKernels emit y[j] = x · row j for four or eight rows in the format of the checkpoint. So many rows keep as many
// chains of multiply-adds in flight; their bytes are streams of which the processor's prefetcher sees only starts, so
// the kernel itself asks for the rows that come after, line by line.
func dotKernels() {
	for _, f := range formats() {
		dotKernel(f)
	}
	for _, r := range roundings() {
		dotCodes(r)
	}
}

func dotKernel(f format) {
	TEXT("dot"+f.name, NOSPLIT, "func(y *float32, x *float32, data *byte, stride int, scales *byte, scaleStride int, blocks int, ahead int)")
	Doc(fmt.Sprintf("dot%s multiplies %d rows, stride bytes apart, of 32*blocks weights each by x and writes %d results.", f.name, f.rows, f.rows),
		"ahead is the distance in bytes at which memory is asked for before its time.")
	Pragma("noescape")
	x, data := Load(Param("x"), GP64()), newRows("data", "stride", f.rows)
	var scale *rows
	if f.apart {
		scale = newRows("scales", "scaleStride", f.rows)
	}
	ahead := Load(Param("ahead"), GP64())
	ADDQ(data.base[0], ahead)
	blocks := Load(Param("blocks"), GP64())
	c := f.setup()
	acc := zeroed(f.rows)

	Label("block")
	for p := 0; p < f.rows*f.bytes; p += 64 {
		PREFETCHT0(Mem{Base: ahead, Disp: p})
	}
	ADDQ(U32(f.rows*f.bytes), ahead)
	for r := range f.rows {
		var s Mem
		if f.apart {
			s = scale.row(r)
		}
		f.decode(c, data.row(r), s, func(g int, v VecVirtual) {
			VFMADD231PS(Mem{Base: x, Disp: 32 * g}, v, acc[r])
		})
	}
	ADDQ(U32(128), x)
	data.advance(f.bytes)
	if f.apart {
		scale.advance(1)
	}
	DECQ(blocks)
	JNZ(LabelRef("block"))
	y := Load(Param("y"), GP64())
	for r := 0; r < f.rows; r += 4 {
		VMOVUPS(reduce4(acc[r:r+4]), Mem{Base: y, Disp: 4 * r})
	}
	VZEROUPPER()
	RET()
}

// rows are up to eight streams, a stride apart.
type rows struct {
	base            []Register // of the first and the fifth row
	stride, stride3 Register
}

func newRows(base, stride string, n int) *rows {
	r := &rows{base: []Register{Load(Param(base), GP64())}, stride: Load(Param(stride), GP64()), stride3: GP64()}
	LEAQ(Mem{Base: r.stride, Index: r.stride, Scale: 2}, r.stride3)
	if n > 4 {
		fifth := GP64()
		LEAQ(Mem{Base: r.base[0], Index: r.stride, Scale: 4}, fifth)
		r.base = append(r.base, fifth)
	}
	return r
}

func (r *rows) row(i int) Mem { return row(r.base[i/4], r.stride, r.stride3, i%4) }

func (r *rows) advance(bytes int) {
	for _, b := range r.base {
		ADDQ(U32(bytes), b)
	}
}

// row addresses the same place in row r of four.
func row(base, stride, stride3 Register, r int) Mem {
	switch r {
	case 1, 2:
		return Mem{Base: base, Index: stride, Scale: uint8(r)}
	case 3:
		return Mem{Base: base, Index: stride3, Scale: 1}
	}
	return Mem{Base: base}
}

func zeroed(n int) []VecVirtual {
	v := make([]VecVirtual, n)
	for i := range v {
		v[i] = YMM()
		VXORPS(v[i], v[i], v[i])
	}
	return v
}

// reduce4 adds the eight lanes of each of four registers: l and l+4 first, then neighbours, then pairs.
func reduce4(acc []VecVirtual) Op {
	for _, a := range acc {
		t := XMM()
		VEXTRACTF128(Imm(1), a, t)
		VADDPS(t, a.AsX(), a.AsX())
	}
	a, b := acc[0].AsX(), acc[2].AsX()
	VHADDPS(acc[1].AsX(), a, a)
	VHADDPS(acc[3].AsX(), b, b)
	VHADDPS(b, a, a)
	return a
}

// decodeKernels emit dst = the weights of consecutive blocks, bit for bit as dtype decodes them.
func decodeKernels() {
	for _, f := range formats() {
		decodeKernel(f)
	}
	for _, r := range roundings() {
		decodeCodes(r)
	}
}

func decodeKernel(f format) {
	TEXT("decode"+f.name, NOSPLIT, "func(dst *float32, data *byte, scales *byte, blocks int)")
	Doc(fmt.Sprintf("decode%s writes 32*blocks consecutive weights as float32.", f.name))
	Pragma("noescape")
	dst, data := Load(Param("dst"), GP64()), Load(Param("data"), GP64())
	var scale Mem
	if f.apart {
		scale = Mem{Base: Load(Param("scales"), GP64())}
	}
	blocks := Load(Param("blocks"), GP64())
	c := f.setup()
	Label("block")
	f.decode(c, Mem{Base: data}, scale, func(g int, v VecVirtual) {
		VMOVUPS(v, Mem{Base: dst, Disp: 32 * g})
	})
	ADDQ(U32(128), dst)
	ADDQ(U32(f.bytes), data)
	if f.apart {
		INCQ(scale.Base)
	}
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}
