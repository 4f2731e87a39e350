package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"

	"hearth/internal/dtype"
)

// maxHeader is the longest safetensors header that is read: the library that owns the format has the same limit.
const maxHeader = 100_000_000

// tensor is one tensor of a file: a view into the mapping.
type tensor struct {
	name   string       // as stored
	stored string       // the file's name of the element type
	format dtype.Format // Invalid if this program cannot read the type as numbers
	shape  []int        // outermost axis first
	data   []byte
	file   string // path, for messages
}

// elementBits gives the size of every element type that the format defines.
var elementBits = map[string]uint64{
	"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64,
	"F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
	"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
	"I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}

// headerEntry is one tensor in the header. Offsets count from the end of the header.
type headerEntry struct {
	DType   string   `json:"dtype"`
	Shape   []uint64 `json:"shape"`
	Offsets []uint64 `json:"data_offsets"`
}

// readSafetensors parses the header of a safetensors file that is held in b and returns its tensors by offset. The
// tensors must cover the rest of the file without gap or overlap.
func readSafetensors(path string, b []byte) ([]tensor, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("%s: %d bytes are too few for a safetensors file", path, len(b))
	}
	n := binary.LittleEndian.Uint64(b)
	switch {
	case n > maxHeader:
		return nil, fmt.Errorf("%s: not a safetensors file: its header would be %d bytes long (limit %d)", path, n, maxHeader)
	case n > uint64(len(b)-8):
		return nil, fmt.Errorf("%s: the file is cut off: header of %d bytes in a file of %d", path, n, len(b))
	}
	header, data := b[8:8+n], b[8+n:]
	list, begins, err := parseHeader(header, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i := range list {
		list[i].file = path
	}
	if err := checkCover(list, begins, len(data)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// parseHeader reads the JSON object of the header. The returned tensors are sorted by offset; begins holds the
// offsets.
func parseHeader(header, data []byte) ([]tensor, []int, error) {
	d := json.NewDecoder(bytes.NewReader(header))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, errors.New("the safetensors header is not a JSON object")
	}
	type placed struct {
		tensor
		begin int
	}
	var list []placed
	seen := map[string]bool{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, nil, fmt.Errorf("safetensors header: %w", err)
		}
		name := key.(string) // keys of an object are strings
		if seen[name] {
			return nil, nil, fmt.Errorf("tensor %q: listed twice in the header", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			var m map[string]string
			if err := d.Decode(&m); err != nil {
				return nil, nil, fmt.Errorf("safetensors header: __metadata__: %w", err)
			}
			continue
		}
		var e headerEntry
		if err := d.Decode(&e); err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		t, begin, err := e.tensor(name, data)
		if err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		list = append(list, placed{t, begin})
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, fmt.Errorf("safetensors header: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, nil, errors.New("safetensors header: data after the JSON object")
	}
	// Tensors without elements may share an offset: they come first.
	slices.SortFunc(list, func(a, b placed) int {
		if a.begin != b.begin {
			return a.begin - b.begin
		}
		return len(a.data) - len(b.data)
	})
	tensors, begins := make([]tensor, len(list)), make([]int, len(list))
	for i, p := range list {
		tensors[i], begins[i] = p.tensor, p.begin
	}
	return tensors, begins, nil
}

// tensor checks one entry against the data section.
func (e *headerEntry) tensor(name string, data []byte) (tensor, int, error) {
	var t tensor
	bitsPer, ok := elementBits[e.DType]
	switch {
	case !ok:
		return t, 0, fmt.Errorf("unknown dtype %q", e.DType)
	case e.Shape == nil:
		return t, 0, errors.New("no shape")
	case len(e.Offsets) != 2:
		return t, 0, fmt.Errorf("data_offsets has %d entries, want 2", len(e.Offsets))
	}
	begin, end := e.Offsets[0], e.Offsets[1]
	if begin > end {
		return t, 0, fmt.Errorf("data_offsets %v run backwards", e.Offsets)
	}
	if end > uint64(len(data)) {
		return t, 0, fmt.Errorf("data ends at byte %d, but the file holds %d: it is cut off", end, len(data))
	}
	shape := make([]int, len(e.Shape))
	total := bitsPer
	for i, n := range e.Shape {
		hi, lo := bits.Mul64(total, n)
		if hi != 0 || n > math.MaxInt {
			return t, 0, fmt.Errorf("shape %v overflows", e.Shape)
		}
		total, shape[i] = lo, int(n)
	}
	if total%8 != 0 || total/8 != end-begin {
		return t, 0, fmt.Errorf("shape %v of %s does not fit its %d bytes", e.Shape, e.DType, end-begin)
	}
	format, _ := dtype.FormatOfSafetensors(e.DType)
	return tensor{name: name, stored: e.DType, format: format, shape: shape, data: data[begin:end:end]}, int(begin), nil
}

// checkCover makes sure that the tensors, sorted by offset, cover the data section exactly.
func checkCover(list []tensor, begins []int, size int) error {
	at := 0
	for i := range list {
		switch begin := begins[i]; {
		case begin < at:
			return fmt.Errorf("tensor %q: overlaps tensor %q", list[i].name, list[i-1].name)
		case begin > at:
			return fmt.Errorf("tensor %q: %d bytes before it belong to no tensor", list[i].name, begin-at)
		}
		at += len(list[i].data)
	}
	if at != size {
		return fmt.Errorf("the last %d bytes of the file belong to no tensor", size-at)
	}
	return nil
}
