package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Every sum of products is taken in one order, whichever kernel takes it. A row is cut into four chains (package cpu,
// order.go); in each, lane l of eight adds one product after the other, fused; the chains are added in their order, lane
// by lane, and reduce4 adds the lanes. So a result does not depend on how many rows a batch has.
const chains = 4

// dotKernels emit y[j] = x · row j, one row of weights after the other in the format of the checkpoint, which is how
// memory is read best.
func dotKernels() {
	for _, f := range formats() {
		dotKernel(f)
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
	TEXT("dot"+f.name, NOSPLIT, "func(y *float32, x *float32, panel int, data *byte, scales *byte, rows int, steps int"+f.params())
	Doc(fmt.Sprintf("dot%s multiplies rows of %d*steps weights, one after another in memory, by x, whose chains lie panel bytes", f.name, step),
		"apart, and writes a result for each. rows and steps are at least 1.")
	Pragma("noescape")
	y, rows := Load(Param("y"), GP64()), Load(Param("rows"), GP64())
	x := newActivations()
	in := newStored(f)
	Label("row")
	acc := zeroed(chains)
	Load(Param("x"), x.at)
	in.eachStep(func(g int, v VecVirtual) { VFMADD231PS(x.group(g), v, acc[g%chains]) }, x.at)
	VMOVSS(reduce(acc), Mem{Base: y})
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
	words []VecVirtual
}

func newStored(f format) stored {
	s := stored{f: f, data: Mem{Base: Load(Param("data"), GP64())}}
	if f.scales > 0 {
		s.scale.Base = Load(Param("scales"), GP64())
	}
	s.c, s.steps, s.words = f.setup(), GP64(), f.words()
	return s
}

// prefetch is how many bytes ahead memory is asked for: rows follow one another, and a processor's own prefetcher stops
// at every page.
const prefetch = 1024

// eachStep emits the loop over a row's steps: it gives their groups to emit and moves at on by a step's share of a chain.
// Where fetching a step is apart from widening it, the next one is fetched while this one is widened.
func (s stored) eachStep(emit func(g int, v VecVirtual), at Register) {
	f := s.f
	if f.scales > 0 { // a slow stream, one or two lines a row
		PREFETCHT0(s.scale.Offset(256))
		PREFETCHT0(s.scale.Offset(320))
	}
	Load(Param("steps"), s.steps)
	next := func() {
		ADDQ(Imm(step), at) // two groups of 32 bytes in each chain
		ADDQ(U32(uint32(f.bytes)), s.data.Base)
		if f.scales > 0 {
			ADDQ(Imm(uint64(f.scales)), s.scale.Base)
		}
	}
	ahead := func() {
		for at := 0; at < f.bytes; at += 64 {
			PREFETCHT0(s.data.Offset(prefetch + at))
		}
	}
	widen := func() []func() { return f.widen(s.c, s.data, s.scale, s.words, emit) }
	if f.fetch == nil {
		Label("step")
		ahead()
		all(widen())
		next()
		DECQ(s.steps)
		JNZ(LabelRef("step"))
		return
	}
	all(f.fetch(s.c, s.data, s.scale, s.words))
	DECQ(s.steps)
	JZ(LabelRef("last"))
	Label("step")
	ahead()
	weave(f.fetch(s.c, s.data.Offset(f.bytes), s.scale.Offset(f.scales), s.words), widen())
	next()
	DECQ(s.steps)
	JNZ(LabelRef("step"))
	Label("last")
	all(widen())
	next()
}

func all(portions []func()) {
	for _, p := range portions {
		p()
	}
}

// weave puts the widening of a step, four portions, between the portions that fetch the next one, so that what
// waits for what was asked for long before: the processor's schedulers are too small to look that far ahead.
func weave(fetch, widen []func()) {
	n := len(fetch) - 4 // of them before the look-up
	before := func(i int) {
		for _, p := range fetch[n*i/3 : n*(i+1)/3] {
			p()
		}
	}
	before(0)
	widen[0]()
	before(1)
	widen[1]()
	before(2)
	fetch[n]()
	widen[2]()
	fetch[n+1]()
	widen[3]()
	fetch[n+2]()
	fetch[n+3]()
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

// reduce adds the chains, and then the lanes as reduce4 does.
func reduce(acc []VecVirtual) Op {
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
func decodeKernels() {
	for _, f := range formats() {
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
	TEXT("decode"+f.name, NOSPLIT, "func(dst *float32, panel int, data *byte, scales *byte, rows int, steps int"+f.params())
	Doc(fmt.Sprintf("decode%s writes rows of %d*steps weights, one after another in memory, as float32: four chains a row, panel bytes each.", f.name, step))
	Pragma("noescape")
	rows := Load(Param("rows"), GP64())
	dst := newDecoded()
	in := newStored(f)
	Label("row")
	MOVQ(dst.row, dst.at)
	in.eachStep(dst.store, dst.at)
	dst.endRow()
	DECQ(rows)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}
