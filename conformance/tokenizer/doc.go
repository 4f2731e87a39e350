// Package conformance compares Hearth's tokenizer with tiktoken-go, a Go program
// that shares no code with it. It holds tests only; it is a module of its own so that
// the other vocabulary (14 MB of Go source) never becomes a dependency of Hearth.
package conformance
