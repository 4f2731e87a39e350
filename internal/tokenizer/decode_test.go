package tokenizer

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var equateEmpty = cmpopts.EquateEmpty()

// TestDecodeVectors feeds ids one by one. Where Python's and the WHATWG's decoder
// differ in how early they give up on a surrogate, either is right.
func TestDecodeVectors(t *testing.T) {
	tok := builtIn(t)
	for _, v := range vectors(t, "testdata/decode.jsonl.gz") {
		d := tok.NewDecoder(false)
		var got []string
		for _, id := range v.IDs {
			got = append(got, d.Push(id))
		}
		got = append(got, d.Flush())
		if v.ChunksWHATWG != nil && cmp.Equal(v.ChunksWHATWG, got) {
			continue
		}
		if diff := cmp.Diff(v.Chunks, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", v.Name, diff)
		}
	}
}

func TestDecodeSpecial(t *testing.T) {
	tok := builtIn(t)
	for _, test := range []struct {
		name          string
		ids           []int32
		hidden, shown string
	}{
		{"specials", []int32{200005, 17196, 200008, 24912, 200002}, "finalhello", "<|channel|>final<|message|>hello<|return|>"},
		{"a special ends a character", []int32{9552, 200007, 87}, " \uFFFDx", " \uFFFD<|end|>x"},
		{"no text", []int32{24912, 201088, -1, 2375}, "hello\uFFFD\uFFFD world", "hello\uFFFD\uFFFD world"},
		{"no text within a character", []int32{31446, 201088, 244}, "\uFFFD\uFFFD\uFFFD", "\uFFFD\uFFFD\uFFFD"},
		{"nothing", nil, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := tok.Decode(test.ids, false); got != test.hidden {
				t.Errorf("hidden: %q, want %q", got, test.hidden)
			}
			if got := tok.Decode(test.ids, true); got != test.shown {
				t.Errorf("shown: %q, want %q", got, test.shown)
			}
		})
	}
}

// TestDecoderRandomly compares the stream with the whole: the decoder may cut
// anywhere but must not change, lose or reorder anything.
func TestDecoderRandomly(t *testing.T) {
	tok := tiny(t)
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOf(rapid.Int32Range(0, 625)).Draw(t, "ids")
		special := rapid.Bool().Draw(t, "special")
		var bytesOnly []byte
		plain := true
		for _, id := range ids {
			text, isSpecial, ok := tok.Token(id)
			plain = plain && ok && !isSpecial
			bytesOnly = append(bytesOnly, text...)
		}
		d := tok.NewDecoder(special)
		var stream strings.Builder
		for _, id := range ids {
			chunk := d.Push(id)
			if !utf8.ValidString(chunk) {
				t.Fatalf("Push(%d) = %q is not valid UTF-8", id, chunk)
			}
			stream.WriteString(chunk)
		}
		stream.WriteString(d.Flush())
		if whole := tok.Decode(ids, special); stream.String() != whole {
			t.Fatalf("stream %q, whole %q", stream.String(), whole)
		}
		if want := validUTF8(string(bytesOnly)); plain && stream.String() != want {
			t.Fatalf("stream %q, bytes %q", stream.String(), want)
		}
		if again := d.Push('a'); again == "" || d.Flush() != "" {
			t.Fatal("the decoder cannot be used again after Flush")
		}
	})
}
