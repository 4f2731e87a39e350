package cuda

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What every GPU of compute capability 8.0 and up has; 8.6 sets the least.
const (
	mostThreads = 1024
)

// spillAllowed names kernels that may use local memory because they do not weigh in a step's time.
func spillAllowed() map[string]string { return map[string]string{} }

var (
	sharedPattern  = regexp.MustCompile(`(?m)^\s*(?:\.visible\s+)?\.shared\s+\.align\s+\d+\s+\.b8\s+[\w$]+\[(\d+)\]`)
	productPattern = regexp.MustCompile(`mul\.(?:lo\.[su]64|wide\.u32)\s+(%rd\d+),`)
	upperPattern   = regexp.MustCompile(`mov\.b64 \{tmp, %r\d+\}, (%rd\d+);|shr\.u64\s+%rd\d+, (%rd\d+), 32;`)
	depotPattern   = regexp.MustCompile(`\.local\s+\.align\s+\d+\s+\.b8\s+__local_depot\d+\[(\d+)\]`)
)

// Every kernel that is built in stays within what the smallest supported card has, in static needs: dynamic shared memory
// is compared with the card's by context.kernel, and with 8.6's by the interpreter that the tests run on.
func TestKernelLimits(t *testing.T) {
	files, err := fs.Glob(ptxFiles, "kernels/*.ptx")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		ptx, err := ptxFiles.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(ptx)
		for _, want := range []string{"\n.version 7.0\n", "\n.target sm_80\n", "\n.address_size 64\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q", file, strings.TrimSpace(want))
			}
		}
		entries, err := ptxEntries(ptx)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for name, e := range entries {
			if e.threads < 32 || e.threads > mostThreads || e.threads%32 != 0 {
				t.Errorf("%s: kernel %s is made for blocks of %d threads", file, name, e.threads)
			}
			if e.params%8 != 0 {
				t.Errorf("%s: kernel %s takes %d bytes of parameters, want a multiple of 8", file, name, e.params)
			}
		}
		shared := 0
		for _, m := range sharedPattern.FindAllStringSubmatch(text, -1) {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			shared += n
		}
		if shared > leastShared { // of all kernels together, which is more than any of them has
			t.Errorf("%s: %d bytes of static shared memory", file, shared)
		}
		for _, m := range depotPattern.FindAllStringSubmatch(text, -1) {
			if _, ok := spillAllowed()[filepath.Base(file)]; !ok {
				t.Errorf("%s: %s bytes of stack: an array with an index that is not constant", file, m[1])
			}
		}
	}
}

// Each .cu has its PTX and the other way round, made from these sources. Continuous integration compiles them again and
// compares every byte.
func TestKernelsAreNotStale(t *testing.T) {
	sources, err := filepath.Glob("kernels/*.cu")
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) == 0 {
		t.Skip("the sources are not here: this is a test binary on another machine")
	}
	built, err := fs.Glob(ptxFiles, "kernels/*.ptx")
	if err != nil {
		t.Fatal(err)
	}
	if len(built) != len(sources) {
		t.Errorf("%d sources, %d built in: run 'go generate ./internal/cuda'", len(sources), len(built))
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go command is not installed")
	}
	if out, err := exec.Command(tool, "run", "kernels/build.go", "-stale").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// No kernel takes the upper half of a product by other means than mulHigh (kernels/common.cuh says why).
func TestUpperHalvesByInstruction(t *testing.T) {
	files, err := fs.Glob(ptxFiles, "kernels/*.ptx")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		ptx, err := ptxFiles.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := upperHalves(string(ptx)); n > 0 {
			t.Errorf("%s: %d products of 64 bits of which only the upper half is taken: use mulHigh", file, n)
		}
	}
	const wrong = "\tmul.lo.s64 \t%rd64, %rd7, %rd63;\n\t{ .reg .b32 tmp; mov.b64 {tmp, %r258}, %rd64; }\n"
	if upperHalves(wrong) != 1 {
		t.Error("the form that clang gave is not found")
	}
}

// upperHalves counts products of which one of the next three lines takes the upper half.
func upperHalves(ptx string) (n int) {
	lines := strings.Split(ptx, "\n")
	for i, l := range lines {
		m := productPattern.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		for _, next := range lines[i+1 : min(i+4, len(lines))] {
			if u := upperPattern.FindStringSubmatch(next); u != nil && (u[1] == m[1] || u[2] == m[1]) {
				n++
			}
		}
	}
	return n
}
