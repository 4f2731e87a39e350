package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"

	"hearth/internal/dtype"
)

// ggufKind is the type of a metadata value.
type ggufKind uint32

const (
	kindU8 ggufKind = iota
	kindI8
	kindU16
	kindI16
	kindU32
	kindI32
	kindF32
	kindBool
	kindString
	kindArray
	kindU64
	kindI64
	kindF64
)

// kindSize gives the bytes of each kind; 0 where they vary.
var kindSize = [...]int{
	kindU8: 1, kindI8: 1, kindU16: 2, kindI16: 2, kindU32: 4, kindI32: 4, kindF32: 4, kindBool: 1,
	kindString: 0, kindArray: 0, kindU64: 8, kindI64: 8, kindF64: 8,
}

var kindNames = [...]string{
	"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64",
}

// ggufValue is a metadata value. Arrays stay in the bytes of the file.
type ggufValue struct {
	kind ggufKind
	elem ggufKind // of an array
	n    int      // elements of an array
	data []byte   // the value, the string's text, or the array's elements
}

// ggufFile is the header of one GGUF file.
type ggufFile struct {
	meta    map[string]ggufValue
	tensors []tensor // by offset
}

const (
	maxGGUFAxes  = 4 // as in ggml
	ggufMinEntry = 8 + 4 + 1
	ggufMinInfo  = 8 + 4 + 4 + 8
)

// readGGUF parses the header of a GGUF file, version 2 or 3, little-endian. Every count and length is compared with
// what the file holds before anything is allocated for it.
func readGGUF(path string, b []byte) (*ggufFile, error) {
	f, err := parseGGUF(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i := range f.tensors {
		f.tensors[i].file = path
	}
	return f, nil
}

func parseGGUF(b []byte) (*ggufFile, error) {
	r := &ggufReader{b: b}
	if string(r.take(4)) != ggufMagic {
		return nil, errors.New("not a GGUF file")
	}
	switch v := r.u32(); {
	case r.err != nil:
		return nil, r.err
	case v == 2 || v == 3:
	case v == 2<<24 || v == 3<<24:
		return nil, errors.New("a big-endian GGUF file: only little-endian ones can be read")
	default:
		return nil, fmt.Errorf("GGUF version %d: only 2 and 3 can be read", v)
	}
	nTensors, nMeta := r.u64(), r.u64()
	if r.err != nil {
		return nil, r.err
	}
	if left := uint64(len(r.b)); nTensors > left/ggufMinInfo || nMeta > left/ggufMinEntry {
		return nil, fmt.Errorf("%d tensors and %d metadata entries do not fit %d bytes: the file is corrupt or cut off", nTensors, nMeta, left)
	}
	f := &ggufFile{meta: map[string]ggufValue{}}
	for range nMeta {
		key := string(r.text())
		v, err := r.value(ggufKind(r.u32()))
		if err == nil {
			err = r.err
		}
		if err != nil {
			return nil, fmt.Errorf("metadata %q: %w", key, err)
		}
		if _, ok := f.meta[key]; ok {
			return nil, fmt.Errorf("metadata %q: given twice", key)
		}
		f.meta[key] = v
	}
	return f, f.readTensors(r, b, nTensors)
}

// ggufInfo is the entry of one tensor before its data is known.
type ggufInfo struct {
	tensor
	offset, bytes uint64
}

func (f *ggufFile) readTensors(r *ggufReader, b []byte, n uint64) error {
	align, err := f.alignment()
	if err != nil {
		return err
	}
	var infos []ggufInfo
	seen := map[string]bool{}
	for range n {
		info, err := r.info()
		switch {
		case err != nil:
			return fmt.Errorf("tensor %q: %w", info.name, err)
		case seen[info.name]:
			return fmt.Errorf("tensor %q: listed twice", info.name)
		case info.offset%align != 0:
			return fmt.Errorf("tensor %q: offset %d is not a multiple of the alignment %d", info.name, info.offset, align)
		}
		seen[info.name] = true
		infos = append(infos, info)
	}
	start := uint64(len(b) - len(r.b))
	start = (start + align - 1) / align * align
	slices.SortStableFunc(infos, func(x, y ggufInfo) int {
		if x.offset < y.offset {
			return -1
		}
		if x.offset > y.offset {
			return 1
		}
		return 0
	})
	f.tensors = make([]tensor, 0, len(infos))
	end := uint64(0)
	for i := range infos {
		x := &infos[i]
		if x.offset < end {
			return fmt.Errorf("tensor %q: overlaps tensor %q", x.name, infos[i-1].name)
		}
		at, over := bits.Add64(start, x.offset, 0)
		last, over2 := bits.Add64(at, x.bytes, 0)
		if over|over2 != 0 || last > uint64(len(b)) {
			return fmt.Errorf("tensor %q: %d bytes at offset %d lie past the end of the file: it is cut off", x.name, x.bytes, x.offset)
		}
		end = x.offset + x.bytes
		x.data = b[at:last:last]
		f.tensors = append(f.tensors, x.tensor)
	}
	return nil
}

func (f *ggufFile) alignment() (uint64, error) {
	v, ok := f.meta["general.alignment"]
	if !ok {
		return 32, nil
	}
	if v.kind != kindU32 {
		return 0, fmt.Errorf("metadata %q: is a %s, want u32", "general.alignment", v.kind)
	}
	a := uint64(binary.LittleEndian.Uint32(v.data))
	if a < 8 || a&(a-1) != 0 || a > 1<<20 {
		return 0, fmt.Errorf("metadata %q: %d is not a power of two from 8 to %d", "general.alignment", a, 1<<20)
	}
	return a, nil
}

func (k ggufKind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown type " + strconv.FormatUint(uint64(k), 10)
}

// ggufReader walks through a header. After a failure it returns zero values.
type ggufReader struct {
	b   []byte // what is left
	err error
}

func (r *ggufReader) take(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)) {
		r.err = fmt.Errorf("%d bytes wanted, %d left: the file is corrupt or cut off", n, len(r.b))
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *ggufReader) u32() uint32 {
	if v := r.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (r *ggufReader) u64() uint64 {
	if v := r.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (r *ggufReader) text() []byte { return r.take(r.u64()) }

// value reads a metadata value.
func (r *ggufReader) value(kind ggufKind) (ggufValue, error) {
	v := ggufValue{kind: kind}
	switch {
	case r.err != nil:
	case int(kind) >= len(kindSize):
		return v, fmt.Errorf("%s", kind)
	case kind == kindString:
		v.data = r.text()
	case kind != kindArray:
		v.data = r.take(uint64(kindSize[kind]))
	default:
		return r.array()
	}
	return v, r.err
}

func (r *ggufReader) array() (ggufValue, error) {
	v := ggufValue{kind: kindArray, elem: ggufKind(r.u32())}
	n := r.u64()
	if r.err != nil {
		return v, r.err
	}
	if int(v.elem) >= len(kindSize) || v.elem == kindArray {
		return v, fmt.Errorf("an array of %s", v.elem)
	}
	if size := uint64(max(kindSize[v.elem], 1)); n > uint64(len(r.b))/size {
		return v, fmt.Errorf("an array of %d %s in %d bytes: the file is corrupt or cut off", n, v.elem, len(r.b))
	}
	v.n = int(n)
	if v.elem != kindString {
		v.data = r.take(n * uint64(kindSize[v.elem]))
		return v, r.err
	}
	start := r.b
	for range n {
		if r.text(); r.err != nil {
			return v, r.err
		}
	}
	v.data = start[:len(start)-len(r.b)]
	return v, nil
}

// info reads the entry of one tensor.
func (r *ggufReader) info() (ggufInfo, error) {
	x := ggufInfo{tensor: tensor{name: string(r.text())}}
	axes := r.u32()
	if r.err == nil && axes > maxGGUFAxes {
		return x, fmt.Errorf("%d axes, at most %d are possible", axes, maxGGUFAxes)
	}
	x.shape = make([]int, axes) // the file lists the fastest axis first
	elems := uint64(1)
	for i := range axes {
		n := r.u64()
		hi, lo := bits.Mul64(elems, n)
		if r.err == nil && (n == 0 || hi != 0 || lo > math.MaxInt64/64) {
			return x, fmt.Errorf("axis %d of %d elements: the shape is empty or overflows", i, n)
		}
		elems, x.shape[int(axes-1-i)] = lo, int(n)
	}
	id := r.u32()
	x.offset = r.u64()
	if r.err != nil {
		return x, r.err
	}
	var ok bool
	if x.format, ok = dtype.FormatOfGGUF(id); !ok {
		return x, fmt.Errorf("type %d%s is not supported; %s", id, unreadTypes[id], readable)
	}
	x.stored = x.format.String()
	row := uint64(1)
	if axes > 0 {
		row = uint64(x.shape[axes-1])
	}
	block := uint64(x.format.BlockElems())
	if row%block != 0 {
		return x, fmt.Errorf("rows of %d elements are not whole blocks of %d (%s)", row, block, x.format)
	}
	x.bytes = elems / block * uint64(x.format.BlockBytes())
	return x, nil
}

// unreadTypes names tensor types of ggml that are met in files but not read here.
var unreadTypes = map[uint32]string{
	9: " (Q8_1)", 15: " (Q8_K)", 16: " (IQ2_XXS)", 17: " (IQ2_XS)", 18: " (IQ3_XXS)", 19: " (IQ1_S)", 21: " (IQ3_S)",
	22: " (IQ2_S)", 24: " (I8)", 25: " (I16)", 26: " (I32)", 27: " (I64)", 28: " (F64)", 29: " (IQ1_M)", 34: " (TQ1_0)",
	35: " (TQ2_0)", 40: " (NVFP4)",
}
