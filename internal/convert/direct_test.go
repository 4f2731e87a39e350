package convert

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

// Runs written in any order, at any place, with and without direct writes, leave the bytes of a plain array.
func TestTargetAsArray(t *testing.T) {
	dir := t.TempDir()
	const size = 3<<20 + 1234
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, "out")
		f, err := openTarget(path, size)
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		defer f.Close()
		if rapid.Bool().Draw(t, "through the page cache") && f.direct != nil {
			f.direct.Close()
			f.direct = nil
		}
		want := make([]byte, size)
		var buf []byte
		for i := range rapid.IntRange(1, 6).Draw(t, "writes") {
			at := rapid.IntRange(0, size).Draw(t, "at")
			n := rapid.OneOf(rapid.IntRange(0, 9000), rapid.IntRange(directLeast, size)).Draw(t, "n")
			n = min(n, size-at)
			b := want[at : at+n]
			for j := range b {
				b[j] = byte(i*131 + j*7 + j>>8)
			}
			if crc, err := f.writeAt(&buf, b, int64(at)); err != nil || crc != crc32.Checksum(b, castagnoli) {
				t.Fatalf("%d bytes at %d: checksum %#x, error %v", n, at, crc, err)
			}
			back, err := f.readAt(&buf, int64(at), int64(n))
			if err != nil || !bytes.Equal(back, b) {
				t.Fatalf("%d bytes at %d read back otherwise (%v)", n, at, err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("the file differs from the array (%v)", err)
		}
	})
}

// A file that is shorter than it was is an error that names it.
func TestReadDirectPastEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weights")
	if err := os.WriteFile(path, make([]byte, 10_000), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var buf []byte
	if b, err := readDirect(f, &buf, 5000, 5000); err != nil || len(b) != 5000 {
		t.Errorf("the last 5000 bytes: %d bytes, %v", len(b), err)
	}
	if _, err := readDirect(f, &buf, 5000, 5001); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), path) {
		t.Errorf("one byte more: %v", err)
	}
}

// stacks gives the experts of a layer in every form that a view takes rows from.
func stacks(t *testing.T) map[string]*dtype.Stack {
	list := map[string]*dtype.Stack{}
	for _, name := range []string{"hf-mxfp4", "hf-bf16", "unsloth-nf4-dq", "fused-nf4", "fused-nf4-dq", "gguf-bf16", "gguf-q8_0", "per-expert-split-bf16"} {
		l := layer(t, open(t, testmodel.Dir(t, "tiny-a/"+name)), 1)
		list[name+" gate_up"], list[name+" down"] = &l.GateUp.Weight, &l.Down.Weight
	}
	return list
}

func (v *view) values(first, n int) []float32 {
	dst := make([]float32, n*v.cols)
	v.decode(dst, make([]float32, 2*n*v.cols), first, n)
	return dst
}

// Rows that are cut out of a view are the rows of the view.
func TestNarrow(t *testing.T) {
	all := stacks(t)
	names := slices.Sorted(maps.Keys(all))
	rapid.Check(t, func(t *rapid.T) {
		s := all[rapid.SampledFrom(names).Draw(t, "stack")]
		sel := rapid.SampledFrom([]rowsOf{allRows, gateRows, upRows}).Draw(t, "rows of")
		v := newView(s, rapid.IntRange(0, s.Experts()-1).Draw(t, "expert"), sel)
		first := rapid.IntRange(0, v.rows-1).Draw(t, "first")
		n := rapid.IntRange(1, v.rows-first).Draw(t, "n")
		if rapid.Bool().Draw(t, "all") {
			first, n = 0, v.rows
		}
		cut := v.narrow(first, n)
		if err := cut.even.Check(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(v.values(first, n), cut.values(0, n)) {
			t.Fatal("other values")
		}
		if own := !cut.shared && cut.odd == nil; own != (cut.plane() != nil) {
			t.Fatalf("plane %v, shared %v", cut.plane(), cut.shared)
		}
	})
}

// What is read past the page cache is what the mapping holds. The matrices are large enough to be read so.
func TestFetch(t *testing.T) {
	src := open(t, bigModel(t))
	for _, direct := range []bool{true, false} {
		p := newParts(src)
		defer p.files.close()
		path, _, ok := src.Locate(layer(t, src, 0).Down.Weight.Even[0].Data)
		if !ok {
			t.Fatal("no file holds the experts")
		}
		if !direct {
			p.files.open = map[string]*os.File{path: nil}
		} else if p.files.file(path) == nil {
			t.Log("the file system here cannot read past the page cache")
			continue
		}
		for _, w := range []weight{{which: embedding}, {gateUp, 0}, {down, 0}} {
			s, err := p.stack(w)
			if err != nil {
				t.Fatal(err)
			}
			v := newView(s, s.Experts()-1, allRows)
			v = v.narrow(v.rows/2, v.rows/2)
			var b buffers
			got, err := p.fetch(&b, v)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(v.values(0, v.rows), got.values(0, v.rows)) {
				t.Errorf("%v: other values", w)
			}
			if moved := &got.even.Data[0] != &v.even.Data[0]; moved != direct {
				t.Errorf("%v: read past the page cache is %v, want %v", w, moved, direct)
			}
		}
	}
}

// A source that shrinks under a conversion is an error, not the end of the process, and leaves no result.
func TestShrunkSource(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not let a file shrink while it is mapped")
	}
	whole := os.DirFS(bigModel(t))
	for _, to := range []Target{HFMXFP4, GGUF, HFBF16} {
		dir := t.TempDir()
		src := filepath.Join(dir, "src")
		if err := os.CopyFS(src, whole); err != nil {
			t.Fatal(err)
		}
		dst := filepath.Join(dir, "out")
		p, err := New(open(t, src), dst, Options{To: to, Tokenizer: filepath.Join(testmodel.Dir(t, "tiny-a/hf-mxfp4"), "tokenizer.json")})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(src, "model.safetensors"), 1<<16); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(context.Background(), RunOptions{}); err == nil || !strings.Contains(err.Error(), "cut short") {
			t.Errorf("%s: %v", to, err)
		}
		if _, err := os.Stat(dst); !os.IsNotExist(err) {
			t.Errorf("%s: something is under the final name", to)
		}
	}
}
