package convert

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
	"hearth/internal/testmodel"
)

// The one tensor that is ours alone is read with the same care as the others.
func TestNestedOffsetsAreChecked(t *testing.T) {
	dir := convert(t, testmodel.Dir(t, "tiny-a/unsloth-nf4-dq"), Options{To: FusedNF4, KeepNested: true})
	path := filepath.Join(dir, "model.safetensors")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name := "model.layers.1.mlp.experts.down_proj" + offsetsSuffix
	spoil := func(want string, edit func(b []byte) []byte) {
		t.Helper()
		if err := os.WriteFile(path, edit(bytes.Clone(whole)), 0o644); err != nil {
			t.Fatal(err)
		}
		if c, err := checkpoint.Open(dir); err == nil {
			c.Close()
			t.Errorf("no error, want one with %q", want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	at := bytes.Index(whole, parseSafetensors(t, whole)[name].data)
	spoil("the offset of expert 2 is NaN", func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[at+8:], math.Float32bits(float32(math.NaN())))
		return b
	})
	spoil("of nested_blocksize and nested_offset one is missing", func(b []byte) []byte {
		return bytes.Replace(b, []byte(name), []byte(strings.Replace(name, "nested_offsets", "nested_offsetz", 1)), 1)
	})
	spoil("shape [2 4]", func(b []byte) []byte { // as many bytes in another shape
		n := binary.LittleEndian.Uint64(b)
		before, after, _ := bytes.Cut(b[8:8+n], []byte(name))
		head := append(before, name...)
		head = append(head, bytes.Replace(after, []byte("[8]"), []byte("[2,4]"), 1)...)
		return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...), whole[8+n:]...)
	})
}

func FuzzParseTokenizer(f *testing.F) {
	raw, err := os.ReadFile(filepath.Join(testmodel.Dir(f, "tiny-a/hf-mxfp4"), "tokenizer.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw[:2000])
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[["a","b"],"a b"]},"added_tokens":[{"id":3,"content":"<|x|>","special":true}]}`))
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":-1}}}`))
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":99999999999}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseTokenizer(b, 8)
		if err == nil && (len(v.tokens) != 8 || len(v.types) != 8) {
			t.Errorf("%d tokens, %d types", len(v.tokens), len(v.types))
		}
		if err == nil {
			if again, err := parseTokenizer(v.json(), 8); err == nil && len(again.merges) != len(v.merges) {
				t.Errorf("%d merges, written back %d", len(v.merges), len(again.merges))
			}
		}
	})
}

func FuzzReadJournal(f *testing.F) {
	head := `{"conversion": "` + strings.Repeat("00", 32) + `"}` + "\n"
	f.Add([]byte(head + `{"piece":1,"sum":7,"error":[0,0,0,0,0,0],"writes":[{"f":0,"o":10,"n":5,"c":9}]}` + "\n"))
	f.Add([]byte(head + `{"piece":99}` + "\n"))
	f.Add([]byte(head + `{"piece":1,"writes":[{"f":3,"o":-1,"n":9223372036854775807}]}` + "\n"))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		p := &Plan{pieces: make([]piece, 2)}
		entries, err := p.readJournal(file)
		if err != nil {
			return
		}
		w := &worker{files: []*target{{File: file}}}
		for i := range entries {
			if e := &entries[i]; e.Piece < 0 || e.Piece > 1 {
				t.Errorf("piece %d of 2", e.Piece)
			}
			w.holds(&entries[i], []outFile{{size: int64(len(b))}})
		}
	})
}

// Values that do not fit are refused by name; what is not a number stays what it is and does not spoil the figures.
func TestOverflowIsRefused(t *testing.T) {
	c := floatCodec{format: dtype.F16}
	b := make([]byte, 6)
	if err := c.encode(b, []float32{1, 7e4, 2}, false); err == nil || !strings.Contains(err.Error(), "70000 does not fit F16") {
		t.Errorf("overflow: %v", err)
	}
	inf := float32(math.Inf(-1))
	if err := c.encode(b, []float32{1, inf, float32(math.NaN())}, false); err != nil {
		t.Errorf("an infinity of the source: %v", err)
	}
	var e Error
	e.compare([]float32{1, inf, float32(math.NaN())}, []float32{1.5, inf, float32(math.NaN())})
	if e.Max != 0.5 || math.IsNaN(e.RMS()) {
		t.Errorf("max %v, RMS %v", e.Max, e.RMS())
	}
}
