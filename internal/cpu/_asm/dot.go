package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Every sum of products is taken in one order, whichever kernel takes it. A row is cut into four chains (package cpu,
// order.go); in each, a lane, of eight or sixteen, adds one product after the other, fused; the chains are added in their
// order, lane by lane, and reduce4 or reduce16x4 adds the lanes. So a result does not depend on how many rows a batch has.
const chains = 4

// dotKernels emit y[j] = x · row j, one row of weights after the other in the format of the checkpoint, which is how
// memory is read best.
func dotKernels(all []format) {
	for _, f := range all {
		dotKernel(f)
		dotTwoKernel(f)
	}
}

// activations are a row of them: four chains, a panel of bytes apart.
type activations struct {
	at, panel, panel3 Register
}

func newActivations() activations {
	a := activations{GP64(), Load(Param("panel"), GP64()), GP64()}
	LEAQ(Mem{Base: a.panel, Index: a.panel, Scale: 2}, a.panel3)
	return a
}

// group addresses the activations of a step's group.
func (a activations) group(g int) Mem {
	return row(a.at, a.panel, a.panel3, g%chains).Offset(32 * (g / chains))
}

func dotKernel(f format) {
	TEXT(f.kernel("dot"), NOSPLIT, "func(y *float32, x *float32, panel int, data *byte, scales *byte, rows int, steps int"+f.params())
	Doc(fmt.Sprintf("%s multiplies rows of %d*steps weights, one after another in memory, by x, whose chains lie panel bytes", f.kernel("dot"), step),
		"apart, and writes a result for each. rows and steps are at least 1.")
	Pragma("noescape")
	y, rows := Load(Param("y"), GP64()), Load(Param("rows"), GP64())
	x := newActivations()
	in := newStored(f)
	if f.lookUps {
		in.c = in.c.multiplied()
	}
	Label("row")
	acc := f.sums()
	multiply := func(g int, v VecVirtual) { VFMADD231PS(x.group(g), v, acc[g%chains]) }
	Load(Param("x"), x.at)
	Load(Param("steps"), in.steps)
	if f.fetch != nil {
		in.woven(multiply, x.at)
	} else {
		in.plain(multiply, x.at)
	}
	VMOVSS(f.reduce(acc), Mem{Base: y})
	ADDQ(Imm(4), y)
	DECQ(rows)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// dotTwoKernel multiplies each step, once decoded, by two rows of activations.
func dotTwoKernel(f format) {
	TEXT(f.kernel("dotTwo"), NOSPLIT, "func(y *float32, stride int, x *float32, x2 *float32, panel int, data *byte, scales *byte, rows int, steps int"+f.params())
	Doc(fmt.Sprintf("%s is %s for two rows of activations, x and x2. The results of the second go stride bytes behind those of the first.", f.kernel("dotTwo"), f.kernel("dot")))
	Pragma("noescape")
	y, stride, rows := Load(Param("y"), GP64()), Load(Param("stride"), GP64()), Load(Param("rows"), GP64())
	x := newActivations()
	x2 := activations{GP64(), x.panel, x.panel3}
	in := newStored(f)
	Label("row")
	acc, acc2 := f.sums(), f.sums()
	Load(Param("x"), x.at)
	Load(Param("x2"), x2.at)
	Load(Param("steps"), in.steps)
	in.loop(func(g int, v VecVirtual) {
		VFMADD231PS(x.group(g), v, acc[g%chains])
		VFMADD231PS(x2.group(g), v, acc2[g%chains])
	}, x.at, x2.at)
	VMOVSS(f.reduce(acc), Mem{Base: y})
	VMOVSS(f.reduce(acc2), Mem{Base: y, Index: stride, Scale: 1})
	ADDQ(Imm(4), y)
	DECQ(rows)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// stored is the streams of a format's rows, which follow one another.
type stored struct {
	f     format
	c     constants
	data  Mem
	scale Mem
	steps Register
}

func newStored(f format) stored {
	s := stored{f: f, data: Mem{Base: Load(Param("data"), GP64())}}
	if f.scales > 0 {
		s.scale.Base = Load(Param("scales"), GP64())
	}
	s.c, s.steps = f.setup(), GP64()
	return s
}

// ahead is how many bytes of rows that follow one another are asked for before they are used: a processor's own prefetcher
// stops at every page.
const ahead = 1024

// ahead is that, or four times as much: what has AVX-512 is a server's as a rule, and its memory further away.
func (f format) ahead() int {
	if f.wide {
		return 4 * ahead
	}
	return ahead
}

// loop emits the loop over a row's steps in a kernel that has too few registers to spare for weaving look-ups.
func (s stored) loop(emit func(g int, v VecVirtual), at ...Register) {
	if s.f.fetch != nil && !s.f.lookUps {
		s.woven(emit, at...)
		return
	}
	s.plain(emit, at...)
}

// plain emits the loop one step after the other.
func (s stored) plain(emit func(g int, v VecVirtual), at ...Register) {
	Label("step")
	s.prefetch()
	s.f.decode(s.c, s.data, s.scale, emit)
	s.next(at...)
	DECQ(s.steps)
	JNZ(LabelRef("step"))
}

// woven emits the loop where fetching a step is apart from widening it: the next one is fetched while this one is
// multiplied, portion by portion, so that what waits for what was asked for long before. The processor's schedulers are
// too small to look that far ahead.
func (s stored) woven(emit func(g int, v VecVirtual), at ...Register) {
	f, words := s.f, registers(s.f.words)
	widen := f.widen(s.c, words, emit)
	all(f.fetch(s.c, s.data, s.scale, words))
	DECQ(s.steps)
	JZ(LabelRef("last"))
	Label("step")
	s.prefetch()
	fetch := f.fetch(s.c, s.data.Offset(f.bytes), s.scale.Offset(f.scales), words)
	if f.lookUps {
		weaveLookUp(fetch, widen)
	} else {
		weave(fetch, widen)
	}
	s.next(at...)
	DECQ(s.steps)
	JNZ(LabelRef("step"))
	Label("last")
	all(widen)
	s.next(at...)
}

// weave has a portion of widen after each of fetch, until none is left.
func weave(fetch, widen []func()) {
	for i, f := range fetch {
		f()
		if i < len(widen) {
			widen[i]()
		}
	}
}

// weaveLookUp has each two words widened before lookUp leaves the next ones there.
func weaveLookUp(fetch, widen []func()) {
	n := len(fetch) - 4 // before the look-up
	for i := range 3 {
		all(fetch[n*i/3 : n*(i+1)/3])
		if i < 2 {
			widen[i]()
		}
	}
	fetch[n]()
	widen[2]()
	fetch[n+1]()
	widen[3]()
	fetch[n+2]()
	fetch[n+3]()
}

// prefetch asks for memory ahead.
func (s stored) prefetch() {
	for at := 0; at < s.f.bytes; at += 64 {
		PREFETCHT0(s.data.Offset(s.f.ahead() + at))
	}
}

// next moves on by a step, and rows of activations by a step's share of a chain.
func (s stored) next(x ...Register) {
	for _, at := range x {
		ADDQ(Imm(step), at) // two groups of 32 bytes in each chain, or one of 64
	}
	ADDQ(U32(uint32(s.f.bytes)), s.data.Base)
	if s.f.scales > 0 {
		ADDQ(Imm(uint64(s.f.scales)), s.scale.Base)
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

// sums are a row's chains.
func (f format) sums() []VecVirtual {
	if f.wide {
		return zeroed16(chains)
	}
	return zeroed(chains)
}

// reduce adds the chains, and then the lanes as reduce4 or reduce16x4 does.
func (f format) reduce(acc []VecVirtual) Op {
	if f.wide {
		return reduce16(acc)
	}
	for _, a := range acc[1:] {
		VADDPS(a, acc[0], acc[0])
	}
	t, a := XMM(), acc[0].AsX()
	VEXTRACTF128(Imm(1), acc[0], t)
	VADDPS(t, a, a)
	VHADDPS(a, a, a)
	VHADDPS(a, a, a)
	return a
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

// decodeKernels emit the weights of consecutive rows, bit for bit as dtype decodes them, in the format's order.
func decodeKernels(all []format) {
	for _, f := range all {
		decodeKernel(f)
	}
}

// decoded is where rows of decoded weights go: four chains a row, a panel of bytes each.
type decoded struct {
	activations
	row Register
}

func newDecoded() decoded { return decoded{newActivations(), Load(Param("dst"), GP64())} }

func (d decoded) store(g int, v VecVirtual) { VMOVUPS(v, d.group(g)) }

func (d decoded) endRow() { LEAQ(Mem{Base: d.row, Index: d.panel, Scale: chains}, d.row) }

func decodeKernel(f format) {
	TEXT(f.kernel("decode"), NOSPLIT, "func(dst *float32, panel int, data *byte, scales *byte, rows int, steps int"+f.params())
	Doc(fmt.Sprintf("%s writes rows of %d*steps weights, one after another in memory, as float32: four chains a row, panel bytes each.", f.kernel("decode"), step))
	Pragma("noescape")
	rows := Load(Param("rows"), GP64())
	dst := newDecoded()
	in := newStored(f)
	Label("row")
	MOVQ(dst.row, dst.at)
	Load(Param("steps"), in.steps)
	in.loop(dst.store, dst.at)
	dst.endRow()
	DECQ(rows)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}
