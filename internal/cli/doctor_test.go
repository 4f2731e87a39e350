package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Doctor knows every variable that the program's sources ask for.
func TestDoctorKnowsVariables(t *testing.T) {
	name := regexp.MustCompile(`"((?:HEARTH|HF|HUGGING|HUGGINGFACE|TRANSFORMERS|CUDA)_[A-Z_]+)"`)
	asked := regexp.MustCompile(`(?i)getenv\(|lookupenv\(|first\(|isTrue\(`)
	found := 0
	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			if !asked.MatchString(line) {
				continue
			}
			for _, m := range name.FindAllStringSubmatch(line, -1) {
				found++
				if !slices.Contains(known(), m[1]) {
					t.Errorf("%s asks for %s, which doctor does not know", path, m[1])
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 10 {
		t.Errorf("only %d questions found: the search is broken", found)
	}
}

func TestDoctorHidesSecrets(t *testing.T) {
	env := map[string]string{
		"HEARTH_API_KEY": "secret", "HF_TOKEN": "secret", "HTTPS_PROXY": "http://user:secret@proxy:3128", "HEARTH_CPU": "portable", "OTHER": "secret",
	}
	got := variables(func(name string) string { return env[name] })
	want := []variableState{
		{"HEARTH_CPU", "portable"}, {"HEARTH_API_KEY", "(set, not shown)"}, {"HF_TOKEN", "(set, not shown)"}, {"HTTPS_PROXY", "http://user:xxxxx@proxy:3128"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The page of a machine with everything, some of it broken.
func TestDoctorPage(t *testing.T) {
	d := &diagnosis{
		Version: buildInfo{Version: "1.2.3", Commit: "0123456789abcdef", Go: "go1.26", Platform: "linux/amd64"}, System: "linux 6.1",
		Processor: processorState{Name: "Some CPU", Cores: 8, Threads: 8, Level: "avx2", Levels: []levelState{
			{Name: "portable", Usable: true}, {Name: "avx2", Usable: true}, {Name: "avx512", Reason: "avx512 failed its self-test: x"},
		}},
		Memory: memoryState{Total: 32 << 30, Free: 30 << 30, GroupLimit: 16 << 30, Bandwidth: 41.25e9},
		GPU: gpuState{Driver: "CUDA 12.4, driver 550.54.14", Cards: []cardState{
			{Ordinal: 0, Name: "NVIDIA GeForce RTX 3090", Capability: "8.6", SMs: 82, Memory: 24 << 30, Free: 23 << 30, Bandwidth: 936e9, Usable: true},
			{Ordinal: 1, Name: "NVIDIA GeForce GTX 1080", Capability: "6.1", SMs: 20, Memory: 8 << 30, Display: true, Reason: "the kernels need 8.0"},
		}},
		KernelCache: folderState{Path: "/c/ptx", Items: 3, Bytes: 3 << 20}, Downloads: folderState{Error: "no home folder is known"},
		Environment: []variableState{{"HEARTH_CPU", "avx2"}, {"HF_HOME", "/m"}}, ServesOn: []string{"cuda:0", "cpu"},
	}
	var b bytes.Buffer
	d.print(&b)
	want := `version       hearth 1.2.3 (0123456789ab), go1.26 linux/amd64
system        linux 6.1
processor     Some CPU, 8 cores
kernels       avx2 on 8 threads: the best that works
              cannot be used: avx512 failed its self-test: x
              portable works too
memory        32.00 GiB, 30.00 GiB free, limited to 16.00 GiB by the control group
              41.2 GB/s read by the processor, measured now
GPU driver    CUDA 12.4, driver 550.54.14
GPU 0         NVIDIA GeForce RTX 3090: compute capability 8.6, 82 multiprocessors, 24.00 GiB, 936 GB/s by its clock
              usable, 23.00 GiB free
GPU 1         NVIDIA GeForce GTX 1080: compute capability 6.1, 20 multiprocessors, 8.00 GiB, drives a display
              cannot be used: the kernels need 8.0
kernel cache  /c/ptx: 3.0 MiB in 3 files
downloads     nowhere: no home folder is known
environment   HEARTH_CPU=avx2
              HF_HOME=/m
serves on     cuda:0, cpu; --device auto takes the first that holds the model
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}
