package convert

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth/internal/testmodel"
)

// stopAfter runs a plan until so many bytes are written, as Ctrl-C would.
func stopAfter(t *testing.T, p *Plan, share float64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := p.Run(ctx, RunOptions{Threads: 1, Progress: func(s Stage, done, total int64) {
		if s == StageWrite && float64(done) > share*float64(total) {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped run: %v", err)
	}
}

// A run that was stopped leaves nothing under the final name; the same plan goes on from there, does again what was
// damaged meanwhile, keeps the errors it measured, and gives the bytes of a run in one go.
func TestResume(t *testing.T) {
	src := testmodel.Dir(t, "tiny-a/hf-mxfp4")
	o := Options{To: UnslothBNB, Experts: NF4DQ, ShardBytes: 600_000}
	whole := convert(t, src, o)
	dst := filepath.Join(t.TempDir(), "out")
	plan := func() *Plan {
		p, err := New(open(t, src), dst, o)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	stopAfter(t, plan(), 0.6)
	if _, err := os.Stat(dst); !os.IsNotExist(err) {
		t.Fatalf("something is under the final name: %v", err)
	}
	// A page that never reached the disk, and a line of the journal that was cut off.
	damaged := filepath.Join(dst+partialSuffix, filepath.Base(firstShard(t, dst+partialSuffix)))
	overwrite(t, damaged, 200_000, make([]byte, 4096))
	journal := filepath.Join(dst+partialSuffix, journalName)
	b, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(journal, b[:len(b)-10], 0o644); err != nil {
		t.Fatal(err)
	}
	p := plan()
	begun := int64(-1)
	r, err := p.Run(context.Background(), RunOptions{Progress: func(s Stage, done, total int64) {
		if s == StageWrite && begun < 0 {
			begun = done
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if begun != r.Resumed {
		t.Errorf("writing begins at %d bytes, want %d: the rate would count what an earlier run wrote", begun, r.Resumed)
	}
	if r.Resumed == 0 || r.Written == 0 || r.Resumed > r.Written*3 {
		t.Errorf("resumed %d bytes, wrote %d", r.Resumed, r.Written)
	}
	for _, name := range append(p.Files(), "config.json") {
		got, err := os.ReadFile(filepath.Join(dst, name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(whole, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from that of a run in one go", name)
		}
	}
	again, err := New(open(t, src), filepath.Join(t.TempDir(), "again"), o)
	if err != nil {
		t.Fatal(err)
	}
	want, err := again.Measure(context.Background(), RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range r.Parts {
		if x.Exact {
			continue
		}
		if w := want[i].Error; x.Error.Max != w.Max || math.Abs(x.Error.RMS()-w.RMS()) > 1e-12 || x.Error.n != w.n {
			t.Errorf("%s: error %v over %v values, want %v over %v", x.Kind, x.Error, x.Error.n, w, w.n)
		}
	}
}

func firstShard(t *testing.T, dir string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil || len(list) == 0 {
		t.Fatalf("%s: no shards (%v)", dir, err)
	}
	return list[0]
}

func overwrite(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func TestRemainsOfAnotherConversion(t *testing.T) {
	src := testmodel.Dir(t, "tiny-a/hf-mxfp4")
	dst := filepath.Join(t.TempDir(), "out")
	p, err := New(open(t, src), dst, Options{To: HFBF16})
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, p, 0.3)
	other, err := New(open(t, src), dst, Options{To: HFBF16, Dense: F16})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Run(context.Background(), RunOptions{}); err == nil || !strings.Contains(err.Error(), "another conversion") {
		t.Errorf("other options went on from these remains: %v", err)
	}
}

// Bytes that change between writing and verifying are found, and nothing gets the final name.
func TestVerificationFails(t *testing.T) {
	for _, to := range []Target{HFBF16, FusedNF4, GGUF, HFMXFP4} {
		dst := filepath.Join(t.TempDir(), "out")
		p, err := New(open(t, testmodel.Dir(t, "tiny-a/hf-mxfp4")), dst, Options{To: to})
		if err != nil {
			t.Fatal(err)
		}
		var at *Tensor
		for _, x := range p.Tensors {
			if (strings.Contains(x.Name, "down_proj") || strings.Contains(x.Name, "ffn_down")) && !strings.HasSuffix(x.Name, "bias") {
				at = x
				break
			}
		}
		_, err = p.Run(context.Background(), RunOptions{Progress: func(s Stage, done, total int64) {
			if s == StageVerify && done == 0 {
				overwrite(t, filepath.Join(dst+partialSuffix, at.File), at.Offset+at.Bytes/2, []byte{0x5A, 0x33})
			}
		}})
		if err == nil || !strings.Contains(err.Error(), "verification failed") || !strings.Contains(err.Error(), "layer 0 down") {
			t.Errorf("%s: %v", to, err)
		}
		if _, err := os.Stat(dst); !os.IsNotExist(err) {
			t.Errorf("%s: something is under the final name", to)
		}
	}
}

// One program at a time writes to a destination.
func TestLock(t *testing.T) {
	src := testmodel.Dir(t, "tiny-a/hf-mxfp4")
	dst := filepath.Join(t.TempDir(), "out")
	plan := func() *Plan {
		p, err := New(open(t, src), dst, Options{To: OpenAI})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	tried := false
	if _, err := plan().Run(context.Background(), RunOptions{Progress: func(s Stage, done, total int64) {
		if s == StageVerify && !tried {
			tried = true
			if _, err := plan().Run(context.Background(), RunOptions{}); err == nil || !strings.Contains(err.Error(), "another program") {
				t.Errorf("a second run beside the first: %v", err)
			}
		}
	}}); err != nil {
		t.Fatal(err)
	}
	if !tried {
		t.Error("no second run was tried")
	}
}

func TestPythonFloat(t *testing.T) {
	for f, want := range map[float32]string{
		0.5231119990348816: "0.5231119990348816", 1: "1.0", 0: "0.0", 1e-5: "9.999999747378752e-06", 1e17: "9.999999843067494e+16", -2.5: "-2.5",
	} {
		if got := pythonFloat(f); got != want {
			t.Errorf("%v prints as %s, Python prints %s", f, got, want)
		}
	}
}

func TestErrorFigures(t *testing.T) {
	var e Error
	e.compare([]float32{1, -2, 3}, []float32{1, -2, 4})
	if e.Exact() || e.Max != 1 || math.Abs(e.RMS()-math.Sqrt(1.0/3)) > 1e-15 {
		t.Errorf("max %v, RMS %v", e.Max, e.RMS())
	}
	if want := 17 / math.Sqrt(14*21); math.Abs(e.Cosine()-want) > 1e-12 {
		t.Errorf("cosine %v, want %v", e.Cosine(), want)
	}
}
