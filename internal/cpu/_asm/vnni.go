package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Products of rounded activations by VPDPBUSD, which adds four products of a byte without a sign and one with a sign to a
// lane of 32 bits: the lanes and the exact integers that int8.go's kernels have. A register holds a step of two rows of
// weights, one above the other, each with the eight running sums that it has there, so that results are the same bits.
// Four rows of weights share every load of activations.

// vnniIntegers is a format's decoding, of rows 2*pair and 2*pair+1 of four.
type vnniIntegers struct {
	name          string
	bytes, scales int // of a step
	setup         func(c *vnniConstants)
	decode        func(c *vnniConstants, pair int) vnniWeights
	shift         uint64 // the step's bias is for int8Bias added to a weight; here it is that, so many bits higher
}

type vnniConstants struct {
	data, stride, stride3       Register
	scale, sstride, sstride3    Register
	nibble, table, sign, spread VecVirtual
	halves, i                   Register
}

type vnniWeights struct{ low, high, scale VecVirtual }

func (c *vnniConstants) dataAt(r int) Mem  { return row(c.data, c.stride, c.stride3, r) }
func (c *vnniConstants) scaleAt(r int) Mem { return row(c.scale, c.sstride, c.sstride3, r) }

func vnniKernels() {
	for _, f := range []vnniIntegers{
		vnniMXFP4("MXFP4", 32, 2), vnniMXFP4("MXFP4GGML", 34, 0), vnniMXFP4("MXFP4Ollama", 34, 0), vnniQ8(),
	} {
		for _, rows := range []int{1, 2, 4, 8} {
			vnniKernel(f, rows)
		}
	}
}

func fill64(pattern ...byte) []byte { return append(fill(pattern...), fill(pattern...)...) }

func load64(name string, b []byte) VecVirtual {
	v := ZMM()
	VMOVDQU64(global(name, b), v)
	return v
}

func vnniKernel(f vnniIntegers, rows int) {
	name := fmt.Sprintf("vnni%sx%d", f.name, rows)
	TEXT(name, NOSPLIT, "func(y *float32, stride int, x *byte, at *int, data *byte, dataStride int, scales *byte, scaleStride int, quads int, steps int)")
	Doc(fmt.Sprintf("%s multiplies 4*quads rows of %d*steps weights, dataStride bytes apart, by %d of rounded activations, at[i] bytes", name, step, rows),
		"from x, and writes the results of each of these stride bytes behind those of the one before. quads and steps are at least 1.")
	Pragma("noescape")
	c := &vnniConstants{data: Load(Param("data"), GP64()), stride: Load(Param("dataStride"), GP64()), stride3: GP64(), i: GP64()}
	LEAQ(Mem{Base: c.stride, Index: c.stride, Scale: 2}, c.stride3)
	if f.scales > 0 {
		c.scale, c.sstride, c.sstride3 = Load(Param("scales"), GP64()), Load(Param("scaleStride"), GP64()), GP64()
		LEAQ(Mem{Base: c.sstride, Index: c.sstride, Scale: 2}, c.sstride3)
	}
	f.setup(c)
	at, x, steps, t := Load(Param("at"), GP64()), GP64(), GP64(), GP64()

	Label("quad")
	acc := zeroed16(2 * rows)
	Load(Param("x"), x)
	Load(Param("steps"), steps)
	Label("step")
	LEAQ(Mem{Base: c.data, Index: c.stride, Scale: 4}, c.i)
	for r := range 4 {
		PREFETCHT0(row(c.i, c.stride, c.stride3, r)) // the next four rows
	}
	w := [2]vnniWeights{f.decode(c, 0), f.decode(c, 1)}
	for i := range rows {
		MOVQ(Mem{Base: at, Disp: 8 * i}, t)
		part := func(disp int) Mem { return Mem{Base: x, Index: t, Scale: 1, Disp: disp} }
		sum, low, high, s := [2]VecVirtual{ZMM(), ZMM()}, ZMM(), ZMM(), ZMM()
		VBROADCASTI64X4(part(stepBias), sum[0])
		if f.shift > 0 {
			VPSLLD(Imm(f.shift), sum[0], sum[0])
		}
		VMOVDQA64(sum[0], sum[1])
		VBROADCASTI64X4(part(stepLow), low)
		VBROADCASTI64X4(part(stepHigh), high)
		VBROADCASTF64X4(part(stepScale), s)
		for pair := range w {
			VPDPBUSD(low, w[pair].low, sum[pair])
			VPDPBUSD(high, w[pair].high, sum[pair])
		}
		for pair := range w {
			both := ZMM()
			VCVTDQ2PS(sum[pair], sum[pair])
			VMULPS(s, w[pair].scale, both)
			VFMADD231PS(sum[pair], both, acc[2*i+pair])
		}
	}
	ADDQ(U32(stepBytes), x)
	ADDQ(Imm(uint64(f.bytes)), c.data)
	if f.scales > 0 {
		ADDQ(Imm(uint64(f.scales)), c.scale)
	}
	DECQ(steps)
	JNZ(LabelRef("step"))

	ADDQ(c.stride3, c.data)
	if f.scales > 0 {
		ADDQ(c.sstride3, c.scale)
	}
	firsts := load64("firsts", quarterLanes())
	MOVQ(param("y"), t)
	ADDQ(Imm(16), param("y"))
	for i := range rows {
		VMOVUPS(vnniReduce(acc[2*i], acc[2*i+1], firsts), Mem{Base: t})
		if i+1 < rows {
			ADDQ(param("stride"), t)
		}
	}
	DECQ(param("quads"))
	JNZ(LabelRef("quad"))
	VZEROUPPER()
	RET()
}

// quarterLanes are the numbers of the lanes 0, 4, 8 and 12, for a permutation.
func quarterLanes() (b []byte) {
	for i := range 16 {
		b = append(b, byte(i%4*4), 0, 0, 0)
	}
	return b
}

// vnniReduce adds the eight lanes of four rows, two in each register, as reduce4 does.
func vnniReduce(a, b, firsts VecVirtual) Op {
	v, t := ZMM(), ZMM()
	VSHUFF32X4(Imm(0x88), b, a, v)
	VSHUFF32X4(Imm(0xDD), b, a, t)
	VADDPS(t, v, v)
	for _, swap := range []uint64{0xB1, 0x4E} { // neighbours, then pairs
		VPERMILPS(Imm(swap), v, t)
		VADDPS(t, v, v)
	}
	VPERMPS(v, firsts, v)
	return v.AsX()
}

// vnniMXFP4 adds int8Bias to a weight's integer, as int8MXFP4 does, and takes it back by the step's bias.
func vnniMXFP4(name string, bytes, scales int) vnniIntegers {
	var masks [4]OpmaskVirtual
	setup := func(c *vnniConstants) {
		c.nibble = load64("nibbles", fill64(0x0F))
		c.table = load64("e2m1_above", fill64(biasedE2M1()...))
		c.halves = GP64()
		LEAQ(NewDataAddr(Symbol{Name: "·halfE8M0"}, 0), c.halves)
		for b := 1; b < 4; b++ {
			bits := GP32()
			MOVL(U32(0xF<<(4*b)), bits)
			masks[b] = K()
			KMOVW(bits, masks[b])
		}
	}
	decode := func(c *vnniConstants, pair int) vnniWeights {
		w := vnniWeights{ZMM(), ZMM(), ZMM()}
		for b := range 4 {
			r := 2*pair + b/2
			from := c.dataAt(r).Offset(17 * (b % 2))
			if scales > 0 {
				from = c.scaleAt(r).Offset(b % 2)
			}
			MOVBQZX(from, c.i)
			half := Mem{Base: c.halves, Index: c.i, Scale: 4}
			if b == 0 {
				VBROADCASTSS(half, w.scale)
			} else {
				VBROADCASTSS(half, masks[b], w.scale)
			}
		}
		codes := ZMM()
		first, second := c.dataAt(2*pair), c.dataAt(2*pair+1)
		if scales > 0 {
			VMOVDQU64(first, codes.AsY())
			VINSERTI64X4(Imm(1), second, codes, codes)
		} else {
			VMOVDQU64(first.Offset(1), codes.AsX())
			VINSERTI32X4(Imm(1), first.Offset(18), codes, codes)
			VINSERTI32X4(Imm(2), second.Offset(1), codes, codes)
			VINSERTI32X4(Imm(3), second.Offset(18), codes, codes)
		}
		VPSRLW(Imm(4), codes, w.high)
		VPANDD(c.nibble, codes, w.low)
		VPANDD(c.nibble, w.high, w.high)
		if name != "MXFP4GGML" { // there a byte holds neighbours, not weights that are 16 apart
			VPUNPCKLBW(w.high, w.low, codes)
			VPUNPCKHBW(w.high, w.low, w.high)
			w.low = codes
		}
		VPSHUFB(w.low, c.table, w.low)
		VPSHUFB(w.high, c.table, w.high)
		return w
	}
	return vnniIntegers{name: name, bytes: bytes, scales: scales, setup: setup, decode: decode}
}

// vnniQ8 adds 128 to a weight, eight times int8Bias.
func vnniQ8() vnniIntegers {
	setup := func(c *vnniConstants) {
		c.sign = load64("signs", fill64(0x80))
		var b []byte
		for i := range 16 {
			b = append(b, byte(i/4), 0, 0, 0)
		}
		c.spread = load64("quarters", b)
	}
	decode := func(c *vnniConstants, pair int) vnniWeights {
		w := vnniWeights{ZMM(), ZMM(), ZMM()}
		first, second := c.dataAt(2*pair), c.dataAt(2*pair+1)
		x := w.scale.AsX()
		VPXORD(x, x, x)
		for b, m := range []Mem{first, first.Offset(34), second, second.Offset(34)} {
			VPINSRW(Imm(uint64(b)), m, x, x)
		}
		VCVTPH2PS(x, x)
		VPERMPS(w.scale, c.spread, w.scale)
		for i, v := range []VecVirtual{w.low, w.high} {
			VMOVDQU64(first.Offset(2+16*i), v.AsX())
			VINSERTI32X4(Imm(1), first.Offset(36+16*i), v, v)
			VINSERTI32X4(Imm(2), second.Offset(2+16*i), v, v)
			VINSERTI32X4(Imm(3), second.Offset(36+16*i), v, v)
			VPXORD(c.sign, v, v)
		}
		return w
	}
	return vnniIntegers{name: "Q8_0", bytes: 68, setup: setup, decode: decode, shift: 3}
}
