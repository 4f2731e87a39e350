package cuda

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"hearth/internal/dtype"
	"hearth/internal/testgpu"
)

// A checkpoint that shrinks while it is read is an error of loading, not the end of the process, whether its bytes are
// copied or decoded.
func TestShrunkFileIsAnError(t *testing.T) {
	spec, lim, _ := layersShape(false)
	spec.Hidden, spec.Vocab = 64, 40_000 // of which the file keeps the first page
	_, c := simContext(t, testgpu.Config{SMs: 6})
	for _, format := range []dtype.Format{dtype.BF16, dtype.F32} {
		size := spec.Vocab * spec.Hidden * int(format.Bits()) / 8
		f, err := os.CreateTemp(t.TempDir(), "weights")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(int64(size)); err != nil {
			t.Fatal(err)
		}
		data, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Munmap(data)
		if err := f.Truncate(4096); err != nil {
			t.Fatal(err)
		}
		s, err := (&Device{c: c}).NewSession(spec, lim)
		if err != nil {
			t.Fatal(err)
		}
		err = s.LoadEmbedding(dtype.Plane{Format: format, Rows: spec.Vocab, Cols: spec.Hidden, Data: data})
		if err == nil || !strings.Contains(err.Error(), "embedding: ") || !strings.Contains(err.Error(), "cut short") {
			t.Errorf("%v: error %v", format, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
