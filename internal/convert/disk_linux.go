package convert

import (
	"errors"
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

// openDirect opens a file for reads and writes past the page cache, which not every file system knows.
func openDirect(path string, flag int) (*os.File, error) {
	return os.OpenFile(path, flag|unix.O_DIRECT, 0)
}

// allocate takes the room for a file's bytes, where the file system can, so that the disk cannot run full later.
func allocate(f *os.File, size int64) error {
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return os.NewSyscallError("fallocate", err)
	}
	return nil
}
