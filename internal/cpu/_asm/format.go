package main

import (
	"encoding/binary"
	"fmt"
	"strings"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// A format emits the decoding of a step, 64 consecutive weights of a row, as eight registers of eight float32. All formats
// give them in one order (package cpu, order.go), which activations come in too: the one that codes of four bits fall
// into by themselves. With the weight's number written q u d p k, two bits for d and one for each other, a register is
// group 4k+2u+p, and its lane 4q+d.
type format struct {
	name  string // as it stands in the kernels' names
	bytes int    // of a step in the data stream
	// scales is how many bytes a step has in a second stream; 0: its scales lie in the data.
	scales int
	// table says that kernels are given the values of codes.
	table bool
	// wide says that registers have sixteen lanes, not eight: avx512_format.go.
	wide bool
	// setup loads what stays in registers for a whole kernel.
	setup func() constants
	// decode emits the weights of a step. It may use eight registers besides the constants'.
	decode func(c constants, data, scale Mem, emit func(group int, v VecVirtual))
	// fetch and widen are the halves of decode in portions, where a step is long in coming: the one leaves it in as many
	// registers as words says, the other emits the weights from there.
	fetch func(c constants, data, scale Mem, words []VecVirtual) []func()
	widen func(c constants, words []VecVirtual, emit func(group int, v VecVirtual)) []func()
	words int
	// lookUps says that the last four portions of fetch are lookUp's, and words are pairs of bfloat16.
	lookUps bool
	// half emits half of a wide format's step: two groups of four, from the half's data and scales on.
	half func(c constants, data, scale Mem, emit func(k int, v VecVirtual))
	// quarter is half of that: avx512_batch.go.
	quarter quarterOf
}

const step = 64

func group(k, u, p int) int { return 4*k + 2*u + p }

// params ends the parameters of the format's kernels.
func (f format) params() string {
	if f.table {
		return ", table *[16]float32)"
	}
	return ")"
}

// kernel is the name of the format's kernel that does so: of dot, dotMXFP4 or zmmDotMXFP4.
func (f format) kernel(does string) string {
	if f.wide {
		return "zmm" + strings.ToUpper(does[:1]) + does[1:] + f.name
	}
	return does + f.name
}

// constants are a kernel's fixed registers.
type constants struct {
	nibble VecVirtual // 0x0F in every byte
	upper  VecVirtual // 0xFFFF0000 in every word of 32 bits
	up     VecVirtual // 65536 in every word of 32 bits: multiplying by it moves 16 bits up; nil: shifts do that
	down   VecVirtual // 4096 in every word of 16 bits: the upper half of a product by it is moved four bits down; nil likewise
	tables Register   // code values: by scale, or sixteen
	// toTop makes byte i of a word of 32 bits its top byte, all others zero: masks, for 3 to keep it and for 1 and 2 to
	// shuffle it there; 0 is shifted.
	toTop [4]VecVirtual

	// of kernels with sixteen lanes
	table VecVirtual    // values of codes
	place [3]VecVirtual // where a lane finds its weights
	words Register      // a mask: the upper words of 32 bits
	last  VecVirtual    // 0x00010000 in every word of 32 bits: a bfloat16's last bit
	below VecVirtual    // 0x00007FFF: less than half of it
}

func formats() []format {
	return append([]format{
		mxfp4("MXFP4", 32, 2, apart), mxfp4("MXFP4GGML", 34, 0, blocks17), mxfp4("MXFP4Ollama", 34, 0, blocks17),
		bf16(), plain("F16", 128, decodeF16), plain("F32", 256, decodeF32), q8(),
	}, codeFormats()...)
}

func plain(name string, bytes int, decode func(data Mem, emit func(int, VecVirtual))) format {
	return format{name: name, bytes: bytes, setup: func() constants { return constants{} },
		decode: func(_ constants, data, _ Mem, emit func(int, VecVirtual)) { decode(data, emit) }}
}

// lanes loads sixteen bytes at each of two places: the lanes of q 0 and of q 1. second is at least sixteen bytes past the
// beginning of the step.
func lanes(data Mem, first, second int) VecVirtual {
	v := YMM()
	loadLanes(data, first, second, v)
	return v
}

func loadLanes(data Mem, first, second int, v VecVirtual) {
	VBROADCASTI128(data.Offset(first), v)
	VPBLENDD(Imm(0xF0), data.Offset(second-16), v, v)
}

// halves gives the weights of u, two bytes each, as pairs for k: p 0, then p 1.
func halves(data Mem, u int) [2]VecVirtual {
	a, b := lanes(data, 32*u, 64+32*u), lanes(data, 32*u+16, 64+32*u+16)
	v := [2]VecVirtual{YMM(), YMM()}
	VSHUFPS(Imm(0x88), b, a, v[0])
	VSHUFPS(Imm(0xDD), b, a, v[1])
	return v
}

func bf16() format {
	return format{name: "BF16", bytes: 128,
		setup: func() constants { return constants{upper: load(global("upper", fill(0, 0, 0xFF, 0xFF)))} },
		decode: func(c constants, data, _ Mem, emit func(int, VecVirtual)) {
			for u := range 2 {
				for p, w := range halves(data, u) {
					even := YMM()
					VPSLLD(Imm(16), w, even)
					VPAND(c.upper, w, w)
					emit(group(0, u, p), even)
					emit(group(1, u, p), w)
				}
			}
		}}
}

func decodeF16(data Mem, emit func(int, VecVirtual)) {
	for u := range 2 {
		w := halves(data, u)
		for k := range 2 {
			a, b, upper := YMM(), YMM(), XMM()
			if k == 0 {
				VPAND(global32("lower", 0xFFFF), w[0], a)
				VPAND(global32("lower", 0xFFFF), w[1], b)
			} else {
				VPSRLD(Imm(16), w[0], a)
				VPSRLD(Imm(16), w[1], b)
			}
			VPACKUSDW(b, a, a)
			VPERMQ(Imm(0xD8), a, a)
			VEXTRACTI128(Imm(1), a, upper)
			VCVTPH2PS(a.AsX(), a)
			VCVTPH2PS(upper, b)
			emit(group(k, u, 0), a)
			emit(group(k, u, 1), b)
		}
	}
}

func decodeF32(data Mem, emit func(int, VecVirtual)) {
	for u := range 2 {
		var r [4]VecVirtual
		for d := range r {
			r[d] = lanes(data, 64*u+16*d, 128+64*u+16*d)
		}
		for p := range 2 {
			a, b, even := YMM(), YMM(), YMM()
			if p == 0 {
				VUNPCKLPS(r[1], r[0], a)
				VUNPCKLPS(r[3], r[2], b)
			} else {
				VUNPCKHPS(r[1], r[0], a)
				VUNPCKHPS(r[3], r[2], b)
			}
			VUNPCKLPD(b, a, even)
			VUNPCKHPD(b, a, a)
			emit(group(0, u, p), even)
			emit(group(1, u, p), a)
		}
	}
}

// q8: two blocks of a scale in F16 and 32 signed bytes. A byte is converted where it is the top of a word, 2^24 times too
// large, with the scale as much too small: powers of two change no digit, and a product of 8 and 11 bits is exact. The
// words are the bytes of u 0 and of u 1, and the scales.
func q8() format {
	setup := func() (c constants) {
		const zero = 0x80
		for i := byte(1); i < 3; i++ {
			c.toTop[i] = load(global(fmt.Sprintf("byte%d_to_top", i),
				fill(zero, zero, zero, i, zero, zero, zero, 4+i, zero, zero, zero, 8+i, zero, zero, zero, 12+i)))
		}
		c.toTop[3] = load(global("top_byte", fill(0, 0, 0, 0xFF)))
		return c
	}
	fetch := func(_ constants, data, _ Mem, words []VecVirtual) []func() {
		scales := YMM()
		return []func(){
			func() {
				second := XMM()
				VPBROADCASTW(data, scales.AsX())
				VPBROADCASTW(data.Offset(34), second)
				VPUNPCKLQDQ(second, scales.AsX(), second)
				VCVTPH2PS(second, scales)
			},
			func() { loadLanes(data, 2, 36, words[0]) },
			func() { loadLanes(data, 18, 52, words[1]) },
			func() { VMULPS(constant(1.0/(1<<24)), scales, words[2]) },
		}
	}
	widen := func(c constants, words []VecVirtual, emit func(int, VecVirtual)) (portions []func()) {
		for u, bytes := range words[:2] {
			portions = append(portions, func() {
				for i := range 4 {
					v := YMM()
					switch i {
					case 0:
						VPSLLD(Imm(24), bytes, v)
					case 3:
						VPAND(c.toTop[i], bytes, v)
					default:
						VPSHUFB(c.toTop[i], bytes, v)
					}
					VCVTDQ2PS(v, v)
					VMULPS(words[2], v, v)
					emit(group(i%2, u, i/2), v)
				}
			})
		}
		return portions
	}
	return format{name: "Q8_0", bytes: 68, setup: setup, fetch: fetch, widen: widen, words: 3}
}

// mxfp4: every value E2M1 times a power of two is a bfloat16, so sixteen of them are a table of 16 low and 16 high
// bytes. There is one table for each scale, its halves twice: a step has two scales, one for each lane of 16 bytes, and
// its tables are those of the first with the upper lanes of the second. No weight is ever multiplied.
func mxfp4(name string, bytes, scales int, codes func(data, scale Mem) (load func(v VecVirtual), first, second Mem)) format {
	ggml := name == "MXFP4GGML"
	setup := func() constants {
		c := wordConstants()
		c.tables = GP64()
		LEAQ(NewDataAddr(Symbol{Name: "·mxfp4Tables"}, 0), c.tables)
		return c
	}
	fetch := func(c constants, data, scale Mem, words []VecVirtual) []func() {
		load, first, second := codes(data, scale)
		v, low, high := YMM(), YMM(), YMM()
		a, b := GP64(), GP64()
		entry := func(i Register, disp int) Mem { return Mem{Base: c.tables, Index: i, Scale: 1, Disp: disp} }
		return append([]func(){
			func() {
				MOVBQZX(first, a)
				SHLQ(Imm(6), a)
				MOVBQZX(second, b)
				SHLQ(Imm(6), b)
				load(v)
				if ggml {
					VPSHUFB(global("ggml_order", ggmlOrder()), v, v)
				}
			},
			func() {
				VMOVDQU(entry(a, 0), low)
				VMOVDQU(entry(a, 32), high)
			},
			func() {
				VPBLENDD(Imm(0xF0), entry(b, 0), low, low)
				VPBLENDD(Imm(0xF0), entry(b, 32), high, high)
			},
		}, lookUp(c, v, low, high, words, false)...)
	}
	return lookedUp(format{name: name, bytes: bytes, scales: scales, setup: setup, fetch: fetch, widen: widenPairs(ggml)})
}

// lookedUp adds decode to a format that has its halves: each two words are widened as soon as they are there.
func lookedUp(f format) format {
	f.words, f.lookUps = 4, true
	f.decode = func(c constants, data, scale Mem, emit func(int, VecVirtual)) {
		words := registers(f.words)
		fetch, widen := f.fetch(c, data, scale, words), f.widen(c, words, emit)
		last := len(fetch) - 1
		all(fetch[:last])
		all(widen[:2])
		fetch[last]()
		all(widen[2:])
	}
	return f
}

func registers(n int) []VecVirtual {
	v := make([]VecVirtual, n)
	for i := range v {
		v[i] = YMM()
	}
	return v
}

func all(portions []func()) {
	for _, p := range portions {
		p()
	}
}

// ggmlOrder brings the bytes of a block of ggml's, elements j low and j+16 high in byte j, to where elements 2j and 2j+1
// would be but for the nibbles: there u is the nibble and k a bit of the byte's number.
func ggmlOrder() []byte {
	return fill(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15)
}

// apart: 32 bytes of codes, their two scales in the other stream.
func apart(data, scale Mem) (load func(VecVirtual), first, second Mem) {
	return func(v VecVirtual) { VMOVDQU(data, v) }, scale, scale.Offset(1)
}

// blocks17: two blocks, each its scale and then 16 bytes of codes. No byte is read that belongs to another.
func blocks17(data, _ Mem) (load func(VecVirtual), first, second Mem) {
	return func(v VecVirtual) {
		VBROADCASTI128(data.Offset(1), v)
		VPBLENDD(Imm(0xF0), data.Offset(2), v, v) // the upper lane begins at byte 18
	}, data, data.Offset(17)
}

func wordConstants() constants {
	return constants{
		nibble: load(global("nibble", fill(0x0F))),
		upper:  load(global("upper", fill(0, 0, 0xFF, 0xFF))),
	}
}

// multiplied takes multiplications for shifts: some processors do them elsewhere than shuffles, of which there are many here.
func (c constants) multiplied() constants {
	c.up, c.down = load(global32("one_up", 1<<16)), load(global("down", fill(0, 0x10)))
	return c
}

// lookUp finds 64 codes in the two tables of bytes: two words for the lower nibbles, then two for the higher ones, or
// the other way about. It has four portions; the first two words are there after the third, the others after the last.
// The first two may not be read after the second portion, the others not after the third.
func lookUp(c constants, v, low, high VecVirtual, words []VecVirtual, highFirst bool) []func() {
	other := YMM()
	bytes := func(codes, a, b VecVirtual) {
		VPSHUFB(codes, low, a)
		VPSHUFB(codes, high, b)
	}
	pair := func(a, b, w0, w1 VecVirtual) {
		VPUNPCKLBW(b, a, w0)
		VPUNPCKHBW(b, a, w1)
	}
	a, b := YMM(), YMM()
	one, two := v, other
	if highFirst {
		one, two = other, v
	}
	return []func(){
		func() {
			if c.down != nil {
				VPMULHUW(c.down, v, other)
			} else {
				VPSRLW(Imm(4), v, other)
			}
			VPAND(c.nibble, one, one)
		},
		func() { bytes(one, a, b) },
		func() {
			VPAND(c.nibble, two, two)
			pair(a, b, words[0], words[1])
		},
		func() {
			bytes(two, low, high)
			pair(low, high, words[2], words[3])
		},
	}
}

// widenPairs gives, of each word of pairs, the lower bfloat16s and then the upper ones. Word 2k+u has p 0 and p 1; in
// ggml's order word 2u+p has k 0 and k 1.
func widenPairs(ggml bool) func(constants, []VecVirtual, func(int, VecVirtual)) []func() {
	return func(c constants, words []VecVirtual, emit func(int, VecVirtual)) (portions []func()) {
		for i, w := range words {
			first, second := group(i/2, i%2, 0), group(i/2, i%2, 1)
			if ggml {
				first, second = group(0, i/2, i%2), group(1, i/2, i%2)
			}
			portions = append(portions, func() {
				even := YMM()
				if c.up != nil {
					VPMULLD(c.up, w, even)
				} else {
					VPSLLD(Imm(16), w, even)
				}
				VPAND(c.upper, w, w)
				emit(first, even)
				emit(second, w)
			})
		}
		return portions
	}
}

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

func global32(name string, bits uint32) Mem {
	return global(name, fill(byte(bits), byte(bits>>8), byte(bits>>16), byte(bits>>24)))
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
