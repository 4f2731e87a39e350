// Package cuda runs the model on NVIDIA GPUs of compute capability 8.0 and up. It opens the graphics driver at run time
// (no toolkit, no cgo), has it compile the PTX that is embedded here, keeps weights in their own 4-bit formats and replays
// decode steps as captured graphs. It never computes on the host, never changes a value that no option asked to change,
// and never waits for a GPU that has stopped answering.
//
// One goroutine at a time drives a context; it is locked to its thread meanwhile (context.go). The driver is a table of
// functions (driver.go), so that tests run the same host code, and the same PTX, on an interpreter.
package cuda

//go:generate go run kernels/build.go
