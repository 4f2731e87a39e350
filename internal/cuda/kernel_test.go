package cuda

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"hearth/internal/device"
	"hearth/internal/testgpu"
)

func unpackSpec() kernelSpec {
	return kernelSpec{module: "step", name: "unpackStep", params: unsafe.Sizeof(unpackParams{})}
}

func TestKernelRefusals(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	for _, e := range []struct {
		want   string
		change func(*kernelSpec)
	}{
		{`no kernels of the name "nosuch" are built in`, func(s *kernelSpec) { s.module = "nosuch" }},
		{`kernels/step.ptx has no kernel "nosuch"`, func(s *kernelSpec) { s.name = "nosuch" }},
		{"kernel unpackStep takes 64 bytes of parameters, its caller passes 63", func(s *kernelSpec) { s.params-- }},
		{"kernel unpackStep needs 101377 bytes of shared memory, testgpu (as GeForce RTX 3090) allows 101376", func(s *kernelSpec) { s.shared = 99<<10 + 1 }},
	} {
		s := unpackSpec()
		e.change(&s)
		if _, err := c.kernel(s); err == nil || !strings.Contains(err.Error(), e.want) {
			t.Errorf("error %v, want %q", err, e.want)
		}
	}
	s := unpackSpec()
	s.shared = 99 << 10
	if _, err := c.kernel(s); err != nil {
		t.Error(err)
	}
}

// The compiler's own words are in the error, with what the user can do.
func TestCompilerErrors(t *testing.T) {
	m, c := simContext(t, testgpu.Config{})
	m.jitLog = "ptxas fatal: Unsupported .version 7.0; current version is '6.5'"
	m.failAfter("cuLinkComplete", 1, unsupportedPTX)
	_, err := c.kernel(unpackSpec())
	for _, want := range []string{"kernels/step.ptx: cuLinkComplete", m.jitLog, "update the NVIDIA driver"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if !errors.Is(err, device.ErrNotSupported) || errors.Is(err, device.ErrLost) {
		t.Errorf("error %v", err)
	}
	for _, call := range []string{"cuModuleLoadDataEx", "cuModuleGetFunction", "cuFuncGetAttribute"} {
		m.failAfter(call, 1, invalidValue)
		if _, err := c.kernel(unpackSpec()); err == nil || !strings.Contains(err.Error(), call) {
			t.Errorf("error %v, want %s", err, call)
		}
	}
	s := unpackSpec()
	s.shared = 50 << 10
	m.failAfter("cuFuncSetAttribute", 1, invalidValue)
	if _, err := c.kernel(s); err == nil || !strings.Contains(err.Error(), "51200 bytes shared: cuFuncSetAttribute") {
		t.Errorf("error %v", err)
	}
}

// A second start compiles nothing; what is damaged, or does not load, is compiled again and replaced.
func TestCompilerCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	start := func(prepare func(*sim)) (compiled int) {
		m, c := simContext(t, testgpu.Config{})
		c.modules.cache.dir = dir
		if prepare != nil {
			prepare(m)
		}
		if _, err := c.kernel(unpackSpec()); err != nil {
			t.Fatal(err)
		}
		return m.calls["cuLinkComplete"]
	}
	entry := func() string {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("the cache holds %v, %v", files, err)
		}
		return files[0]
	}
	if n := start(nil); n != 1 {
		t.Errorf("first start: %d compiled", n)
	}
	if name := filepath.Base(entry()); !strings.Contains(name, "-sm86-cuda12040-testgpu.cubin") {
		t.Errorf("entry %s does not name card and driver", name)
	}
	if n := start(nil); n != 0 {
		t.Errorf("second start: %d compiled", n)
	}
	good, err := os.ReadFile(entry())
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"empty": {}, "short": good[:20], "cut": good[:len(good)-1], "changed": append(append([]byte{}, good[:100]...), make([]byte, len(good)-100)...)} {
		if err := os.WriteFile(entry(), bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if n := start(nil); n != 1 {
			t.Errorf("%s entry: %d compiled", name, n)
		}
		if n := start(nil); n != 0 {
			t.Errorf("after a %s entry: %d compiled", name, n)
		}
	}
	if n := start(func(m *sim) { m.failAfter("cuModuleLoadDataEx", 1, invalidImage) }); n != 1 {
		t.Errorf("an entry that does not load: %d compiled", n)
	}
	if n := start(nil); n != 0 {
		t.Errorf("after that: %d compiled", n)
	}
}

// A folder that cannot be written only costs time.
func TestCacheThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, c := simContext(t, testgpu.Config{})
	c.modules.cache.dir = filepath.Join(file, "ptx")
	if _, err := c.kernel(unpackSpec()); err != nil {
		t.Fatal(err)
	}
	if c.modules.cache.dir != "" {
		t.Error("it would be tried, and said, again")
	}
}

// What kind of GPU or driver is refused, and in which words.
func TestRefusedDevices(t *testing.T) {
	for name, e := range map[string]struct {
		config  testgpu.Config
		ordinal int
		prepare func(*sim, *driver)
		want    string
		support bool // another machine could
	}{
		"old driver": {config: testgpu.Config{Driver: 10020}, want: "for CUDA 10.2, too old for PTX 7.0: install 450.36 or newer", support: true},
		"old card":   {config: testgpu.Config{Name: "Tesla T4", Major: 7, Minor: 5}, want: "Tesla T4 has compute capability 7.5, the kernels need 8.0 or more", support: true},
		"no card":    {prepare: func(_ *sim, d *driver) { d.deviceCount = func() (int, status) { return 0, success } }, want: "no NVIDIA GPU is visible", support: true},
		"ordinal":    {ordinal: 3, want: "there is no GPU 3: this machine has 1"},
		"init":       {prepare: func(m *sim, _ *driver) { m.failAfter("cuInit", 1, systemMismatch) }, want: "restart the machine after a driver update", support: true},
		"stub":       {prepare: func(m *sim, _ *driver) { m.failAfter("cuInit", 1, stubLibrary) }, want: "cuInit: CUDA_ERROR_34 [] (34): the library is the toolkit's stub", support: true},
		"fabric":     {prepare: func(m *sim, _ *driver) { m.failAfter("cuInit", 1, systemNotReady) }, want: "start nvidia-fabricmanager", support: true},
		"asleep":     {prepare: func(m *sim, _ *driver) { m.failAfter("cuInit", 1, unknown) }, want: "a restart may help"},
		"busy":       {prepare: func(m *sim, _ *driver) { m.failAfter("cuDevicePrimaryCtxRetain", 1, deviceUnavailable) }, want: "nvidia-smi -c DEFAULT", support: true},
		"full":       {prepare: func(m *sim, _ *driver) { m.failAfter("cuDevicePrimaryCtxRetain", 1, outOfMemory) }, want: "free memory on the GPU"},
		"prohibited": {prepare: func(_ *sim, d *driver) {
			get := d.deviceAttribute
			d.deviceAttribute = func(a attribute, dev int32) (int, status) {
				if a == attrComputeMode {
					return computeProhibited, success
				}
				return get(a, dev)
			}
		}, want: "compute mode 'prohibited'", support: true},
		"stream": {prepare: func(m *sim, _ *driver) { m.failAfter("cuStreamCreate", 1, outOfMemory) }, want: "cuStreamCreate"},
		"pinned": {prepare: func(m *sim, _ *driver) { m.failAfter("cuMemHostAlloc", 1, outOfMemory) }, want: "4 MiB of page-locked memory"},
	} {
		t.Run(name, func(t *testing.T) {
			m, d := newSim(e.config)
			if e.prepare != nil {
				e.prepare(m, d)
			}
			_, err := openContext(d, e.ordinal, nil)
			if err == nil || !strings.Contains(err.Error(), e.want) {
				t.Fatalf("error %v, want %q", err, e.want)
			}
			if errors.Is(err, device.ErrNotSupported) != e.support {
				t.Errorf("%v: ErrNotSupported is %v", err, !e.support)
			}
			if text := err.Error(); strings.Contains(text, "\n") || strings.Contains(text, device.ErrNotSupported.Error()) {
				t.Errorf("%q is not one plain line", text)
			}
			if left := m.leaks(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestList(t *testing.T) {
	m, d := newSim(testgpu.Config{Name: "GeForce GTX 1080", Major: 6, Minor: 1})
	cards, driver, err := d.list()
	if err != nil || len(cards) != 1 || driver != "CUDA 12.4, driver testgpu" {
		t.Fatalf("%v, %q, %v", cards, driver, err)
	}
	if c := cards[0]; c.Name != "GeForce GTX 1080" || c.Major != 6 || c.Err == nil || c.Bandwidth != 936_096_000_000 {
		t.Errorf("%+v", c)
	}
	if m.calls["cuDevicePrimaryCtxRetain"] != 0 {
		t.Error("listing made a context")
	}
}

// Modules compiled ahead are not compiled again, whether they come from there, from the cache or are loaded already.
func TestCompileAhead(t *testing.T) {
	dir := t.TempDir()
	for start := range 2 {
		m, c := simContext(t, testgpu.Config{})
		c.modules.cache.dir = dir
		if err := c.compile("st*", "sample", "nosuch"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := c.kernel(unpackSpec()); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.compile("step"); err != nil {
			t.Fatal(err)
		}
		for _, w := range c.modules.under {
			<-w.done
		}
		if err := c.resolveAll(); err != nil {
			t.Fatal(err)
		}
		// The second start finds what the first has used.
		if n := m.calls["cuLinkComplete"]; n != 2-start || c.modules.compiled != n {
			t.Errorf("start %d: %d compiled, %d in the books", start, n, c.modules.compiled)
		}
	}
	m, c := simContext(t, testgpu.Config{})
	m.failAfter("cuLinkComplete", 1, invalidPTX)
	if err := c.compile("step"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.kernel(unpackSpec()); err != nil {
		t.Fatal(err)
	}
	if err := c.resolveAll(); err == nil || !strings.Contains(err.Error(), "kernels/step.ptx: cuLinkComplete") {
		t.Errorf("error %v", err)
	}
}
