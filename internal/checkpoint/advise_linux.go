package checkpoint

import "golang.org/x/sys/unix"

// Hints may fail, and nothing follows from it.

func adviseWillNeed(b []byte) { _ = unix.Madvise(b, unix.MADV_WILLNEED) }

func adviseDone(b []byte) { _ = unix.Madvise(b, unix.MADV_COLD) }
