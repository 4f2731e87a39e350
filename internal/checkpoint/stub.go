package checkpoint

import "errors"

var errTodo = errors.New("being written")

type mapping struct{ data []byte }

func (m *mapping) close() error { return nil }

type binder struct{}

// Open opens a folder, a *.safetensors or a *.gguf file.
func Open(path string) (*Checkpoint, error) { return nil, errTodo }
