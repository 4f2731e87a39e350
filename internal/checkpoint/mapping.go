package checkpoint

import (
	"fmt"
	"math"
	"os"
)

// mapping is a whole file in memory, read-only. It is paged in by the operating system as it is touched.
type mapping struct {
	path  string
	data  []byte
	unmap func([]byte) error // nil: data is ordinary memory
}

// mapPath maps a regular file.
func mapPath(path string) (*mapping, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
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
		m := &mapping{path: path}
		if m.data, m.unmap, err = mapFile(f, int(size)); err != nil {
			return nil, fmt.Errorf("map %s (%d bytes): %w", path, size, err)
		}
		return m, nil
	}
}

func (m *mapping) close() error {
	data := m.data
	m.data = nil
	if m.unmap == nil || data == nil {
		return nil
	}
	if err := m.unmap(data); err != nil {
		return fmt.Errorf("unmap %s: %w", m.path, err)
	}
	return nil
}
