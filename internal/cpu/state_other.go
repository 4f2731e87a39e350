//go:build !linux

package cpu

// GroupMemory is Linux's: no other system has control groups.
func GroupMemory() (limit, used int64, ok bool) { return 0, 0, false }
