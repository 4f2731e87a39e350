package dtype

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestNoFusedMultiplyAdd reads what the compiler makes of this package for arm64. Go may fuse a product and a sum there,
// even across statements, unless a conversion stands between them; a fused one rounds once and changes last bits. On
// amd64 nothing would show it.
func TestNoFusedMultiplyAdd(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles for arm64, the standard library included when it is not cached")
	}
	cmd := exec.Command("go", "build", "-gcflags=hearth/internal/dtype=-S", ".")
	cmd.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	listing, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, listing)
	}
	fused := regexp.MustCompile(`\bFN?M(ADD|SUB)[SD]\b`)
	products := 0
	for line := range strings.Lines(string(listing)) {
		if strings.Contains(line, "internal/dtype/bnb.go") && strings.Contains(line, "FMULS") {
			products++
		}
		if strings.Contains(line, "internal/dtype/") && fused.MatchString(line) {
			t.Error(strings.TrimSpace(line))
		}
	}
	if products == 0 {
		t.Error("the listing shows no product in bnb.go: it is not what this test takes it for")
	}
}
