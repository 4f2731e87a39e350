package main

import (
	"encoding/binary"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// A format emits the decoding of 32 consecutive weights into four registers of eight float32, in their order.
type format struct {
	name  string // as it stands in the kernels' names
	rows  int    // that a dot product takes at once: more where decoding leaves the multiply-adds waiting
	bytes int    // of 32 weights in the data stream
	// apart says that a second stream holds one byte of scale for every 32 weights.
	apart bool
	// setup loads what stays in registers for a whole kernel.
	setup func() constants
	// decode reads 32 weights at data (and their scale at scale) and gives them to emit, eight at a time.
	decode func(c constants, data, scale Mem, emit func(group int, v VecVirtual))
}

// constants are a kernel's fixed registers.
type constants struct {
	spread VecVirtual // where each byte of codes goes, for VPSHUFB
	nibble VecVirtual // 0x0F in every byte
	upper  VecVirtual // 0xFFFF0000 in every word of 32 bits
	tables Register   // code values by scale

	shifts VecVirtual // where codes lie in a word of 32 bits
}

func formats() []format {
	return []format{
		mxfp4("MXFP4", 16, true, pairs), mxfp4("MXFP4GGML", 17, false, halves), mxfp4("MXFP4Ollama", 17, false, pairs),
		{name: "BF16", rows: 4, bytes: 64, setup: none, decode: decodeBF16},
		{name: "F16", rows: 4, bytes: 64, setup: none, decode: decodeF16},
		{name: "F32", rows: 4, bytes: 128, setup: none, decode: decodeF32},
		{name: "Q8_0", rows: 4, bytes: 34, setup: none, decode: decodeQ8},
	}
}

func none() constants { return constants{} }

func decodeBF16(_ constants, data, _ Mem, emit func(int, VecVirtual)) {
	for g := range 4 {
		v := YMM()
		VPMOVZXWD(data.Offset(16*g), v)
		VPSLLD(Imm(16), v, v)
		emit(g, v)
	}
}

func decodeF16(_ constants, data, _ Mem, emit func(int, VecVirtual)) {
	for g := range 4 {
		v := YMM()
		VCVTPH2PS(data.Offset(16*g), v)
		emit(g, v)
	}
}

func decodeF32(_ constants, data, _ Mem, emit func(int, VecVirtual)) {
	for g := range 4 {
		v := YMM()
		VMOVUPS(data.Offset(32*g), v)
		emit(g, v)
	}
}

// decodeQ8: the scale in F16, then 32 signed bytes. A product of 8 and 11 bits is exact.
func decodeQ8(_ constants, data, _ Mem, emit func(int, VecVirtual)) {
	half, scale := GP32(), YMM()
	MOVWLZX(data, half)
	VMOVD(half, scale.AsX())
	VCVTPH2PS(scale.AsX(), scale.AsX())
	VBROADCASTSS(scale.AsX(), scale)
	for g := range 4 {
		v := YMM()
		VPMOVSXBD(data.Offset(2+8*g), v)
		VCVTDQ2PS(v, v)
		VMULPS(scale, v, v)
		emit(g, v)
	}
}

// pairs is the order of OpenAI's MXFP4: byte j has element 2j low and 2j+1 high. halves is ggml's: element j low and
// j+16 high. spread brings byte after byte of the sixteen to where the unpacking below wants its elements: the two
// lanes hold elements 0, 8, 1, 9, 2, 10, 3, 11, 16, 24, ... and 4, 12, 5, 13, ...; high picks, among 16-bit words, those
// whose bytes stand for the high half.
type nibbles struct {
	name   string
	spread [32]byte
	high   uint8
}

var pairs = nibbles{"pairs", [32]byte{
	0, 4, 0, 4, 1, 5, 1, 5, 8, 12, 8, 12, 9, 13, 9, 13,
	2, 6, 2, 6, 3, 7, 3, 7, 10, 14, 10, 14, 11, 15, 11, 15}, 0xAA}

var halves = nibbles{"halves", [32]byte{
	0, 8, 1, 9, 2, 10, 3, 11, 0, 8, 1, 9, 2, 10, 3, 11,
	4, 12, 5, 13, 6, 14, 7, 15, 4, 12, 5, 13, 6, 14, 7, 15}, 0xF0}

var globals = map[string]Mem{}

// global emits bytes of read-only data once.
func global(name string, data []byte) Mem {
	if m, ok := globals[name]; ok {
		return m
	}
	m := GLOBL(name, 8|16) // RODATA|NOPTR
	for i := 0; i < len(data); i += 8 {
		DATA(i, U64(binary.LittleEndian.Uint64(data[i:])))
	}
	globals[name] = m
	return m
}

func fill(pattern ...byte) []byte {
	var b []byte
	for len(b) < 32 {
		b = append(b, pattern...)
	}
	return b
}

func load(m Mem) VecVirtual {
	v := YMM()
	VMOVDQU(m, v)
	return v
}

// mxfp4: every value E2M1 times a power of two is a bfloat16, so sixteen of them are a table of 16 low and 16 high
// bytes. There is one table for each scale: a block costs two lookups and no multiplication.
func mxfp4(name string, bytes int, apart bool, order nibbles) format {
	setup := func() constants {
		c := constants{
			spread: load(global("spread_"+order.name, order.spread[:])),
			nibble: load(global("nibble", fill(0x0F))),
			upper:  load(global("upper", fill(0, 0, 0xFF, 0xFF))),
			tables: GP64(),
		}
		LEAQ(NewDataAddr(Symbol{Name: "·mxfp4Tables"}, 0), c.tables)
		return c
	}
	decode := func(c constants, data, scale Mem, emit func(int, VecVirtual)) {
		codes := data
		if !apart {
			scale, codes = data, data.Offset(1)
		}
		at := GP64()
		MOVBQZX(scale, at)
		SHLQ(Imm(5), at)
		low, high := YMM(), YMM()
		VBROADCASTI128(Mem{Base: c.tables, Index: at, Scale: 1}, low)
		VBROADCASTI128(Mem{Base: c.tables, Index: at, Scale: 1, Disp: 16}, high)
		unpack(c, order, codes, low, high, emit)
	}
	return format{name: name, rows: 8, bytes: bytes, apart: apart, setup: setup, decode: decode}
}

// unpack looks 32 codes up in the two tables of bytes and widens the bfloat16s.
func unpack(c constants, order nibbles, codes Mem, low, high VecVirtual, emit func(int, VecVirtual)) {
	v, t := YMM(), YMM()
	VBROADCASTI128(codes, v)
	VPSHUFB(c.spread, v, v)
	VPSRLW(Imm(4), v, t)
	VPBLENDW(Imm(uint64(order.high)), t, v, v)
	VPAND(c.nibble, v, v)
	VPSHUFB(v, low, low)
	VPSHUFB(v, high, high)
	for half := range 2 {
		w, even := YMM(), YMM()
		if half == 0 {
			VPUNPCKLBW(high, low, w)
		} else {
			VPUNPCKHBW(high, low, w)
		}
		VPSLLD(Imm(16), w, even)
		VPAND(c.upper, w, w)
		emit(2*half, even)
		emit(2*half+1, w)
	}
}
