package cuda

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebitengine/purego"

	"hearth/internal/device"
	"hearth/internal/model"
)

// The table that loadDriver fills, down to the C calling convention: a driver in C checks the arguments of every call
// while a model is loaded and decodes, from one goroutine after another.
func TestBinding(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler is installed")
	}
	file := filepath.Join(t.TempDir(), "libdriver.so")
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-Wl,-Bsymbolic", "-o", file, "testdata/driver.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lib, err := purego.Dlopen(file, purego.RTLD_NOW)
	if err != nil {
		t.Fatal(err)
	}
	symbol := func(name string) (uintptr, error) { return purego.Dlsym(lib, name) }
	d, err := bind(symbol)
	if err != nil {
		t.Fatal(err)
	}
	if _, log, s := d.link(0, []byte("nothing")); s != invalidValue {
		t.Errorf("in a context that is none: %v, %q", s, log)
	}
	dev, err := open(d, 0, Options{Log: testLog(t), NoCache: true})
	if err != nil {
		t.Fatal(err)
	}
	if i := dev.Info(); i.Name != "Card of testdata" || i.Memory != 24<<30 || i.Free != 20<<30 || !strings.Contains(i.Detail, "capability 9.0, 82 multi") || !strings.HasSuffix(i.Detail, ", PTX for 8.0 with early launches") {
		t.Errorf("%+v", i)
	}
	decodeOn(t, dev, 20)
	dev.c.enter()
	_, log, s := d.link(dev.c.handle, []byte("nothing"))
	ms, _ := d.eventElapsed(1, 2)
	dev.c.leave()
	if err := d.checkLog("cuLinkAddData", s, log); !errors.Is(err, device.ErrNotSupported) || !strings.Contains(err.Error(), "CUDA_ERROR_INVALID_PTX (218): ptxas fatal: no version: update") {
		t.Errorf("error %v", err)
	}
	if ms != 1.5 {
		t.Errorf("elapsed %v", ms)
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	for _, count := range []struct {
		name  string
		least int
	}{{"replaysSoFar", 20}, {"launchesSoFar", 100}, {"overlappingSoFar", 10}} {
		fn, err := symbol(count.name)
		if err != nil {
			t.Fatal(err)
		}
		if n := int(call(fn)); n < count.least {
			t.Errorf("%s: %d", count.name, n)
		}
	}
	_, err = bind(func(name string) (uintptr, error) {
		if name == "cuLinkComplete" {
			return 0, errors.New("not there")
		}
		return symbol(name)
	})
	if err == nil || !strings.Contains(err.Error(), "lacks cuLinkComplete: install") {
		t.Errorf("error %v", err)
	}
}

// decodeOn loads a model and runs steps of one token, each on its own goroutine.
func decodeOn(t *testing.T, dev *Device, steps int) {
	t.Helper()
	p := model.Plan{Limits: device.Limits{MaxTokens: 32, MaxSeqs: 4, MaxLogits: 4, PageSize: 16, FullPages: 4, WindowPages: 4}}
	m, err := model.Load(openTiny(t, "tiny-a/hf-mxfp4"), dev, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range steps {
		b := &device.Batch{
			Tokens: []int32{1}, Positions: []int32{int32(i % 16)}, Seqs: []device.Seq{{Count: 1, Full: []int32{0}, Window: []int32{0}}},
			Logits: []device.LogitRow{{Target: -1, Sample: &device.Sampling{}}},
		}
		done := make(chan error)
		go func() { done <- m.Step(b, make([]device.Output, 1)) }()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
