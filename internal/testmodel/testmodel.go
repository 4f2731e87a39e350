// Package testmodel hands the tiny GPT-OSS models of testdata/ to tests: one model in every checkpoint layout, with
// results that other libraries computed. Only tests import it; it never reads anything outside the module.
//
// Three layouts lie in testdata/ as plain folders. The rest lie in one zip per model, cut into pieces by content, so
// that the weights which all layouts share are stored once: pack.go writes it, files.json in the zip lists the
// pieces of each file.
package testmodel

import (
	"archive/zip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// index is the zip member that maps each file's path inside the archive to the names of its pieces, in order.
const index = "files.json"

// Dir returns a folder that holds a checkpoint, such as "tiny-a/hf-bf16". It is either the folder in testdata/, which
// must not be written to, or a copy unpacked for this test.
func Dir(t testing.TB, name string) string {
	t.Helper()
	data := testdata(t)
	if plain := filepath.Join(data, filepath.FromSlash(name)); isDir(plain) {
		return plain
	}
	model, folder, _ := strings.Cut(name, "/")
	a := open(t, filepath.Join(data, model+".zip"))
	defer a.zip.Close()
	out := t.TempDir()
	found := false
	for path := range a.files {
		if rest, ok := strings.CutPrefix(path, folder+"/"); ok {
			found = true
			if err := os.WriteFile(filepath.Join(out, rest), a.read(t, path), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !found {
		t.Fatalf("testdata/%s.zip holds no folder %q", model, folder)
	}
	return out
}

// Expected returns a file of a model's expected results, such as "tiny-a/mxfp4.json", "tiny-a/mxfp4.safetensors" or
// "tiny-a/unsloth-nf4.dequantized.safetensors".
func Expected(t testing.TB, name string) []byte {
	t.Helper()
	model, file, _ := strings.Cut(name, "/")
	a := open(t, filepath.Join(testdata(t), model+".zip"))
	defer a.zip.Close()
	return a.read(t, "expected/"+file)
}

type archive struct {
	zip   *zip.ReadCloser
	files map[string][]string
}

func open(t testing.TB, path string) *archive {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	a := &archive{zip: z}
	if err := json.Unmarshal(a.piece(t, index), &a.files); err != nil {
		t.Fatalf("%s: %s: %v", path, index, err)
	}
	return a
}

// read puts a file together from its pieces.
func (a *archive) read(t testing.TB, path string) []byte {
	t.Helper()
	pieces, ok := a.files[path]
	if !ok {
		t.Fatalf("the archive holds no file %q", path)
	}
	var b []byte
	for _, p := range pieces {
		b = append(b, a.piece(t, p)...)
	}
	return b
}

func (a *archive) piece(t testing.TB, name string) []byte {
	t.Helper()
	f, err := a.zip.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatalf("piece %s: %v", name, err)
	}
	return b
}

// testdata finds the module's testdata folder from the folder of the package under test.
func testdata(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata")
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = up
	}
}

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}
