package cpu

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The committed assembly is what the generator's sources give: the generator notes the sums of both.
func TestAssemblyIsNotStale(t *testing.T) {
	noted, err := os.ReadFile("_asm/asm.sum")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{}
	for line := range strings.Lines(string(noted)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		files[name] = true
		b, err := os.ReadFile(filepath.Join("_asm", name))
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%x", sha256.Sum256(b)) != sum {
			t.Errorf("%s changed since the assembly was generated: run go generate ./internal/cpu", name)
		}
	}
	sources, err := filepath.Glob("_asm/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		if !files[filepath.Base(s)] {
			t.Errorf("%s is not in asm.sum: run go generate ./internal/cpu", s)
		}
	}
	for _, want := range []string{"../avx2_amd64.s", "../avx2_stubs_amd64.go", "../avx512_amd64.s", "../avx512_stubs_amd64.go", "../vnni_amd64.s", "../vnni_stubs_amd64.go", "../amx_amd64.s", "../amx_stubs_amd64.go"} {
		if !files[want] {
			t.Errorf("asm.sum has no line for %s", want)
		}
	}
}
