package cpu

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"hearth/internal/dtype"
)

// A checkpoint that shrinks under its mapping is a step's error at every level, not the end of the process: the fault
// is raised inside the assembly.
func TestShrunkFileIsAnError(t *testing.T) {
	const rows, cols = 64, 2048
	eachLevel(t, func(t *testing.T, l *level) {
		f, err := os.CreateTemp(t.TempDir(), "weights")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(2 * rows * cols); err != nil {
			t.Fatal(err)
		}
		data, err := syscall.Mmap(int(f.Fd()), 0, 2*rows*cols, syscall.PROT_READ, syscall.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Munmap(data)
		if err := f.Truncate(4096); err != nil {
			t.Fatal(err)
		}
		p := dtype.Plane{Format: dtype.BF16, Rows: rows, Cols: cols, Data: data}
		c := newChecker(&l.kernels, 1)
		pool := newPool([]*worker{c.w}, nil)
		defer pool.close()
		for _, n := range []int{1, 4} {
			x := c.floats(n*cols, 0)
			pool.run(itemFunc(func(w *worker, item int) { w.product(&p, item*tileRows, tileRows, x, nil, n) }), rows/tileRows)
			if err := pool.takeErr(); err == nil || !strings.Contains(err.Error(), "cut short") {
				t.Errorf("%d rows over a shrunk file: error %v", n, err)
			}
		}
	})
}
