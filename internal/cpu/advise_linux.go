package cpu

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Hints may fail, and nothing follows from it.

// adviseWillNeed lets the system fetch a mapping's bytes from the disk.
func adviseWillNeed(b []byte) {
	page := uintptr(os.Getpagesize())
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	if before := (page - at%page) % page; before < uintptr(len(b)) { // the pages that begin within
		_ = unix.Madvise(b[before:], unix.MADV_WILLNEED)
	}
}

// hugePage is what adviseHuge may waste at each end; hugeLeast is from where on that is little.
const (
	hugePage  = 2 << 20
	hugeLeast = 16 * hugePage
)

// adviseHuge asks for huge pages under memory that is not touched yet: attention walks through keys and values with few
// accesses to each page.
func adviseHuge(v []float32) {
	if 4*len(v) < hugeLeast {
		return
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	first := (hugePage - at%hugePage) % hugePage
	whole := (uintptr(len(b)) - first) / hugePage * hugePage
	_ = unix.Madvise(b[first:first+whole], unix.MADV_HUGEPAGE)
}
