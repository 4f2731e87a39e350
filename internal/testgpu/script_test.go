package testgpu

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScripts runs testdata/script. Commands:
//
//	eval in=(TYPE, ...) out=TYPE    instructions, then lines ":: VALUE ..." with values of a, b, c, e for one thread each;
//	                                prints d of each
//	warp out=TYPE [threads=N]       instructions for N threads (32); lane is the thread's number; prints d of each, or the
//	                                error of the launch
//	load                            statements of a kernel; prints the error of ModuleLoad
//	module                          a whole PTX text; prints the error of ModuleLoad or its kernels
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/script", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "eval":
				return evalScript(t, d)
			case "warp":
				return warpScript(t, d)
			case "load":
				_, _, log := New(Config{}).ModuleLoad([]byte(header + ".entry k() {\n" + d.Input + "\n}\n"))
				return log + "\n"
			case "module":
				g := New(Config{})
				mod, rc, log := g.ModuleLoad([]byte(d.Input + "\n"))
				if rc != Success {
					return log + "\n"
				}
				return fmt.Sprintln(g.Functions(mod))
			}
			t.Fatalf("unknown command %s", d.Cmd)
			return ""
		})
	})
}

const header = ".version 7.0\n.target sm_80\n.address_size 64\n"

func evalScript(t *testing.T, d *datadriven.TestData) string {
	var types []scalar
	for _, arg := range d.CmdArgs {
		if arg.Key == "in" {
			for _, name := range arg.Vals {
				types = append(types, mustScalar(t, name))
			}
		}
	}
	out := outType(t, d)
	var code, body strings.Builder
	var data []uint64
	for line := range strings.Lines(d.Input) {
		if values, ok := strings.CutPrefix(line, ":: "); ok {
			fields := strings.Fields(values)
			if len(fields) != len(types) {
				t.Fatalf("%d values for %d operands: %s", len(fields), len(types), line)
			}
			for i, f := range fields {
				data = append(data, encode(t, types[i], f))
			}
		} else {
			code.WriteString(line)
		}
	}
	n := len(data) / len(types)
	for i, ty := range types {
		name := string("abce"[i])
		fmt.Fprintf(&body, ".reg .%s %s;\nld.global.%s %s, [at+%d];\n", registerType(ty), name, registerType(ty), name, 8*i)
	}
	text := fmt.Sprintf("mad.wide.u32 at, lane, %d, at;\n%s%s", 8*len(types), body.String(), code.String())
	r, res, rc := scriptLaunch(t, text, out, data, n)
	if rc != Success {
		return r.LastError() + "\n"
	}
	var s strings.Builder
	for _, v := range res {
		s.WriteString(show(out, v) + "\n")
	}
	return s.String()
}

func warpScript(t *testing.T, d *datadriven.TestData) string {
	threads := 32
	d.MaybeScanArgs(t, "threads", &threads)
	out := outType(t, d)
	r, res, rc := scriptLaunch(t, d.Input, out, nil, threads)
	if rc != Success {
		return r.LastError() + "\n"
	}
	var s []string
	for _, v := range res {
		s = append(s, show(out, v))
	}
	return strings.Join(s, " ") + "\n"
}

// scriptLaunch runs a body that sets d, and returns d of each thread.
func scriptLaunch(t *testing.T, body string, out scalar, data []uint64, threads int) (*rig, []uint64, int) {
	t.Helper()
	ty := registerType(out)
	ptx := fmt.Sprintf(`%s.entry k(.param .u64 in, .param .u64 out) {
.reg .u64 at, to; .reg .u32 lane; .reg .%s d; .reg .b64 wide;
.reg .pred %%p<10>; .reg .b16 %%rs<10>; .reg .b32 %%r<10>; .reg .f32 %%f<10>; .reg .b64 %%rd<10>;
.shared .align 16 .b8 tile[1024]; .local .align 16 .b8 stack[64];
mov.u32 lane, %%tid.x; ld.param.u64 at, [in]; ld.param.u64 to, [out];
mad.wide.u32 to, lane, 8, to; st.global.u64 [to], 0;
%s
st.global.%s [to], d;
}
`, header, ty, body, ty)
	r := &rig{GPU: New(Config{MaxSteps: 10000}), t: t}
	mod, rc, log := r.ModuleLoad([]byte(ptx))
	if rc != Success {
		r.last = log
		return r, nil, rc
	}
	r.mod = mod
	in := put(r, append(data, 0))
	to := put(r, make([]uint64, threads))
	if rc := r.try("k", [3]int{1, 1, 1}, [3]int{threads, 1, 1}, 0, in, to); rc != Success {
		return r, nil, rc
	}
	return r, get[uint64](r, to, threads), Success
}

func outType(t *testing.T, d *datadriven.TestData) scalar {
	var name string
	d.ScanArgs(t, "out", &name)
	return mustScalar(t, name)
}

func mustScalar(t *testing.T, name string) scalar {
	t.Helper()
	s, ok := scalarOf(name)
	if !ok {
		t.Fatalf("unknown type %s", name)
	}
	return s
}

// registerType is the untyped register that holds a type.
func registerType(s scalar) string { return fmt.Sprintf("b%d", max(16, 8*s.size())) }

func encode(t *testing.T, ty scalar, text string) uint64 {
	t.Helper()
	if ty.float() && !strings.HasPrefix(text, "0x") {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		switch ty {
		case f16:
			return uint64(f64ToF16(v, nearestEven))
		case bf16:
			return uint64(f64ToBF16(v, nearestEven))
		case f64:
			return math.Float64bits(v)
		}
		return uint64(math.Float32bits(float32(v)))
	}
	if v, err := strconv.ParseInt(text, 0, 64); err == nil {
		return uint64(v)
	}
	v, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func show(ty scalar, v uint64) string {
	switch {
	case ty == f16:
		return fmt.Sprint(f16ToF64(uint16(v)))
	case ty == bf16:
		return fmt.Sprint(bf16ToF64(uint16(v)))
	case ty == f32:
		return fmt.Sprint(toF32(uint32(v)))
	case ty == f64:
		return fmt.Sprint(toF64(v))
	case ty.signed():
		return fmt.Sprint(int64(extend(v, ty)))
	case ty == u16 || ty == u32 || ty == u64:
		return fmt.Sprint(extend(v, ty))
	}
	return fmt.Sprintf("%0*x", max(4, 2*ty.size()), extend(v, ty))
}
