package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Products of activations and weights in BF16 by AMX, whose tiles are sixteen rows of 64 bytes. A tile of weights is what
// lies in memory: 32 weights of up to sixteen rows. A tile of activations has the same 32 of up to sixteen rows, as pairs, a
// pair of all rows side by side (package cpu, bf16.go). The unit begins a product every sixteen cycles, but one that is added
// to the sums of another waits for it, 52 cycles; loading a tile takes eight.
const (
	mostBlocks = 2 // of activations that share the loading of weights
	sumTile    = 0 // to 3, two for each block
	weightTile = 4
	inputTile  = 6 // of a whole block; 7: of the last, which may be narrower
	tileRow    = 64
	tileBytes  = 16 * tileRow
)

// pairFormat emits the weights of a step as two registers of 32 BF16, in their own order.
type pairFormat struct {
	name   string
	bytes  int // of a step in the data stream
	scales int // in the scales' stream
	table  bool
	setup  func() pairConstants
	decode func(c pairConstants, data, scale Mem, emit func(half int, v VecVirtual))
}

type pairConstants struct {
	spread, shift, table VecVirtual
	tables               Register
}

func amxKernels() {
	for blocks := 1; blocks <= mostBlocks; blocks++ {
		amxStored(blocks)
	}
	for _, f := range []pairFormat{
		pairsMXFP4("MXFP4", 32, 2, 16, 0, neighbours), pairsMXFP4("MXFP4GGML", 34, 0, 17, 1, ggmlPairs),
		pairsMXFP4("MXFP4Ollama", 34, 0, 17, 1, neighbours), pairsCodes(),
	} {
		for blocks := 1; blocks <= mostBlocks; blocks++ {
			amxDecoded(f, blocks)
		}
	}
	transposeKernel()
	tileProducts()
}

// neighbours: a byte holds two weights that follow one another, the first in its lower nibble.
func neighbours(i int) (from, shift int) { return i / 2, i % 2 * 4 }

// ggmlPairs: a byte holds weights that are sixteen apart.
func ggmlPairs(i int) (from, shift int) { return i % 16, i / 16 * 4 }

// upperFirst is neighbours with the first weight in the upper nibble.
func upperFirst(i int) (from, shift int) { return i / 2, (1 - i%2) * 4 }

// words32 loads a constant for each of 32 words.
func words32(name string, word func(i int) uint16) VecVirtual {
	var b []byte
	for i := range 32 {
		b = append(b, byte(word(i)), byte(word(i)>>8))
	}
	return load64(name, b)
}

// pairPlaces are the byte that holds weight i's code, for VPSHUFB within sixteen bytes that are there four times, and how
// far it is shifted down. What is above the code's four bits is left: tables have their sixteen values twice.
func pairPlaces(name string, place func(i int) (from, shift int)) (spread, shift VecVirtual) {
	spread = words32(name+"_bytes", func(i int) uint16 { from, _ := place(i); return 0x8000 | uint16(from) })
	shift = words32(name+"_shifts", func(i int) uint16 { _, s := place(i); return uint16(s) })
	return spread, shift
}

func (c pairConstants) lookUp(codes Mem, table Op) VecVirtual {
	v := ZMM()
	VBROADCASTI32X4(codes, v)
	VPSHUFB(c.spread, v, v)
	VPSRLVW(c.shift, v, v)
	VPERMW(table, v, v)
	return v
}

// pairsMXFP4: blocks size bytes apart, their codes behind before bytes; their scales there or in the other stream.
func pairsMXFP4(name string, bytes, scales, size, before int, place func(int) (int, int)) pairFormat {
	setup := func() (c pairConstants) {
		c.spread, c.shift = pairPlaces("pairs_"+name, place)
		c.tables = GP64()
		LEAQ(NewDataAddr(Symbol{Name: "·mxfp4Words"}, 0), c.tables)
		return c
	}
	decode := func(c pairConstants, data, scale Mem, emit func(int, VecVirtual)) {
		for half := range 2 {
			from, i := data.Offset(size*half), GP64()
			if scales > 0 {
				from = scale.Offset(half)
			}
			MOVBQZX(from, i)
			SHLQ(Imm(6), i)
			emit(half, c.lookUp(data.Offset(size*half+before), Mem{Base: c.tables, Index: i, Scale: 1}))
		}
	}
	return pairFormat{name: name, bytes: bytes, scales: scales, setup: setup, decode: decode}
}

// pairsCodes are bitsandbytes' codes whose values times a step's scale are rounded to BF16.
func pairsCodes() pairFormat {
	setup := func() (c pairConstants) {
		c.spread, c.shift = pairPlaces("pairs_codes", upperFirst)
		c.table = ZMM()
		VMOVUPS(Mem{Base: Load(Param("table"), GP64())}, c.table)
		return c
	}
	decode := func(c pairConstants, data, scale Mem, emit func(int, VecVirtual)) {
		t := ZMM()
		VMULPS_BCST(scale, c.table, t)
		roundBF16x16(bf16Constants(), t)
		VPSRLD(Imm(16), t, t)
		VPMOVDW(t, t.AsY())
		VINSERTI64X4(Imm(1), t.AsY(), t, t)
		for half := range 2 {
			emit(half, c.lookUp(data.Offset(16*half), t))
		}
	}
	return pairFormat{name: "Codes", bytes: 32, scales: 4, table: true, setup: setup, decode: decode}
}

// amxInput is the streams of tiles of activations: of a whole block, and of the last.
type amxInput struct{ whole, last, stride Register }

func newAMXInput(blocks int) amxInput {
	in := amxInput{last: Load(Param("last"), GP64()), stride: Load(Param("lastStride"), GP64())}
	if blocks > 1 {
		in.whole = Load(Param("whole"), GP64())
	}
	return in
}

// multiply adds the products of the weights at a, a half of a step, and the next activations to that half's sum for each block.
func (in amxInput) multiply(blocks, half int, a Mem) {
	tileLoad(weightTile, a)
	if blocks > 1 {
		line := GP64()
		MOVQ(U32(tileRow), line)
		tileLoad(inputTile, Mem{Base: in.whole, Index: line, Scale: 1})
		tileMulBF16(sumTile+half, weightTile, inputTile)
		ADDQ(U32(tileBytes), in.whole)
	}
	tileLoad(inputTile+1, Mem{Base: in.last, Index: in.stride, Scale: 1})
	tileMulBF16(sumTile+2*(blocks-1)+half, weightTile, inputTile+1)
	ADDQ(param("step"), in.last)
}

func amxBegin(blocks int) {
	tileConfig(Mem{Base: Load(Param("config"), GP64())})
	for t := range 2 * blocks {
		tileZero(sumTile + t)
	}
}

func amxEnd(blocks int) {
	c, line := Load(Param("c"), GP64()), GP64()
	MOVQ(U32(tileRow), line)
	for t := range 2 * blocks {
		tileStore(Mem{Base: c, Index: line, Scale: 1}, sumTile+t)
		ADDQ(U32(tileBytes), c)
	}
	tileRelease()
	Load(Param("c"), c)
	for b := range blocks {
		for r := range 16 {
			v := ZMM()
			VMOVUPS(Mem{Base: c, Disp: 2*b*tileBytes + tileRow*r}, v)
			VADDPS(Mem{Base: c, Disp: (2*b+1)*tileBytes + tileRow*r}, v, v)
			VMOVUPS(v, Mem{Base: c, Disp: b*tileBytes + tileRow*r})
		}
	}
	VZEROUPPER()
	RET()
}

func amxStored(blocks int) {
	TEXT(fmt.Sprintf("amxStoredx%d", blocks), NOSPLIT, "func(c *[1024]float32, config *[64]byte, whole *uint32, last *uint32, lastStride int, step int, data *byte, stride int, steps int, ahead int)")
	Doc(fmt.Sprintf("amxStoredx%d multiplies rows of BF16 weights, stride bytes apart, by %d blocks of activations, whole ones and a last", blocks, blocks),
		"one of lastStride bytes a pair and step bytes a tile, as the tiles' configuration says. c gets a tile of sums for each, a line",
		"for a row of weights. Each step of 64 weights asks for 2048 bytes, from ahead bytes behind data on.")
	Pragma("noescape")
	amxBegin(blocks)
	in := newAMXInput(blocks)
	data, stride, ahead, steps := Load(Param("data"), GP64()), Load(Param("stride"), GP64()), Load(Param("ahead"), GP64()), Load(Param("steps"), GP64())
	ADDQ(data, ahead)
	Label("step")
	for half := range 2 {
		for i := range 16 {
			PREFETCHT1(Mem{Base: ahead, Disp: tileBytes*half + 64*i})
		}
		in.multiply(blocks, half, Mem{Base: data, Index: stride, Scale: 1, Disp: tileRow * half})
	}
	ADDQ(U32(2*tileRow), data)
	ADDQ(U32(2*tileBytes), ahead)
	DECQ(steps)
	JNZ(LabelRef("step"))
	amxEnd(blocks)
}

// lag is how many steps are decoded before the first is multiplied: a tile that was stored a moment ago takes six times as
// long to load.
const lag = 3

func amxDecoded(f pairFormat, blocks int) {
	params := ")"
	if f.table {
		params = ", table *[16]float32)"
	}
	name := fmt.Sprintf("amx%sx%d", f.name, blocks)
	TEXT(name, NOSPLIT, "func(c *[1024]float32, config *[64]byte, whole *uint32, last *uint32, lastStride int, step int, data *byte, stride int, scales *byte, scaleStride int, rows int, steps int, a *byte, aStride int, aStep int, aMask int, ahead int"+params)
	Doc(fmt.Sprintf("%s is amxStoredx%d for rows that are decoded first, a step of each row after the other, to rows of BF16 at a,", name, blocks),
		"aStride bytes apart; those of the next step begin aStep bytes behind, modulo aMask+1. At least four of them must fit. Each",
		"step asks for what 16 rows of it take, from ahead bytes behind data on.")
	Pragma("noescape")
	local := AllocLocal(24)
	undecoded, begun, at := local, local.Offset(8), local.Offset(16) // at: the next tile to be multiplied
	amxBegin(blocks)
	in := newAMXInput(blocks)
	k := f.setup()
	data, stride := Load(Param("data"), GP64()), Load(Param("stride"), GP64())
	a, aStride, offset := Load(Param("a"), GP64()), Load(Param("aStride"), GP64()), GP64()
	XORQ(offset, offset)
	var scales Register
	if f.scales > 0 {
		scales = Load(Param("scales"), GP64())
	}
	ADDQ(data, param("ahead"))
	t := GP64()
	Load(Param("steps"), t)
	MOVQ(t, undecoded)
	XORQ(t, t)
	MOVQ(t, at)
	MOVQ(t, begun)

	Label("step")
	CMPQ(undecoded, Imm(0))
	JEQ(LabelRef("multiply"))
	DECQ(undecoded)
	ahead := Load(Param("ahead"), GP64())
	for i := 0; i < 16*f.bytes; i += 64 {
		PREFETCHT1(Mem{Base: ahead, Disp: i})
	}
	ADDQ(U32(uint32(16*f.bytes)), param("ahead"))
	from, to, left, scale := GP64(), GP64(), GP64(), GP64()
	MOVQ(data, from)
	LEAQ(Mem{Base: a, Index: offset, Scale: 1}, to)
	Load(Param("rows"), left)
	if f.scales > 0 {
		MOVQ(scales, scale)
	}
	Label("row")
	f.decode(k, Mem{Base: from}, Mem{Base: scale}, func(half int, v VecVirtual) { VMOVDQU64(v, Mem{Base: to, Disp: tileRow * half}) })
	ADDQ(stride, from)
	ADDQ(aStride, to)
	if f.scales > 0 {
		ADDQ(param("scaleStride"), scale)
	}
	DECQ(left)
	JNZ(LabelRef("row"))
	ADDQ(Imm(uint64(f.bytes)), data)
	if f.scales > 0 {
		ADDQ(Imm(uint64(f.scales)), scales)
	}
	ADDQ(param("aStep"), offset)
	ANDQ(param("aMask"), offset)
	INCQ(begun)
	CMPQ(begun, Imm(lag))
	JLE(LabelRef("step"))

	Label("multiply")
	tile := GP64()
	MOVQ(at, tile)
	ADDQ(a, tile)
	for half := range 2 {
		in.multiply(blocks, half, Mem{Base: tile, Index: aStride, Scale: 1, Disp: tileRow * half})
	}
	next := GP64()
	MOVQ(at, next)
	ADDQ(param("aStep"), next)
	ANDQ(param("aMask"), next)
	MOVQ(next, at)
	DECQ(param("steps"))
	JNZ(LabelRef("step"))
	amxEnd(blocks)
}

// tileProducts does nothing but multiply.
func tileProducts() {
	TEXT("tileProducts", NOSPLIT, "func(config *[64]byte, rounds int)")
	Doc("tileProducts multiplies four tiles a round, of the given shapes and of zeros.")
	Pragma("noescape")
	rounds := Load(Param("rounds"), GP64())
	tileConfig(Mem{Base: Load(Param("config"), GP64())})
	for _, t := range []int{sumTile, sumTile + 1, sumTile + 2, sumTile + 3, weightTile, inputTile, inputTile + 1} {
		tileZero(t)
	}
	Label("round")
	for i := range 4 {
		tileMulBF16(sumTile+i, weightTile, inputTile+i%2)
	}
	DECQ(rounds)
	JNZ(LabelRef("round"))
	tileRelease()
	RET()
}

// transposeKernel turns a tile of sums, a line for a row of weights, into a line for each row of activations.
func transposeKernel() {
	TEXT("transposeTile", NOSPLIT, "func(y *float32, c *float32, n int)")
	Doc("transposeTile writes the first n columns of 16 lines of 16 numbers as lines.")
	Pragma("noescape")
	y, c, n := Load(Param("y"), GP64()), Load(Param("c"), GP64()), Load(Param("n"), GP64())
	v := make([]VecVirtual, 16)
	for i := range v {
		v[i] = ZMM()
		VMOVUPS(Mem{Base: c, Disp: tileRow * i}, v[i])
	}
	// pairs of lines, then fours: quarter q of fours[4g+j] is column 4q+j of the lines 4g to 4g+3
	both := func(a, b VecVirtual, low, high func(...Op)) (l, h VecVirtual) {
		l, h = ZMM(), ZMM()
		low(b, a, l)
		high(b, a, h)
		return l, h
	}
	fours := make([]VecVirtual, 16)
	for g := range 4 {
		ab, cd := [2]VecVirtual{}, [2]VecVirtual{}
		ab[0], ab[1] = both(v[4*g], v[4*g+1], VUNPCKLPS, VUNPCKHPS)
		cd[0], cd[1] = both(v[4*g+2], v[4*g+3], VUNPCKLPS, VUNPCKHPS)
		for h := range 2 {
			fours[4*g+2*h], fours[4*g+2*h+1] = both(ab[h], cd[h], VUNPCKLPD, VUNPCKHPD)
		}
	}
	rows := make([]VecVirtual, 16)
	for j := range 4 {
		shuffle := func(imm uint64, a, b VecVirtual) VecVirtual {
			d := ZMM()
			VSHUFF32X4(Imm(imm), b, a, d)
			return d
		}
		a, b := fours[j], fours[4+j]
		low, high := shuffle(0x88, a, b), shuffle(0xDD, a, b) // quarters 0 and 2, 1 and 3 of lines 0 to 7
		a, b = fours[8+j], fours[12+j]
		low2, high2 := shuffle(0x88, a, b), shuffle(0xDD, a, b)
		rows[j], rows[8+j] = shuffle(0x88, low, low2), shuffle(0xDD, low, low2)
		rows[4+j], rows[12+j] = shuffle(0x88, high, high2), shuffle(0xDD, high, high2)
	}
	for i, r := range rows {
		VMOVUPS(r, Mem{Base: y, Disp: tileRow * i})
		if i+1 < len(rows) {
			DECQ(n)
			JZ(LabelRef("done"))
		}
	}
	Label("done")
	VZEROUPPER()
	RET()
}

func bf16Constants() (c constants) {
	bf16Rounding(&c)
	return c
}
