// Command _asm writes the amd64 kernels of internal/cpu. It is a module of its own, so that avo is no dependency of
// the product; the assembly is committed, and a test there compares the sums that this command leaves behind.
//
//	go generate ./internal/cpu
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"

	"github.com/mmcloughlin/avo/build"
)

func main() {
	level := flag.String("level", "avx2", "whose kernels to write: avx2, avx512, vnni or amx")
	flag.Parse()
	build.ConstraintExpr("!noasm")
	switch *level {
	case "avx2":
		dotKernels(formats())
		int8Kernels()
		decodeKernels(formats())
		scaleKernels()
		mulKernels()
		attentionKernels()
		elementwiseKernels()
	case "avx512":
		dotKernels(formats16())
		decodeKernels(formats16())
		batchKernels16(formats16())
		mulKernels16()
		attentionKernels16()
	case "vnni":
		vnniKernels()
	case "amx":
		amxKernels()
	default:
		log.Fatalf("no level %q", *level)
	}
	build.Generate() // exits on an error
	if err := encodeRaw(flag.Lookup("out").Value.String()); err != nil {
		log.Fatal(err)
	}
	if err := writeSums("asm.sum", "avx2_amd64.s", "avx2_stubs_amd64.go", "avx512_amd64.s", "avx512_stubs_amd64.go",
		"vnni_amd64.s", "vnni_stubs_amd64.go", "amx_amd64.s", "amx_stubs_amd64.go"); err != nil {
		log.Fatal(err)
	}
}

// writeSums records the SHA-256 of the generator's sources and of what it wrote, one file a line.
func writeSums(name string, outputs ...string) error {
	files, err := filepath.Glob("*.go")
	if err != nil {
		return err
	}
	files = append(files, "go.mod", "go.sum")
	slices.Sort(files)
	for _, f := range outputs {
		files = append(files, filepath.Join("..", f))
	}
	var sums []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		sums = fmt.Appendf(sums, "%x  %s\n", sha256.Sum256(b), filepath.ToSlash(f))
	}
	return os.WriteFile(name, sums, 0o644)
}
