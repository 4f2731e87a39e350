//go:build !linux

package convert

import (
	"errors"
	"io/fs"
	"os"
)

// Where these are not known to work, a full disk shows when it is full, and nobody keeps two conversions apart that
// write to one place.

func freeSpace(string) (int64, bool) { return 0, false }

func onDisk(fs.FileInfo) int64 { return 0 }

func lockFile(*os.File) error { return nil }

func openDirect(string, int) (*os.File, error) { return nil, errors.ErrUnsupported }

func allocate(*os.File, int64) error { return nil }
