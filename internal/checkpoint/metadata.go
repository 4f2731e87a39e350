package checkpoint

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
)

// metadata reads typed values from the metadata of a GGUF file. The first failure is kept in err and names the key;
// later calls return zero values.
type metadata struct {
	m    map[string]ggufValue
	arch string   // the prefix of the architecture's own keys
	took []string // defaults that were taken, as "key value"
	err  error
}

func (m *metadata) fail(key, format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf("metadata %q: %s", key, fmt.Sprintf(format, args...))
	}
}

// number reads an integer, floating-point or boolean value.
func (v *ggufValue) number() (float64, bool) {
	le := binary.LittleEndian
	switch v.kind {
	case kindU8, kindBool:
		return float64(v.data[0]), true
	case kindI8:
		return float64(int8(v.data[0])), true
	case kindU16:
		return float64(le.Uint16(v.data)), true
	case kindI16:
		return float64(int16(le.Uint16(v.data))), true
	case kindU32:
		return float64(le.Uint32(v.data)), true
	case kindI32:
		return float64(int32(le.Uint32(v.data))), true
	case kindU64:
		return float64(le.Uint64(v.data)), true
	case kindI64:
		return float64(int64(le.Uint64(v.data))), true
	case kindF32:
		return float64(math.Float32frombits(le.Uint32(v.data))), true
	case kindF64:
		return math.Float64frombits(le.Uint64(v.data)), true
	}
	return 0, false
}

func (m *metadata) real(key string) float64 {
	v, ok := m.m[key]
	if !ok {
		m.fail(key, "missing")
		return 0
	}
	x, ok := v.number()
	if !ok {
		m.fail(key, "is a %s, want a number", v.kind)
	}
	return x
}

// realOr reads a number of the architecture. Converters write 0 for what they do not know.
func (m *metadata) realOr(def float64, name string) float64 {
	key := m.arch + "." + name
	if _, ok := m.m[key]; ok {
		if x := m.real(key); x != 0 || m.err != nil {
			return x
		}
	}
	m.took = append(m.took, fmt.Sprintf("%s %v", name, def))
	return def
}

// whole turns a number into an integer; the bound keeps the conversion exact.
func (m *metadata) whole(key string, x float64) int {
	if x != math.Trunc(x) || math.Abs(x) > 1<<31-1 {
		m.fail(key, "%v is not a whole number of a possible size", x)
		return 0
	}
	return int(x)
}

// size reads an integer of the architecture that must be there.
func (m *metadata) size(name string) int {
	key := m.arch + "." + name
	return m.whole(key, m.real(key))
}

func (m *metadata) sizeOr(def int, name string) int {
	return m.whole(m.arch+"."+name, m.realOr(float64(def), name))
}

// text reads a string; "" if it is not there.
func (m *metadata) text(key string) string {
	v, ok := m.m[key]
	if ok && v.kind != kindString {
		m.fail(key, "is a %s, want a string", v.kind)
		return ""
	}
	return string(v.data)
}

// array finds an array of one of the given kinds; ok is false if it is not there or is something else.
func (m *metadata) array(key string, kinds ...ggufKind) (v ggufValue, ok bool) {
	if v, ok = m.m[key]; !ok {
		return v, false
	}
	if v.kind == kindArray {
		for _, k := range kinds {
			if v.elem == k {
				return v, true
			}
		}
	}
	m.fail(key, "is not an array of %v", kinds)
	return v, false
}

// strings walks through an array of strings, which has been checked when the file was read.
func (v *ggufValue) strings() iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		r := &ggufReader{b: v.data}
		for i := range v.n {
			if !yield(i, r.text()) {
				return
			}
		}
	}
}
