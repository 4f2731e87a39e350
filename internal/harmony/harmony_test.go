package harmony

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hearth/internal/tokenizer"
)

// o200k is the encoding of the published models.
func o200k(tb testing.TB) *Encoding {
	tb.Helper()
	t, err := tokenizer.O200kHarmony()
	if err != nil {
		tb.Fatal(err)
	}
	return newEncoding(tb, t)
}

func newEncoding(tb testing.TB, t *tokenizer.Tokenizer) *Encoding {
	tb.Helper()
	e, err := New(t)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// tiny is an encoding of single bytes: every text is as many tokens as bytes, and
// the markers have small ids in an unusual order.
func tiny(tb testing.TB) *Encoding {
	tb.Helper()
	tokens, special := tinyVocabulary()
	t, err := tokenizer.New(tokens, special)
	if err != nil {
		tb.Fatal(err)
	}
	return newEncoding(tb, t)
}

func tinyVocabulary() ([][]byte, map[string]int32) {
	var tokens [][]byte
	for i := range 256 {
		tokens = append(tokens, []byte{byte(i)})
	}
	special := map[string]int32{"<|reserved_300|>": 300}
	for i, name := range []string{
		markerCall, markerMessage, markerEnd, markerStart, markerConstrain, markerReturn, markerChannel, markerEndOfText,
	} {
		special[name] = int32(256 + i)
	}
	return tokens, special
}

// readLines decodes a golden file of one JSON object a line.
func readLines[T any](tb testing.TB, name string) []T {
	tb.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	var out []T
	r := bufio.NewReader(z)
	for {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			var v T
			if err := json.Unmarshal(line, &v); err != nil {
				tb.Fatalf("%s: line %d: %v", name, len(out)+1, err)
			}
			out = append(out, v)
		}
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

func TestNewNamesMissingMarkers(t *testing.T) {
	tokens, special := tinyVocabulary()
	delete(special, markerChannel)
	delete(special, markerCall)
	tok, err := tokenizer.New(tokens, special)
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(tok)
	if err == nil {
		t.Fatal("no error without <|channel|> and <|call|>")
	}
	for _, name := range []string{markerChannel, markerCall} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("error %q does not name %s", err, name)
		}
	}
	if strings.Contains(err.Error(), markerStart) {
		t.Errorf("error %q names <|start|>, which is there", err)
	}
	if _, err := New(nil); err == nil {
		t.Error("no error without a tokenizer")
	}
}

func TestMarkersAreFoundByName(t *testing.T) {
	for _, c := range []struct {
		name string
		enc  *Encoding
		want []int32
	}{
		{"o200k_harmony", o200k(t), []int32{200002, 200012, 199999}},
		{"tiny", tiny(t), []int32{261, 256, 263}},
	} {
		if diff := cmp.Diff(c.want, c.enc.StopTokens()); diff != "" {
			t.Errorf("%s: stop tokens (-want +got):\n%s", c.name, diff)
		}
	}
}
