package checkpoint

import (
	"os"

	"golang.org/x/sys/unix"
)

// Hints may fail, and nothing follows from it.

func adviseWillNeed(b []byte) { _ = unix.Madvise(b, unix.MADV_WILLNEED) }

// adviseDone drops whole pages of a mapping of a file, which b holds from offset on: first from this process, for what
// is mapped stays in the page cache.
func adviseDone(f *os.File, b []byte, offset int64) {
	_ = unix.Madvise(b, unix.MADV_DONTNEED)
	_ = unix.Fadvise(int(f.Fd()), offset, int64(len(b)), unix.FADV_DONTNEED)
}
