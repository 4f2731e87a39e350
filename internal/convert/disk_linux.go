package convert

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// freeSpace is how many bytes a user may still write to the disk of a folder; ok is false where that is unknown.
func freeSpace(dir string) (n int64, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false
	}
	return int64(st.Bavail) * st.Bsize, true
}

// onDisk is how much room a file has on its disk already: one that was never written to its end has holes.
func onDisk(fi fs.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return 0
}

// lockFile fails if another process holds the file. The lock ends with the process, however it ends.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// copyRange copies bytes between files within the system; false means that they may not all be there.
func copyRange(to *os.File, at int64, from *os.File, offset, n int64) bool {
	for n > 0 {
		done, err := unix.CopyFileRange(int(from.Fd()), &offset, int(to.Fd()), &at, int(n), 0)
		if err != nil || done <= 0 {
			return false
		}
		n -= int64(done)
	}
	return true
}
