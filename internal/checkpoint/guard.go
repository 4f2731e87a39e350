package checkpoint

import (
	"errors"
	"runtime/debug"
)

// errFault is what becomes of a fault in a mapping.
var errFault = errors.New("a file of the checkpoint cannot be read: it was cut short meanwhile, or its disk failed")

// Guard runs f, in which the calling goroutine reads planes, and turns a fault in their mapping into an error instead of
// the end of the process. It does not reach into other goroutines, nor catch any other panic.
func Guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if _, fault := r.(interface{ Addr() uintptr }); fault {
			err = errFault
		} else if r != nil {
			panic(r)
		}
	}()
	return f()
}
