//go:build ignore

// Build compiles the kernels: NAME.cu to NAME.ptx beside it, by Debian's plain clang 19, without a CUDA toolkit. The first
// line of the result is a hash of everything that it was made from, so that a test can tell when it is stale.
//
//	go run ./internal/cuda/kernels/build.go [-check | -stale] [NAME...]
//
// Without names it treats every .cu. -check compiles and compares with what is there instead of writing; -stale compares
// the hash alone, without a compiler.
package main

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// flags are the compiler's. PTX 7.0 for sm_80 is what they give.
var flags = strings.Fields("-x cuda --cuda-device-only -nocudainc -nocudalib --cuda-gpu-arch=sm_80 -std=c++20 -O3 -S -I .")

func main() {
	log.SetFlags(0)
	check := flag.Bool("check", false, "compile and compare instead of writing")
	stale := flag.Bool("stale", false, "compare the hash of the sources only")
	compiler := flag.String("clang", "clang-19", "the compiler")
	flag.Parse()
	_, self, _, _ := runtime.Caller(0)
	if err := os.Chdir(filepath.Dir(self)); err != nil {
		log.Fatal(err)
	}
	names := flag.Args()
	if len(names) == 0 {
		names, _ = filepath.Glob("*.cu") // the pattern is valid
	}
	var failed atomic.Bool
	work := make(chan string)
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Go(func() {
			for name := range work {
				if err := build(name, *compiler, *check, *stale); err != nil {
					log.Printf("%s: %v", name, err)
					failed.Store(true)
				}
			}
		})
	}
	for _, name := range names {
		work <- strings.TrimSuffix(filepath.Base(name), ".cu")
	}
	close(work)
	workers.Wait()
	if failed.Load() {
		os.Exit(1)
	}
}

func build(name, compiler string, check, stale bool) error {
	header, err := headerOf(name + ".cu")
	if err != nil {
		return err
	}
	old, readErr := os.ReadFile(name + ".ptx")
	if stale {
		if !bytes.HasPrefix(old, []byte(header)) {
			return fmt.Errorf("%s.ptx was made from other sources: run 'go run ./internal/cuda/kernels/build.go %s'", name, name)
		}
		return readErr
	}
	cmd := exec.Command(compiler, append(slices.Clone(flags), "-o", "-", name+".cu")...)
	cmd.Stderr = os.Stderr
	ptx, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	ptx = append([]byte(header), ptx...)
	if !check {
		return os.WriteFile(name+".ptx", ptx, 0o644)
	}
	if readErr != nil {
		return readErr
	}
	if !bytes.Equal(old, ptx) {
		return fmt.Errorf("%s.ptx is not what %s makes of its sources: run 'go run ./internal/cuda/kernels/build.go %s'", name, compiler, name)
	}
	return nil
}

var include = regexp.MustCompile(`(?m)^\s*#\s*include\s+"([^"]+)"`)

// headerOf is the first line of what file compiles to: a hash of the flags, of the file and of all that it includes.
func headerOf(file string) (string, error) {
	files := []string{file}
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", flags)
	for i := 0; i < len(files); i++ {
		b, err := os.ReadFile(files[i])
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", files[i], len(b), b)
		for _, m := range include.FindAllSubmatch(b, -1) {
			if name := string(m[1]); !slices.Contains(files, name) {
				files = append(files, name)
			}
		}
	}
	return fmt.Sprintf("// hearth kernels: sha256 %x\n", h.Sum(nil)), nil
}
