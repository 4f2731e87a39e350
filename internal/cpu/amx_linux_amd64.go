//go:build !noasm

package cpu

import (
	"sync"

	"golang.org/x/sys/unix"
)

// missingTiles says why AMX's tiles cannot be used, "" if they can; from then on this process may. A processor may
// announce them where the machine around it does not keep their contents, or where they fault: so a child tries first.
var missingTiles = sync.OnceValue(func() string {
	const contents = 3 << 17 // tiles' shapes and data among what is kept for each thread
	if xgetbv0()&contents != contents {
		return "a system that keeps AMX's tiles"
	}
	pid := tryTiles()
	if pid <= 0 {
		return "a process to try AMX in"
	}
	var status unix.WaitStatus
	_, err := unix.Wait4(pid, &status, 0, nil)
	for err == unix.EINTR {
		_, err = unix.Wait4(pid, &status, 0, nil)
	}
	switch {
	case err != nil:
		return "a process to try AMX in"
	case !status.Exited():
		return "AMX that works (it is announced, and faults)"
	case status.ExitStatus() != 0:
		return "the system's leave to use AMX"
	}
	if _, _, errno := unix.Syscall(unix.SYS_ARCH_PRCTL, archReqXcompPerm, xfeatureTileData, 0); errno != 0 {
		return "the system's leave to use AMX"
	}
	return ""
})

// of Linux's asm/prctl.h
const (
	archReqXcompPerm = 0x1023
	xfeatureTileData = 18
)

// xgetbv0 is the lower half of XCR0: what the system keeps for each thread.
func xgetbv0() uint32

// tryTiles forks. The child multiplies two tiles and exits with 0, or dies trying; its number is returned, or a negative
// error.
func tryTiles() (pid int)
