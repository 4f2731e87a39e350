//go:build unix

package checkpoint

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth/internal/testmodel"
)

// A checkpoint whose file shrinks while it is open gives errors and findings, and the process lives.
func TestShrunkFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	if err := os.CopyFS(dir, os.DirFS(testmodel.Dir(t, "tiny-a/hf-bf16"))); err != nil {
		t.Fatal(err)
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := os.Truncate(filepath.Join(dir, "model.safetensors"), 1<<16); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Layer(1); !errors.Is(err, errFault) {
		t.Errorf("a layer whose vectors are cut off: %v", err)
	}
	findings := c.Verify(nil).Findings
	for _, f := range findings {
		if !strings.Contains(f.Problem, "cut short") {
			t.Errorf("finding %v", f)
		}
	}
	if len(findings) == 0 {
		t.Error("Verify finds nothing")
	}
}

func TestGuardPassesOthers(t *testing.T) {
	failed := errors.New("failed")
	if err := Guard(func() error { return failed }); err != failed {
		t.Errorf("error %v", err)
	}
	defer func() {
		if r := recover(); r != "ours" {
			t.Errorf("panic %v", r)
		}
	}()
	_ = Guard(func() error { panic("ours") })
}

// Hints change no byte, wherever they begin and end.
func TestHintsChangeNothing(t *testing.T) {
	c, err := Open(testmodel.Dir(t, "tiny-a/hf-bf16"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.Embedding()
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(p.Data)
	for _, b := range [][]byte{p.Data, p.Data[1:9000], p.Data[5000:5001], p.Data[:0], want} {
		c.Done(b)
		c.WillNeed(b)
		c.Done(b)
	}
	if !bytes.Equal(p.Data, want) {
		t.Error("hints changed bytes")
	}
	path, at, ok := c.Locate(p.Data[10:20])
	whole, err := os.ReadFile(path)
	if !ok || err != nil || !bytes.Equal(whole[at:at+10], want[10:20]) {
		t.Errorf("Locate: %q, %d, %v", path, at, ok)
	}
}
