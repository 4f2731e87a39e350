package dtype

import (
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// fixture is a gzip'd safetensors file of testdata. The package that reads such files properly imports this one.
type fixture map[string]tensor

type tensor struct {
	DType   string
	Shape   []int
	Offsets [2]int `json:"data_offsets"`
	data    []byte
}

func readFixture(t testing.TB, name string) fixture {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".safetensors.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(b)
	x := fixture{}
	if err := json.Unmarshal(b[8:8+n], &x); err != nil {
		t.Fatal(err)
	}
	for name, v := range x {
		v.data = b[8+n:][v.Offsets[0]:v.Offsets[1]]
		x[name] = v
	}
	return x
}

func (x fixture) get(t testing.TB, name string) tensor {
	t.Helper()
	v, ok := x[name]
	if !ok {
		t.Fatalf("no tensor %q", name)
	}
	return v
}

// floats reads an F32, F16 or BF16 tensor.
func (x fixture) floats(t testing.TB, name string) []float32 {
	t.Helper()
	v := x.get(t, name)
	f, ok := FormatOfSafetensors(v.DType)
	if !ok {
		t.Fatalf("tensor %q is %s", name, v.DType)
	}
	s, err := DecodeVector(f, v.data)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sameBits compares to the last bit. Only the first difference is reported.
func sameBits(got, want []float32) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d values, want %d", len(got), len(want))
	}
	for i := range got {
		if g, w := math.Float32bits(got[i]), math.Float32bits(want[i]); g != w {
			return fmt.Errorf("value %d is %v (%08X), want %v (%08X)", i, got[i], g, want[i], w)
		}
	}
	return nil
}

// decode checks the plane and decodes all of it.
func decode(t testing.TB, p *Plane) []float32 {
	t.Helper()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	dst := make([]float32, p.Rows*p.Cols)
	p.DecodeRows(dst, 0, p.Rows)
	return dst
}

// unaligned copies b to an odd address, as a mapped file may hold it.
func unaligned(b []byte) []byte { return append([]byte{0}, b...)[1:] }

func f32bytes(s []float32) []byte {
	b := make([]byte, 4*len(s))
	for i, v := range s {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	}
	return b
}

func sortedKeys[V any](m map[string]V) []string {
	var s []string
	for k := range m {
		s = append(s, k)
	}
	slices.Sort(s)
	return s
}
