package checkpoint

import (
	"errors"
	"fmt"
	"math"
	"os"
)

// mapping is a whole file in memory, read-only. It is paged in by the operating system as it is touched.
type mapping struct {
	path  string
	file  *os.File // kept open for hints about its pages
	data  []byte
	unmap func([]byte) error // nil: data is ordinary memory
}

// mapPath maps a regular file.
func mapPath(path string) (*mapping, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	m, err := mapOpen(path, f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

func mapOpen(path string, f *os.File) (*mapping, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch size := fi.Size(); {
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file", path)
	case size == 0:
		return nil, fmt.Errorf("%s: the file is empty", path)
	case size > math.MaxInt:
		return nil, fmt.Errorf("%s: %d bytes do not fit the address space of this system", path, size)
	default:
		m := &mapping{path: path, file: f}
		if m.data, m.unmap, err = mapFile(f, int(size)); err != nil {
			return nil, fmt.Errorf("map %s (%d bytes): %w", path, size, err)
		}
		return m, nil
	}
}

func (m *mapping) close() error {
	data := m.data
	m.data = nil
	if data == nil || m.file == nil {
		return nil
	}
	err := m.file.Close()
	if m.unmap != nil {
		err = errors.Join(err, m.unmap(data))
	}
	if err != nil {
		return fmt.Errorf("unmap %s: %w", m.path, err)
	}
	return nil
}
