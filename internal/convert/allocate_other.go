//go:build !linux

package convert

import "os"

// allocate gives a file its size. Whether there is room shows when it is written.
func allocate(f *os.File, size int64) error { return f.Truncate(size) }
