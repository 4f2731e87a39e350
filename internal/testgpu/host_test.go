package testgpu

import (
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestMemory(t *testing.T) {
	g := New(Config{Memory: 1 << 20})
	a, rc := g.MemAlloc(1000)
	if rc != Success || a%allocAlign != 0 {
		t.Fatal(a, rc)
	}
	for _, c := range []struct {
		name string
		call func() int
		want int
		text string
	}{
		{"too much", func() int { _, rc := g.MemAlloc(1 << 20); return rc }, OutOfMemory, "1000 of 1048576 in use"},
		{"nothing", func() int { _, rc := g.MemAlloc(0); return rc }, InvalidValue, "MemAlloc of 0 bytes"},
		{"in", func() int { return g.CopyIn(a+990, make([]byte, 10)) }, Success, ""},
		{"in, past the end", func() int { return g.CopyIn(a+991, make([]byte, 10)) }, InvalidValue, "CopyIn of 10 bytes at"},
		{"in, before", func() int { return g.CopyIn(a-1, make([]byte, 10)) }, InvalidValue, "below all allocations"},
		{"out", func() int { return g.CopyOut(make([]byte, 10), a+990) }, Success, ""},
		{"out, unwritten", func() int { return g.CopyOut(make([]byte, 10), a+985) }, InvalidValue, "byte 0 was never written"},
		{"set", func() int { return g.Set8(a, 7, 100) }, Success, ""},
		{"set words", func() int { return g.Set32(a+100, 0x01020304, 3) }, Success, ""},
		{"set words, misaligned", func() int { return g.Set32(a+1, 0, 3) }, InvalidValue, "Set32 of 3 words"},
		{"device", func() int { return g.CopyDevice(a+200, a+90, 20) }, Success, ""},
		{"device, overlapping", func() int { return g.CopyDevice(a+95, a+90, 20) }, InvalidValue, "overlap"},
		{"device, past the end", func() int { return g.CopyDevice(a+990, a, 20) }, InvalidValue, "CopyDevice of 20 bytes"},
		{"device, huge", func() int { return g.CopyDevice(a, a, 1<<62) }, InvalidValue, "CopyDevice"},
		{"free, inside", func() int { return g.MemFree(a + 8) }, InvalidValue, "which is no allocation"},
	} {
		if rc := c.call(); rc != c.want || rc != Success && !strings.Contains(g.LastError(), c.text) {
			t.Errorf("%s: %d %s, want %d %s", c.name, rc, g.LastError(), c.want, c.text)
		}
	}
	b := make([]byte, 20)
	g.CopyOut(b, a+200)
	if want := []byte{7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 4, 3, 2, 1, 4, 3, 2, 1, 4, 3}; !slices.Equal(b, want) {
		t.Errorf("copied %v", b)
	}
	if rc := g.Define(a, 1000); rc != Success {
		t.Error(rc)
	}
	if g.CopyOut(b, a+300); b[0] != 0xff {
		t.Errorf("defined bytes are %#x", b[0])
	}
	if rc := g.MemFree(a); rc != Success {
		t.Error(rc)
	}
	if n, bytes := g.Live(); n != 0 || bytes != 0 {
		t.Errorf("%d allocations of %d bytes are live", n, bytes)
	}
	if free, total := g.MemInfo(); free != total || total != 1<<20 {
		t.Errorf("%d of %d bytes are free", free, total)
	}
}

func TestFailAfter(t *testing.T) {
	g := New(Config{})
	g.FailAfter("MemAlloc", 2, OutOfMemory)
	var got []int
	for range 3 {
		_, rc := g.MemAlloc(16)
		got = append(got, rc)
	}
	if !slices.Equal(got, []int{Success, OutOfMemory, Success}) {
		t.Errorf("got %v", got)
	}
	if n, _ := g.Live(); n != 2 {
		t.Errorf("%d allocations are live", n)
	}
}

// The committed PTX was made from the committed sources.
func TestTestdataIsNotStale(t *testing.T) {
	for _, name := range []string{"kernels", "bugs"} {
		source, err := os.ReadFile("testdata/" + name + ".cu")
		if err != nil {
			t.Fatal(err)
		}
		ptx, err := os.ReadFile("testdata/" + name + ".ptx")
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("// sha256 %x\n", sha256.Sum256(source)); !strings.HasPrefix(string(ptx), want) {
			t.Errorf("%s.ptx was made from another %s.cu: its first lines say how to make it", name, name)
		}
	}
}

// What a driver refuses before anything runs.
func TestLaunchLimits(t *testing.T) {
	const text = header + `.extern .shared .align 16 .b8 dyn[];
.entry k(.param .u32 n) .maxntid 64, 1, 1 { .shared .align 4 .b8 s[100]; .reg .u32 a; mov.u32 a, dyn; mov.u32 a, s; ret; }
.entry all() .reqntid 32, 2, 1 { ret; }
`
	r := loadRig(t, Config{}, []byte(text))
	fn, _ := r.Function(r.mod, "k")
	info, ok := r.FunctionInfo(fn)
	if want := (Info{Name: "k", ParamBytes: 4, StaticShared: 112, MaxThreads: 64, Registers: info.Registers}); !ok || info != want {
		t.Errorf("info %+v, want %+v", info, want)
	}
	if _, rc := r.Function(r.mod, "nothing"); rc != NotFound {
		t.Errorf("unknown function: %d", rc)
	}
	one := [3]int{1, 1, 1}
	for _, c := range []struct {
		name        string
		kernel      string
		grid, block [3]int
		shared      int
		params      []byte
		want        int
	}{
		{"good", "k", one, [3]int{64, 1, 1}, 1000, make([]byte, 4), Success},
		{"no blocks", "k", [3]int{1, 0, 1}, one, 0, make([]byte, 4), InvalidValue},
		{"too many rows", "k", [3]int{1, 65536, 1}, one, 0, make([]byte, 4), InvalidValue},
		{"too many threads", "k", one, [3]int{65, 1, 1}, 0, make([]byte, 4), LaunchOutOfBounds},
		{"parameters", "k", one, one, 0, make([]byte, 8), InvalidValue},
		{"shared", "k", one, one, 48<<10 - 111, make([]byte, 4), InvalidValue},
		{"threads required", "all", one, [3]int{32, 1, 1}, 0, nil, LaunchOutOfBounds},
		{"threads as required", "all", one, [3]int{32, 2, 1}, 0, nil, Success},
	} {
		fn, _ := r.Function(r.mod, c.kernel)
		if rc := r.Launch(fn, c.grid, c.block, c.shared, c.params); rc != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, rc, r.LastError(), c.want)
		}
	}
	if rc := r.SetMaxShared(fn, 99<<10); rc != InvalidValue {
		t.Errorf("SetMaxShared past the device: %d", rc)
	}
	if rc := r.SetMaxShared(fn, 99<<10-112); rc != Success {
		t.Errorf("SetMaxShared: %d", rc)
	}
	if rc := r.Launch(fn, one, one, 99<<10-112, make([]byte, 4)); rc != Success {
		t.Errorf("launch with all shared memory: %d %s", rc, r.LastError())
	}
	if rc := r.Launch(12345, one, one, 0, nil); rc != InvalidHandle {
		t.Errorf("unknown handle: %d", rc)
	}
}

// Variables of a module: initial values, addresses of each other, constants.
func TestVariables(t *testing.T) {
	const text = header + `.global .align 4 .u32 counter = 5;
.global .align 8 .u64 pointers[2] = {counter, generic(table)};
.const .align 4 .f32 table[3] = {0f3F800000, -1.5, 2.0};
.const .align 1 .b8 bytes[4] = {1, 0x80, -1, 4};
.entry k(.param .u64 out) {
  .reg .u64 p<4>; .reg .u32 a<8>; .reg .f32 f;
  ld.param.u64 p0, [out];
  ld.global.u64 p1, [pointers]; ld.u32 a0, [p1]; add.u32 a1, a0, 1; st.global.u32 [counter], a1; st.global.u32 [p0], a0;
  ld.global.u64 p2, [pointers+8]; ld.f32 f, [p2+4]; st.global.f32 [p0+4], f;
  mov.u64 p3, bytes; ld.const.u8 a2, [p3+1]; ld.const.s8 a3, [bytes+2]; add.u32 a2, a2, a3; st.global.u32 [p0+8], a2;
}
`
	r := loadRig(t, Config{}, []byte(text))
	out := r.alloc(12)
	for i := range uint32(2) { // variables keep their values between launches
		r.run("k", [3]int{1, 1, 1}, [3]int{1, 1, 1}, 0, out)
		if got, want := get[uint32](r, out, 3), []uint32{5 + i, 0xbfc00000, 127}; !slices.Equal(got, want) {
			t.Errorf("got %x, want %x", got, want)
		}
	}
	if n, _ := r.Live(); n != 1 {
		t.Errorf("%d allocations are live: a module's variables do not count", n)
	}
}

// Any text loads or is refused, without a panic; what loads runs to some end.
func FuzzModuleLoad(f *testing.F) {
	for _, name := range []string{"testdata/kernels.ptx", "testdata/bugs.ptx"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		text := string(b)
		f.Add(text)
		for at := 0; at < len(text); { // single functions
			end := strings.Index(text[at:], "// -- End function")
			if end < 0 {
				break
			}
			f.Add(header + text[at:at+end] + "\n}\n")
			at += end + 20
		}
	}
	f.Add(header + ".global .u32 a[2] = {1, {2}};\n.entry k(.param .u64 p) {\n.reg .pred p<3>; .reg .b32 %r<5>;\nx: @!p1 bra x;\n{ .reg .b32 q; mov.b32 q, {%r1, 5}; }\n}")
	f.Add(header + ".entry k() {\nset;\n}")
	f.Add(header + ".entry k() {\n.reg .u64 a; cvta.to.shared.u64 _, a; mov.u64 _, a;\n}")
	f.Fuzz(func(t *testing.T, text string) {
		g := New(Config{MaxSteps: 2000, Workers: 1})
		mod, rc, log := g.ModuleLoad([]byte(text))
		if rc != Success {
			if !strings.Contains(log, "line ") {
				t.Fatalf("no line in %q", log)
			}
			return
		}
		for _, name := range g.Functions(mod) {
			fn, _ := g.Function(mod, name)
			info, _ := g.FunctionInfo(fn)
			if info.ParamBytes > 1<<12 || info.Registers > 1<<14 || info.Local > 1<<16 || info.StaticShared > 99<<10 {
				continue
			}
			if rc := g.Launch(fn, [3]int{1, 1, 1}, [3]int{min(info.MaxThreads, 40), 1, 1}, 0, make([]byte, info.ParamBytes)); rc != Success && strings.Contains(g.LastError(), "testgpu: ") {
				t.Fatal(g.LastError())
			}
		}
	})
}
