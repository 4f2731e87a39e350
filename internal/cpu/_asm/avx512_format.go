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
		{name: "MXFP4", bytes: 32, scales: 2, setup: mxfp4Constants, half: halfMXFP4(0, func(_, scale Mem) Mem { return scale }), quarter: quarterMXFP4},
		{name: "MXFP4GGML", bytes: 34, setup: ggmlConstants, half: halfGGML, quarter: quarterGGML},
		{name: "MXFP4Ollama", bytes: 34, setup: mxfp4Constants, half: halfMXFP4(1, func(data, _ Mem) Mem { return data }), quarter: quarterOllama},
		{name: "BF16", bytes: 128, setup: wordPairs, half: halfBF16, quarter: quarterBF16},
		{name: "F16", bytes: 128, setup: evensAndOdds, half: halfPairs(loadF16), quarter: quarterPairs(loadF16)},
		{name: "F32", bytes: 256, setup: evensAndOdds, half: halfPairs(loadF32), quarter: quarterPairs(loadF32)},
		{name: "Q8_0", bytes: 68, setup: q8Constants, half: halfQ8, quarter: quarterQ8},
		codes16("CodesF32", nil, func(constants, VecVirtual) {}),
		codes16("CodesF16", nil, roundF16x16),
		codes16("CodesBF16", bf16Rounding, roundBF16x16),
	}
	for i := range all {
		f := &all[i]
		f.wide = true
		if f.decode == nil {
			f.decode = f.bothHalves
		}
	}
	return all
}

// bothHalves emits a step.
func (f format) bothHalves(c constants, data, scale Mem, emit func(int, VecVirtual)) {
	for b := range 2 {
		f.half(c, data.Offset(b*f.bytes/2), scale.Offset(b*f.scales/2), func(k int, v VecVirtual) { emit(2*b+k, v) })
	}
}

// broadcast32 fills a register with a constant of 32 bits.
func broadcast32(name string, bits uint32) VecVirtual {
	v := ZMM()
	VPBROADCASTD(global32(name, bits), v)
	return v
}

// lanes16 loads a constant for each lane.
func lanes16(name string, lane func(i int) uint32) VecVirtual {
	v := ZMM()
	VMOVDQU32(lanes16At(name, lane), v)
	return v
}

func lanes16At(name string, lane func(i int) uint32) Mem {
	var b []byte
	for i := range 16 {
		b = binary.LittleEndian.AppendUint32(b, lane(i))
	}
	return global(name, b)
}

// pairOf is the pair of weights, 2i and 2i+1, that lane l takes.
func pairOf(l int) uint32 { return uint32(l%4*4 + l/4) }

func wordPairs() (c constants) {
	c.place[0] = lanes16("pairs", pairOf)
	c.upper = broadcast32("upper", 0xFFFF0000)
	return c
}

// halfBF16: a word holds an even weight in its lower half and an odd one in its upper half.
func halfBF16(c constants, data, _ Mem, emit func(int, VecVirtual)) {
	even, odd := ZMM(), ZMM()
	VPERMD(data, c.place[0], odd)
	VPSLLD(Imm(16), odd, even)
	VPANDD(c.upper, odd, odd)
	emit(0, even)
	emit(1, odd)
}

func evensAndOdds() (c constants) {
	c.place[0] = lanes16("evens", func(l int) uint32 { return 2 * pairOf(l) })
	c.place[1] = lanes16("odds", func(l int) uint32 { return 2*pairOf(l) + 1 })
	return c
}

func loadF16(src Mem, at int, v VecVirtual) { VCVTPH2PS(src.Offset(2*at), v) }

func loadF32(src Mem, at int, v VecVirtual) { VMOVUPS(src.Offset(4*at), v) }

// halfPairs sorts weights that are loaded in their own order.
func halfPairs(load func(src Mem, at int, v VecVirtual)) func(constants, Mem, Mem, func(int, VecVirtual)) {
	return func(c constants, data, _ Mem, emit func(int, VecVirtual)) {
		low, high, even := ZMM(), ZMM(), ZMM()
		load(data, 0, low)
		load(data, 16, high)
		VMOVAPS(low, even)
		VPERMT2PS(high, c.place[0], even)
		VPERMT2PS(high, c.place[1], low)
		emit(0, even)
		emit(1, low)
	}
}

func q8Constants() (c constants) {
	c.tables = GP64()
	LEAQ(NewDataAddr(Symbol{Name: "·q8Scales"}, 0), c.tables)
	c.place[0] = lanes16("upper_pairs", func(l int) uint32 { return pairOf(l) << 16 })
	c.upper = broadcast32("top_byte", 0xFF000000)
	c.words = upperWords()
	return c
}

// halfQ8: a block of a scale in F16 and 32 signed bytes, two of them in a lane. They are converted where they are the top
// of a word, 2^24 times too large, with scales as much too small: powers of two change no digit, and a product of 8 and 11
// bits is exact. These scales come from a table: to convert one and to spread it takes as long as five of the weights.
func halfQ8(c constants, block, _ Mem, emit func(int, VecVirtual)) {
	i, scale, even, odd := GP64(), ZMM(), ZMM(), ZMM()
	MOVWQZX(block, i)
	VBROADCASTSS(Mem{Base: c.tables, Index: i, Scale: 4}, scale)
	VMOVDQU32(block.Offset(2), odd.AsY())
	VPERMW_Z(odd, c.place[0], c.words, odd)
	VPSLLD(Imm(8), odd, even)
	VPANDD(c.upper, odd, odd)
	VCVTDQ2PS(even, even)
	VCVTDQ2PS(odd, odd)
	VMULPS(scale, even, even)
	VMULPS(scale, odd, odd)
	emit(0, even)
	emit(1, odd)
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
func (c constants) lookUpHalf(codes, table VecVirtual, emit func(int, VecVirtual)) {
	even, odd := ZMM(), ZMM()
	VPSRLVD(c.place[0], codes, even)
	VPSRLVD(c.place[1], codes, odd)
	VPERMPS(table, even, even)
	VPERMPS(table, odd, odd)
	emit(0, even)
	emit(1, odd)
}

// scaled loads the values under the scale at the place.
func (c constants) scaled(scale Mem) VecVirtual {
	i, table := GP64(), ZMM()
	MOVBQZX(scale, i)
	SHLQ(Imm(6), i)
	VMOVUPS(Mem{Base: c.tables, Index: i, Scale: 1}, table)
	return table
}

// halfMXFP4: a block whose byte j has element 2j in its lower nibble and 2j+1 in its higher one, so many bytes behind
// its beginning.
func halfMXFP4(codesAt int, scale func(data, scale Mem) Mem) func(constants, Mem, Mem, func(int, VecVirtual)) {
	return func(c constants, data, scales Mem, emit func(int, VecVirtual)) {
		table := c.scaled(scale(data, scales))
		codes := ZMM()
		VBROADCASTI32X4(data.Offset(codesAt), codes)
		c.lookUpHalf(codes, table, emit)
	}
}

// ggmlConstants: byte j of ggml's blocks has elements j and j+16, the lower bits of d choose a pair of words, its upper
// bit the nibble, and q a word of the pair and two of its bytes.
func ggmlConstants() constants {
	c := scaledTables()
	c.place[0] = lanes16("ggml_even", ggmlShift)
	c.place[1] = lanes16("ggml_odd", func(l int) uint32 { return ggmlShift(l) + 8 })
	c.place[2] = lanes16("ggml_words", ggmlWord)
	return c
}

func ggmlShift(l int) uint32 { return uint32(l/4%2*16 + l%4/2*4) }

func ggmlWord(l int) uint32 { return uint32(l%2*2 + l/8) }

func halfGGML(c constants, block, _ Mem, emit func(int, VecVirtual)) {
	table := c.scaled(block)
	codes := ZMM()
	VBROADCASTI32X4(block.Offset(1), codes)
	VPERMD(codes, c.place[2], codes)
	c.lookUpHalf(codes, table, emit)
}

// codes16 are bitsandbytes' NF4 and FP4, the first element of a byte in its high nibble: sixteen float32 times a step's
// scale, rounded to the tensor's own type, are the table of the step.
func codes16(name string, rounding func(c *constants), round func(c constants, table VecVirtual)) format {
	values := func() (c constants) {
		c.table = ZMM()
		VMOVUPS(Mem{Base: Load(Param("table"), GP64())}, c.table)
		if rounding != nil {
			rounding(&c)
		}
		return c
	}
	setup := func() constants {
		c := values()
		c.place[1], c.place[0] = nibbleShifts()
		return c
	}
	scaled := func(c constants, scale Mem) VecVirtual {
		table := ZMM()
		VMULPS_BCST(scale, c.table, table)
		round(c, table)
		return table
	}
	decode := func(c constants, data, scale Mem, emit func(int, VecVirtual)) {
		table := scaled(c, scale)
		for b := range 2 {
			codes := ZMM()
			VBROADCASTI32X4(data.Offset(16*b), codes)
			c.lookUpHalf(codes, table, func(k int, v VecVirtual) { emit(2*b+k, v) })
		}
	}
	quarter := func() (odd func(), decode func(data, scale Mem) VecVirtual) {
		c := values()
		return quarterCodes(highFirst, [2]string{nibbles[1], nibbles[0]}, asTheyAre, func(_, scale Mem) VecVirtual { return scaled(c, scale) }, 0)
	}
	return format{name: name, bytes: 32, scales: 4, table: true, setup: setup, decode: decode, quarter: quarter}
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
