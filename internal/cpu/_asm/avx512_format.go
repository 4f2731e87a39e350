package main

import (
	"encoding/binary"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// formats16 emit a step as four registers of sixteen float32. With the weight's number written b d q k, two bits for d and
// q and one for each other, a register is group 2b+k, and its lane 4q+d (package cpu, order.go).
//
// That is the order for sixteen bytes of codes, loaded four times over: word d of each quarter holds the weights d, and a
// shift by the lane's own count brings the one with q and k to the bottom. The values are a register of sixteen float32,
// and a permutation by the codes looks them up: it reads the lower four bits of a lane and no others. So 32 weights take
// two shifts and two permutations, on one port each of an Intel processor, besides two multiply-adds on either; widening
// the bytes by VPMOVZXBD would take three to one.
func formats16() []format {
	all := []format{
		{name: "MXFP4", bytes: 32, scales: 2, setup: mxfp4Constants, decode: decodeMXFP4(16, func(b int, _, scale Mem) Mem { return scale.Offset(b) })},
		{name: "MXFP4GGML", bytes: 34, setup: ggmlConstants, decode: decodeGGML},
		{name: "MXFP4Ollama", bytes: 34, setup: mxfp4Constants, decode: decodeMXFP4(17, func(b int, data, _ Mem) Mem { return data.Offset(17 * b) })},
		{name: "BF16", bytes: 128, setup: wordPairs, decode: decodeBF16x16},
		{name: "F16", bytes: 128, setup: evensAndOdds, decode: decodePairs(func(src Mem, at int, v VecVirtual) { VCVTPH2PS(src.Offset(2*at), v) })},
		{name: "F32", bytes: 256, setup: evensAndOdds, decode: decodePairs(func(src Mem, at int, v VecVirtual) { VMOVUPS(src.Offset(4*at), v) })},
		{name: "Q8_0", bytes: 68, setup: wordPairs, decode: decodeQ8x16},
		codes16("CodesF32", nil, func(constants, VecVirtual) {}),
		codes16("CodesF16", nil, roundF16x16),
		codes16("CodesBF16", bf16Rounding, roundBF16x16),
	}
	for i := range all {
		all[i].wide = true
	}
	return all
}

// broadcast32 fills a register with a constant of 32 bits.
func broadcast32(name string, bits uint32) VecVirtual {
	v := ZMM()
	VPBROADCASTD(global32(name, bits), v)
	return v
}

// lanes16 loads a constant for each lane.
func lanes16(name string, lane func(i int) uint32) VecVirtual {
	var b []byte
	for i := range 16 {
		b = binary.LittleEndian.AppendUint32(b, lane(i))
	}
	v := ZMM()
	VMOVDQU32(global(name, b), v)
	return v
}

// pairOf is the pair of weights, 2i and 2i+1, that lane l takes.
func pairOf(l int) uint32 { return uint32(l%4*4 + l/4) }

func wordPairs() (c constants) {
	c.place[0] = lanes16("pairs", pairOf)
	c.upper = broadcast32("upper", 0xFFFF0000)
	return c
}

// decodeBF16x16: a word holds an even weight in its lower half and an odd one in its upper half.
func decodeBF16x16(c constants, data, _ Mem, emit func(int, VecVirtual)) {
	for b := range 2 {
		even, odd := ZMM(), ZMM()
		VPERMD(data.Offset(64*b), c.place[0], odd)
		VPSLLD(Imm(16), odd, even)
		VPANDD(c.upper, odd, odd)
		emit(2*b, even)
		emit(2*b+1, odd)
	}
}

func evensAndOdds() (c constants) {
	c.place[0] = lanes16("evens", func(l int) uint32 { return 2 * pairOf(l) })
	c.place[1] = lanes16("odds", func(l int) uint32 { return 2*pairOf(l) + 1 })
	return c
}

// decodePairs sorts weights that are loaded in their own order.
func decodePairs(load func(src Mem, at int, v VecVirtual)) func(constants, Mem, Mem, func(int, VecVirtual)) {
	return func(c constants, data, _ Mem, emit func(int, VecVirtual)) {
		for b := range 2 {
			low, high, even := ZMM(), ZMM(), ZMM()
			load(data, 32*b, low)
			load(data, 32*b+16, high)
			VMOVAPS(low, even)
			VPERMT2PS(high, c.place[0], even)
			VPERMT2PS(high, c.place[1], low)
			emit(2*b, even)
			emit(2*b+1, low)
		}
	}
}

// decodeQ8x16: blocks of a scale in F16 and 32 signed bytes, two of them in a lane. The first is converted where a shift
// leaves it, 2^24 times too large, with the scale as much too small: powers of two change no digit, and a product of 8 and
// 11 bits is exact.
func decodeQ8x16(c constants, data, _ Mem, emit func(int, VecVirtual)) {
	for b := range 2 {
		block := data.Offset(34 * b)
		scale, small, even, odd := ZMM(), ZMM(), ZMM(), ZMM()
		VCVTPH2PS(block, scale.AsX()) // and three more, which are bytes of the block
		VBROADCASTSS(scale.AsX(), scale)
		VMULPS_BCST(constant(1.0/(1<<24)), scale, small)
		VPMOVSXWD(block.Offset(2), odd)
		VPERMD(odd, c.place[0], odd)
		VPSLLD(Imm(24), odd, even)
		VPSRAD(Imm(8), odd, odd)
		VCVTDQ2PS(even, even)
		VCVTDQ2PS(odd, odd)
		VMULPS(small, even, even)
		VMULPS(scale, odd, odd)
		emit(2*b, even)
		emit(2*b+1, odd)
	}
}

// nibbleShifts are the counts that bring a lane's weight to the bottom of its word: those for k 0 and for k 1.
func nibbleShifts() (first, second VecVirtual) {
	return lanes16("low_nibble", func(l int) uint32 { return uint32(l / 4 * 8) }),
		lanes16("high_nibble", func(l int) uint32 { return uint32(l/4*8 + 4) })
}

// scaledTables: for each scale sixteen values, so that no weight is ever multiplied by its scale.
func scaledTables() (c constants) {
	c.tables = GP64()
	LEAQ(NewDataAddr(Symbol{Name: "·mxfp4Floats"}, 0), c.tables)
	return c
}

func mxfp4Constants() constants {
	c := scaledTables()
	c.place[0], c.place[1] = nibbleShifts()
	return c
}

// lookUpHalf finds the weights of half a step in the table.
func (c constants) lookUpHalf(codes, table VecVirtual, b int, emit func(int, VecVirtual)) {
	even, odd := ZMM(), ZMM()
	VPSRLVD(c.place[0], codes, even)
	VPSRLVD(c.place[1], codes, odd)
	VPERMPS(table, even, even)
	VPERMPS(table, odd, odd)
	emit(2*b, even)
	emit(2*b+1, odd)
}

// scaled loads the values under the scale at the place.
func (c constants) scaled(scale Mem) VecVirtual {
	i, table := GP64(), ZMM()
	MOVBQZX(scale, i)
	SHLQ(Imm(6), i)
	VMOVUPS(Mem{Base: c.tables, Index: i, Scale: 1}, table)
	return table
}

// decodeMXFP4: blocks whose byte j has element 2j in its lower nibble and 2j+1 in its higher one, size bytes apart, their
// codes at the end of these.
func decodeMXFP4(size int, scale func(b int, data, scale Mem) Mem) func(constants, Mem, Mem, func(int, VecVirtual)) {
	return func(c constants, data, scales Mem, emit func(int, VecVirtual)) {
		for b := range 2 {
			table := c.scaled(scale(b, data, scales))
			codes := ZMM()
			VBROADCASTI32X4(data.Offset(size*(b+1)-16), codes)
			c.lookUpHalf(codes, table, b, emit)
		}
	}
}

// ggmlConstants: byte j of ggml's blocks has elements j and j+16, the lower bits of d choose a pair of words, its upper
// bit the nibble, and q a word of the pair and two of its bytes.
func ggmlConstants() constants {
	c := scaledTables()
	shift := func(l int) uint32 { return uint32(l/4%2*16 + l%4/2*4) }
	c.place[0] = lanes16("ggml_even", shift)
	c.place[1] = lanes16("ggml_odd", func(l int) uint32 { return shift(l) + 8 })
	c.place[2] = lanes16("ggml_words", func(l int) uint32 { return uint32(l%2*2 + l/8) })
	return c
}

func decodeGGML(c constants, data, _ Mem, emit func(int, VecVirtual)) {
	for b := range 2 {
		table := c.scaled(data.Offset(17 * b))
		codes := ZMM()
		VBROADCASTI32X4(data.Offset(17*b+1), codes)
		VPERMD(codes, c.place[2], codes)
		c.lookUpHalf(codes, table, b, emit)
	}
}

// codes16 are bitsandbytes' NF4 and FP4, the first element of a byte in its high nibble: sixteen float32 times a step's
// scale, rounded to the tensor's own type, are the table of the step.
func codes16(name string, rounding func(c *constants), round func(c constants, table VecVirtual)) format {
	setup := func() (c constants) {
		c.place[1], c.place[0] = nibbleShifts()
		c.table = ZMM()
		VMOVUPS(Mem{Base: Load(Param("table"), GP64())}, c.table)
		if rounding != nil {
			rounding(&c)
		}
		return c
	}
	return format{name: name, bytes: 32, scales: 4, table: true, setup: setup, decode: func(c constants, data, scale Mem, emit func(int, VecVirtual)) {
		table := ZMM()
		VMULPS_BCST(scale, c.table, table)
		round(c, table)
		for b := range 2 {
			codes := ZMM()
			VBROADCASTI32X4(data.Offset(16*b), codes)
			c.lookUpHalf(codes, table, b, emit)
		}
	}}
}

func roundF16x16(_ constants, v VecVirtual) {
	h := YMM()
	VCVTPS2PH(Imm(0), v, h) // to nearest, ties to even
	VCVTPH2PS(h, v)
}

func bf16Rounding(c *constants) {
	c.upper, c.last, c.below = broadcast32("upper", 0xFFFF0000), broadcast32("last_bf16", 1<<16), broadcast32("below_half", 0x7FFF)
}

// roundBF16x16 rounds to the nearest bfloat16, ties to even: half a unit is added, less the last bit of all where the
// result would be even. A NaN among the scales is the plain one, so half a unit may be added to it.
func roundBF16x16(c constants, v VecVirtual) {
	odd := K()
	VPTESTMD(c.last, v, odd)
	VPADDD(c.below, v, v)
	VPADDD_BCST(global32("one", 1), v, odd, v)
	VPANDD(c.upper, v, v)
}
