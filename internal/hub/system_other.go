//go:build !linux && !darwin && !freebsd && !windows

package hub

import (
	"errors"
	"os"
)

// lockFile reports that this system's locks are not used: every process then writes a partial file of its own.
func lockFile(*os.File) error { return errNoLocks }

func freeSpace(string) (int64, error) { return 0, errors.ErrUnsupported }

func diskFull(error) bool { return false }
