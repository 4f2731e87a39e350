package testgpu

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Random structured programs over a few variables, run by 64 threads that diverge, give each thread what the same
// program gives it alone. Every value has a virtual register of its own, so this tests the sharing of slots as well.

const programVars = 5

// node is a statement: an assignment, a branch or a loop.
type node struct {
	kind     string // "set", "if", "loop"
	op       string
	d, a, b  int
	constant uint32
	body     []node
	other    []node
}

var programOps = map[string]func(a, b uint32) uint32{
	"add.u32":    func(a, b uint32) uint32 { return a + b },
	"sub.u32":    func(a, b uint32) uint32 { return a - b },
	"mul.lo.u32": func(a, b uint32) uint32 { return a * b },
	"xor.b32":    func(a, b uint32) uint32 { return a ^ b },
	"min.u32":    func(a, b uint32) uint32 { return min(a, b) },
	"shr.u32":    func(a, b uint32) uint32 { return a >> b },
}

func drawNodes(t *rapid.T, depth int) []node {
	nodes := make([]node, rapid.IntRange(1, 5).Draw(t, "statements"))
	for i := range nodes {
		n := &nodes[i]
		kinds := []string{"set"}
		if depth > 0 {
			kinds = append(kinds, "set", "if", "loop")
		}
		n.kind = rapid.SampledFrom(kinds).Draw(t, "kind")
		n.op = rapid.SampledFrom([]string{"add.u32", "sub.u32", "mul.lo.u32", "xor.b32", "min.u32", "shr.u32"}).Draw(t, "op")
		variable := rapid.IntRange(0, programVars-1)
		n.d, n.a, n.b = variable.Draw(t, "d"), variable.Draw(t, "a"), variable.Draw(t, "b")
		n.constant = rapid.Uint32Range(0, 9).Draw(t, "constant")
		if n.kind != "set" {
			n.body = drawNodes(t, depth-1)
			n.other = drawNodes(t, depth-1)
		}
	}
	return nodes
}

// emitter writes PTX; reg holds the register of each variable's home, temporaries are new each time.
type emitter struct {
	strings.Builder
	regs, preds, labels int
}

func (e *emitter) temp() string {
	e.regs++
	return fmt.Sprintf("t%d", e.regs)
}

func (e *emitter) nodes(nodes []node) {
	for _, n := range nodes {
		e.labels++
		e.preds++
		p, label := e.preds, e.labels
		switch n.kind {
		case "set":
			x, y := e.temp(), e.temp()
			fmt.Fprintf(e, "add.u32 %s, v%d, %d;\n%s %s, v%d, %s;\nmov.u32 v%d, %s;\n", x, n.b, n.constant, n.op, y, n.a, x, n.d, y)
		case "if":
			x := e.temp()
			fmt.Fprintf(e, "and.b32 %s, v%d, 3;\nsetp.gt.u32 p%d, %s, 1;\n@p%d bra L%d;\n", x, n.a, p, x, p, label)
			e.nodes(n.other)
			fmt.Fprintf(e, "bra E%d;\nL%d:\n", label, label)
			e.nodes(n.body)
			fmt.Fprintf(e, "E%d:\n", label)
		case "loop": // v & 3 times
			x := e.temp()
			fmt.Fprintf(e, "and.b32 %s, v%d, 3;\nL%d: setp.eq.u32 p%d, %s, 0;\n@p%d bra E%d;\n", x, n.a, label, p, x, p, label)
			e.nodes(n.body)
			fmt.Fprintf(e, "sub.u32 %s, %s, 1;\nbra L%d;\nE%d:\n", x, x, label, label)
		}
	}
}

func evaluate(nodes []node, v *[programVars]uint32) {
	for _, n := range nodes {
		switch n.kind {
		case "set":
			v[n.d] = programOps[n.op](v[n.a], v[n.b]+n.constant)
		case "if":
			if v[n.a]&3 > 1 {
				evaluate(n.body, v)
			} else {
				evaluate(n.other, v)
			}
		case "loop":
			for range v[n.a] & 3 {
				evaluate(n.body, v)
			}
		}
	}
}

func TestRandomPrograms(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		program := drawNodes(rt, 3)
		e := &emitter{}
		e.nodes(program)
		var first, last strings.Builder
		for i := range programVars {
			fmt.Fprintf(&first, "mad.lo.u32 v%d, lane, %d, %d;\n", i, 2*i+1, i)
			fmt.Fprintf(&last, "st.global.u32 [to+%d], v%d;\n", 4*i, i)
		}
		ptx := fmt.Sprintf(`%s.entry k(.param .u64 out) {
.reg .u64 to; .reg .u32 lane, v<%d>, t<%d>; .reg .pred p<%d>;
mov.u32 lane, %%tid.x; ld.param.u64 to, [out]; mad.wide.u32 to, lane, %d, to;
%s%s%s}
`, header, programVars, e.regs+1, e.preds+1, 4*programVars, first.String(), e.String(), last.String())
		r := loadRig(t, Config{Workers: 1}, []byte(ptx))
		out := r.alloc(64 * 4 * programVars)
		r.run("k", [3]int{1, 1, 1}, [3]int{64, 1, 1}, 0, out)
		got := get[[programVars]uint32](r, out, 64)
		for lane := range uint32(64) {
			var v [programVars]uint32
			for i := range v {
				v[i] = lane*uint32(2*i+1) + uint32(i)
			}
			if evaluate(program, &v); got[lane] != v {
				rt.Fatalf("thread %d: %v, want %v\n%s", lane, got[lane], v, ptx)
			}
		}
	})
}
