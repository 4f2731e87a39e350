package testgpu

import "strings"

// simpleOp is an instruction that is one handler over registers. sig lists the operands, the destination first:
// r 32 bits, h 16, d 64, p predicate, f and g sources of type f32 and f64. 16-bit operands are extended by sign first if sext.
type simpleOp struct {
	fn   handler
	sig  string
	sub  uint8
	sext bool
}

var simpleOps = buildSimpleOps()

func buildSimpleOps() map[string]simpleOp {
	all := map[string]simpleOp{}
	add := func(names string, op simpleOp) {
		for _, n := range strings.Fields(names) {
			all[n] = op
		}
	}
	addInt32(add)
	addInt64(add)
	addInt16(add)
	addBits(add)
	return all
}

func addInt32(add func(string, simpleOp)) {
	add("add.s32 add.u32", simpleOp{fn: execAdd32, sig: "rrr"})
	add("sub.s32 sub.u32", simpleOp{fn: execSub32, sig: "rrr"})
	add("add.sat.s32", simpleOp{fn: execSatAdd32, sig: "rrr"})
	add("sub.sat.s32", simpleOp{fn: execSatSub32, sig: "rrr"})
	add("mul.lo.s32 mul.lo.u32", simpleOp{fn: execMul32, sig: "rrr"})
	add("mul.hi.s32", simpleOp{fn: execMulHiS32, sig: "rrr"})
	add("mul.hi.u32", simpleOp{fn: execMulHiU32, sig: "rrr"})
	add("mul.wide.s32", simpleOp{fn: execMulWideS32, sig: "drr"})
	add("mul.wide.u32", simpleOp{fn: execMulWideU32, sig: "drr"})
	add("mad.lo.s32 mad.lo.u32", simpleOp{fn: execMad32, sig: "rrrr"})
	add("mad.hi.s32", simpleOp{fn: execMadHiS32, sig: "rrrr"})
	add("mad.hi.u32", simpleOp{fn: execMadHiU32, sig: "rrrr"})
	add("mad.wide.s32", simpleOp{fn: execMadWideS32, sig: "drrd"})
	add("mad.wide.u32", simpleOp{fn: execMadWideU32, sig: "drrd"})
	add("sad.s32", simpleOp{fn: execSadS32, sig: "rrrr"})
	add("sad.u32", simpleOp{fn: execSadU32, sig: "rrrr"})
	add("div.s32", simpleOp{fn: execDivS32, sig: "rrr"})
	add("div.u32", simpleOp{fn: execDivU32, sig: "rrr"})
	add("rem.s32", simpleOp{fn: execRemS32, sig: "rrr"})
	add("rem.u32", simpleOp{fn: execRemU32, sig: "rrr"})
	add("min.s32", simpleOp{fn: execMinS32, sig: "rrr"})
	add("min.u32", simpleOp{fn: execMinU32, sig: "rrr"})
	add("max.s32", simpleOp{fn: execMaxS32, sig: "rrr"})
	add("max.u32", simpleOp{fn: execMaxU32, sig: "rrr"})
	add("abs.s32", simpleOp{fn: execAbs32, sig: "rr"})
	add("neg.s32", simpleOp{fn: execNeg32, sig: "rr"})
	add("and.b32", simpleOp{fn: execAnd32, sig: "rrr"})
	add("or.b32", simpleOp{fn: execOr32, sig: "rrr"})
	add("xor.b32", simpleOp{fn: execXor32, sig: "rrr"})
	add("not.b32", simpleOp{fn: execNot32, sig: "rr"})
	add("cnot.b32", simpleOp{fn: execCnot32, sig: "rr"})
	add("shl.b32", simpleOp{fn: execShl32, sig: "rrr"})
	add("shr.u32 shr.b32", simpleOp{fn: execShrU32, sig: "rrr"})
	add("shr.s32", simpleOp{fn: execShrS32, sig: "rrr"})
	for i, name := range []string{"add.cc", "addc", "addc.cc"} {
		sub := []uint8{2, 1, 3}[i]
		add(name+".s32 "+name+".u32", simpleOp{fn: execAddCarry32, sig: "rrr", sub: sub})
		add(name+".s64 "+name+".u64", simpleOp{fn: execAddCarry64, sig: "ddd", sub: sub})
		name = strings.Replace(name, "add", "sub", 1)
		add(name+".s32 "+name+".u32", simpleOp{fn: execSubCarry32, sig: "rrr", sub: sub})
		add(name+".s64 "+name+".u64", simpleOp{fn: execSubCarry64, sig: "ddd", sub: sub})
	}
}

func addInt64(add func(string, simpleOp)) {
	add("add.s64 add.u64", simpleOp{fn: execAdd64, sig: "ddd"})
	add("sub.s64 sub.u64", simpleOp{fn: execSub64, sig: "ddd"})
	add("mul.lo.s64 mul.lo.u64", simpleOp{fn: execMul64, sig: "ddd"})
	add("mul.hi.s64", simpleOp{fn: execMulHiS64, sig: "ddd"})
	add("mul.hi.u64", simpleOp{fn: execMulHiU64, sig: "ddd"})
	add("mad.lo.s64 mad.lo.u64", simpleOp{fn: execMad64, sig: "dddd"})
	add("div.s64", simpleOp{fn: execDivS64, sig: "ddd"})
	add("div.u64", simpleOp{fn: execDivU64, sig: "ddd"})
	add("rem.s64", simpleOp{fn: execRemS64, sig: "ddd"})
	add("rem.u64", simpleOp{fn: execRemU64, sig: "ddd"})
	add("min.s64", simpleOp{fn: execMinS64, sig: "ddd"})
	add("min.u64", simpleOp{fn: execMinU64, sig: "ddd"})
	add("max.s64", simpleOp{fn: execMaxS64, sig: "ddd"})
	add("max.u64", simpleOp{fn: execMaxU64, sig: "ddd"})
	add("abs.s64", simpleOp{fn: execAbs64, sig: "dd"})
	add("neg.s64", simpleOp{fn: execNeg64, sig: "dd"})
	add("and.b64", simpleOp{fn: execAnd64, sig: "ddd"})
	add("or.b64", simpleOp{fn: execOr64, sig: "ddd"})
	add("xor.b64", simpleOp{fn: execXor64, sig: "ddd"})
	add("not.b64", simpleOp{fn: execNot64, sig: "dd"})
	add("shl.b64", simpleOp{fn: execShl64, sig: "ddr"})
	add("shr.u64 shr.b64", simpleOp{fn: execShrU64, sig: "ddr"})
	add("shr.s64", simpleOp{fn: execShrS64, sig: "ddr"})
}

// 16-bit results are cut to 16 bits after the 32-bit operation.
func addInt16(add func(string, simpleOp)) {
	add("add.s16 add.u16", simpleOp{fn: execAdd32, sig: "hhh"})
	add("sub.s16 sub.u16", simpleOp{fn: execSub32, sig: "hhh"})
	add("mul.lo.s16 mul.lo.u16", simpleOp{fn: execMul32, sig: "hhh"})
	add("mad.lo.s16 mad.lo.u16", simpleOp{fn: execMad32, sig: "hhhh"})
	add("mul.wide.s16", simpleOp{fn: execMul32, sig: "rhh", sext: true})
	add("mul.wide.u16", simpleOp{fn: execMul32, sig: "rhh"})
	add("mul.hi.s16", simpleOp{fn: execMulHigh16, sig: "hhh", sext: true})
	add("mul.hi.u16", simpleOp{fn: execMulHigh16, sig: "hhh"})
	add("mad.wide.s16", simpleOp{fn: execMad32, sig: "rhhr", sext: true})
	add("mad.wide.u16", simpleOp{fn: execMad32, sig: "rhhr"})
	add("div.s16", simpleOp{fn: execDivS32, sig: "hhh", sext: true})
	add("div.u16", simpleOp{fn: execDivU32, sig: "hhh"})
	add("rem.s16", simpleOp{fn: execRemS32, sig: "hhh", sext: true})
	add("rem.u16", simpleOp{fn: execRemU32, sig: "hhh"})
	add("min.s16", simpleOp{fn: execMinS32, sig: "hhh", sext: true})
	add("min.u16", simpleOp{fn: execMinU32, sig: "hhh"})
	add("max.s16", simpleOp{fn: execMaxS32, sig: "hhh", sext: true})
	add("max.u16", simpleOp{fn: execMaxU32, sig: "hhh"})
	add("abs.s16", simpleOp{fn: execAbs32, sig: "hh", sext: true})
	add("neg.s16", simpleOp{fn: execNeg32, sig: "hh"})
	add("and.b16", simpleOp{fn: execAnd32, sig: "hhh"})
	add("or.b16", simpleOp{fn: execOr32, sig: "hhh"})
	add("xor.b16", simpleOp{fn: execXor32, sig: "hhh"})
	add("not.b16", simpleOp{fn: execNot32, sig: "hh"})
	add("cnot.b16", simpleOp{fn: execCnot32, sig: "hh"})
	add("shl.b16", simpleOp{fn: execShl32, sig: "hhr"})
	add("shr.u16 shr.b16", simpleOp{fn: execShrU32, sig: "hhr"})
	add("shr.s16", simpleOp{fn: execShrS32, sig: "hhr", sext: true})
	add("selp.b16 selp.u16 selp.s16", simpleOp{fn: execSelp32, sig: "hhhp"})
}

func addBits(add func(string, simpleOp)) {
	add("shf.l.wrap.b32", simpleOp{fn: execShfL, sig: "rrrr"})
	add("shf.l.clamp.b32", simpleOp{fn: execShfL, sig: "rrrr", sub: 1})
	add("shf.r.wrap.b32", simpleOp{fn: execShfR, sig: "rrrr"})
	add("shf.r.clamp.b32", simpleOp{fn: execShfR, sig: "rrrr", sub: 1})
	add("bfe.u32", simpleOp{fn: execBfeU32, sig: "rrrr"})
	add("bfe.s32", simpleOp{fn: execBfeS32, sig: "rrrr"})
	add("bfe.u64", simpleOp{fn: execBfeU64, sig: "ddrr"})
	add("bfe.s64", simpleOp{fn: execBfeS64, sig: "ddrr"})
	add("bfi.b32", simpleOp{fn: execBfi32, sig: "rrrrr"})
	add("bfi.b64", simpleOp{fn: execBfi64, sig: "dddrr"})
	add("prmt.b32", simpleOp{fn: execPrmt, sig: "rrrr"})
	add("popc.b32", simpleOp{fn: execPopc32, sig: "rr"})
	add("popc.b64", simpleOp{fn: execPopc64, sig: "rd"})
	add("clz.b32", simpleOp{fn: execClz32, sig: "rr"})
	add("clz.b64", simpleOp{fn: execClz64, sig: "rd"})
	add("brev.b32", simpleOp{fn: execBrev32, sig: "rr"})
	add("brev.b64", simpleOp{fn: execBrev64, sig: "dd"})
	for i, name := range []string{"bfind.u", "bfind.s", "bfind.shiftamt.u", "bfind.shiftamt.s"} {
		add(name+"32", simpleOp{fn: execBfind32, sig: "rr", sub: uint8(i)})
		add(name+"64", simpleOp{fn: execBfind64, sig: "rd", sub: uint8(i)})
	}
	for i, types := range []string{"u32.u32", "s32.u32", "u32.s32", "s32.s32"} {
		add("dp4a."+types, simpleOp{fn: execDp4a, sig: "rrrr", sub: uint8(i)})
		add("dp2a.lo."+types, simpleOp{fn: execDp2a, sig: "rrrr", sub: uint8(i)})
		add("dp2a.hi."+types, simpleOp{fn: execDp2a, sig: "rrrr", sub: uint8(i) | 4})
	}
	add("selp.b32 selp.u32 selp.s32", simpleOp{fn: execSelp32, sig: "rrrp"})
	add("selp.f32", simpleOp{fn: execSelp32, sig: "rffp"})
	add("selp.b64 selp.u64 selp.s64", simpleOp{fn: execSelp64, sig: "dddp"})
	add("selp.f64", simpleOp{fn: execSelp64, sig: "dggp"})
	for _, t := range []string{"b32", "u32", "s32", "f32"} {
		add("slct."+t+".s32", simpleOp{fn: execSlct32, sig: "rrrr"})
		add("slct."+t+".f32 slct.ftz."+t+".f32", simpleOp{fn: execSlct32, sig: "rrrr", sub: 1})
	}
	for _, t := range []string{"b64", "u64", "s64", "f64"} {
		add("slct."+t+".s32", simpleOp{fn: execSlct64, sig: "dddr"})
		add("slct."+t+".f32 slct.ftz."+t+".f32", simpleOp{fn: execSlct64, sig: "dddr", sub: 1})
	}
	add("and.pred", simpleOp{fn: execAndPred, sig: "ppp"})
	add("or.pred", simpleOp{fn: execOrPred, sig: "ppp"})
	add("xor.pred", simpleOp{fn: execXorPred, sig: "ppp"})
	add("not.pred", simpleOp{fn: execNotPred, sig: "pp"})
	add("mov.pred", simpleOp{fn: execMovPred, sig: "pp"})
}

// sigType is the type that an operand is checked for.
func sigType(c byte) scalar {
	switch c {
	case 'p':
		return pred
	case 'h':
		return b16
	case 'd':
		return b64
	case 'f':
		return f32
	case 'g':
		return f64
	}
	return b32
}

func outOf(c byte) outKind {
	switch c {
	case 'p':
		return outNone
	case 'd':
		return out64
	}
	return out32
}

// simple emits a table instruction.
func (d *decoder) simple(op simpleOp) error {
	args := d.stmt.args
	if len(args) != len(op.sig) {
		return d.errorf("%s with %d operands", d.stmt.op, len(args))
	}
	in := inst{fn: op.fn, out: outOf(op.sig[0]), sub: op.sub}
	var err error
	if in.d, err = d.dst(args[0], width(sigType(op.sig[0]))); err != nil {
		return err
	}
	var slots [4]int32
	for i := 1; i < len(op.sig); i++ {
		if slots[i-1], err = d.value(args[i], sigType(op.sig[i])); err != nil {
			return err
		}
		if op.sext && op.sig[i] == 'h' {
			t := d.temp32()
			d.emit(inst{fn: execSext16, out: out32, d: t, a: slots[i-1]})
			slots[i-1] = t
		}
	}
	in.a, in.b, in.c = slots[0], slots[1], slots[2]
	if len(op.sig) == 5 {
		in.more = &extra{src: slots[3]}
	}
	d.emit(in)
	if op.sig[0] == 'h' {
		d.emit(inst{fn: execZext16, out: out32, d: in.d, a: in.d})
	}
	return nil
}
