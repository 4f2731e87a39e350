//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package convert

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile fails if another process holds the file. The lock ends with the process, however it ends.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
