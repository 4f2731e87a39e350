package tokenizer

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// naive is BPE as its definition says: a map, and a search of all pairs for each
// merge.
type naive map[string]int32

func newNaive(tok *Tokenizer) naive {
	ranks := make(naive)
	for id := range int32(tok.Size()) {
		if text, special, ok := tok.Token(id); ok && !special {
			ranks[string(text)] = id
		}
	}
	return ranks
}

func (ranks naive) encodePiece(piece string) []int32 {
	if id, ok := ranks[piece]; ok {
		return []int32{id}
	}
	var parts []string
	for i := range len(piece) {
		parts = append(parts, piece[i:i+1])
	}
	for {
		at, best := -1, int32(0)
		for i := range len(parts) - 1 {
			if rank, ok := ranks[parts[i]+parts[i+1]]; ok && (at < 0 || rank < best) {
				at, best = i, rank
			}
		}
		if at < 0 {
			break
		}
		parts[at] += parts[at+1]
		parts = append(parts[:at+1], parts[at+2:]...)
	}
	var out []int32
	for _, p := range parts {
		out = append(out, ranks[p])
	}
	return out
}

func (ranks naive) encode(t testing.TB, text string) []int32 {
	var out []int32
	for _, piece := range splitByRegexp(t, text) {
		out = append(out, ranks.encodePiece(piece)...)
	}
	return out
}

// TestMergeAgainstNaive gives pieces of every length, most of them longer than a
// word, to both ways of merging.
func TestMergeAgainstNaive(t *testing.T) {
	for _, tok := range []*Tokenizer{builtIn(t), tiny(t)} {
		ranks := newNaive(tok)
		rng := rand.New(rand.NewPCG(3, 4))
		for range 800 {
			piece := randomPiece(rng, tok)
			want := ranks.encodePiece(piece)
			if diff := cmp.Diff(want, tok.vocab.encodePiece(nil, piece)); diff != "" {
				t.Fatalf("%s: encodePiece(%q): (-want +got)\n%s", tok.Name(), piece, diff)
			}
			if len(want) == 1 {
				continue
			}
			if len(piece) <= shortPiece {
				if diff := cmp.Diff(want, tok.vocab.mergeShort(nil, piece)); diff != "" {
					t.Fatalf("%s: mergeShort(%q): (-want +got)\n%s", tok.Name(), piece, diff)
				}
			}
			if diff := cmp.Diff(want, tok.vocab.mergeLong(nil, piece)); diff != "" {
				t.Fatalf("%s: mergeLong(%q): (-want +got)\n%s", tok.Name(), piece, diff)
			}
		}
	}
}

// randomPiece joins random bytes, parts of tokens, or repetitions, up to about 200
// bytes. It need not be a piece of the splitter.
func randomPiece(rng *rand.Rand, tok *Tokenizer) string {
	var piece strings.Builder
	length := 1 + rng.IntN(1+rng.IntN(200))
	for piece.Len() < length {
		text, _, ok := tok.Token(rng.Int32N(int32(tok.Size())))
		if !ok {
			continue
		}
		switch rng.IntN(4) {
		case 0:
			piece.WriteByte(byte(rng.IntN(256)))
		case 1:
			piece.WriteString(strings.Repeat(string(text[:1]), 1+rng.IntN(40)))
		case 2:
			piece.Write(text[rng.IntN(len(text)):])
		default:
			piece.Write(text)
		}
	}
	return piece.String()
}

// TestEncodeRandomly compares the whole of Encode with the regular expression and
// the naive merge.
func TestEncodeRandomly(t *testing.T) {
	tok := builtIn(t)
	ranks := newNaive(tok)
	word := rapid.SampledFrom([]string{
		" the", "'ll", "HTTPServer", "<|start|>", " to=functions.", "\r\n\r\n", "    ", "données", "привет", "東京都", "ß", "👩‍👧", "12345", "//", "\n}", "aaaaaaaaaaaa",
	})
	text := rapid.SliceOf(rapid.OneOf(word, rapid.StringOfN(rapid.SampledFrom(awkward), 0, 6, -1)))
	rapid.Check(t, func(rt *rapid.T) {
		s := strings.Join(text.Draw(rt, "text"), "")
		got := tok.Encode(nil, s)
		if diff := cmp.Diff(ranks.encode(t, s), got, equateEmpty); diff != "" {
			rt.Fatalf("%q: (-naive +got)\n%s", s, diff)
		}
		if back := tok.Decode(got, true); back != s {
			rt.Fatalf("%q comes back as %q", s, back)
		}
	})
}

// TestLongPieces: words without end must not take quadratic time, which here would
// be hours.
func TestLongPieces(t *testing.T) {
	tok := builtIn(t)
	for _, test := range []struct {
		unit string
		size int
	}{
		{"a", 1 << 20},
		{"A", 1 << 16}, {"ªA", 1 << 16}, {" ", 1 << 16}, {"\t ", 1 << 16}, {"\n", 1 << 16}, {"!", 1 << 16},
		{"é", 1 << 16}, {"中", 1 << 16}, {"ab", 1 << 16}, {"\u0301", 1 << 16},
	} {
		text := strings.Repeat(test.unit, test.size/len(test.unit))
		if back := tok.Decode(tok.Encode(nil, text), true); back != text {
			t.Errorf("a run of %d bytes of %q does not come back", len(text), test.unit)
		}
	}
}

func TestPairHeap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := pairHeap(rapid.SliceOf(rapid.Uint64Range(0, 50)).Draw(t, "keys"))
		h.init()
		want := make(map[uint64]int)
		for _, key := range h {
			want[key]++
		}
		for _, key := range rapid.SliceOf(rapid.Uint64Range(0, 50)).Draw(t, "pushed") {
			h.push(key)
			want[key]++
		}
		for last := uint64(0); len(h) > 0; {
			key := h.pop()
			if key < last {
				t.Fatalf("%d after %d", key, last)
			}
			last = key
			want[key]--
		}
		for key, n := range want {
			if n != 0 {
				t.Fatalf("key %d: %d lost", key, n)
			}
		}
	})
}

func FuzzEncode(f *testing.F) {
	for _, v := range vectors(f, "testdata/vectors-special.jsonl.gz") {
		f.Add(v.Text)
	}
	f.Add("caf\xc3 \xf0\x9f\x92 \xff" + strings.Repeat("a", 300))
	tok := builtIn(f)
	small := tiny(f)
	f.Fuzz(func(t *testing.T, text string) {
		want := strings.ToValidUTF8(text, "\uFFFD")
		for _, tok := range []*Tokenizer{tok, small} {
			for _, id := range tok.Encode(nil, text) {
				if _, special, ok := tok.Token(id); special || !ok {
					t.Fatalf("%s: Encode(%q) gives id %d", tok.Name(), text, id)
				}
			}
			got := tok.Decode(tok.Encode(nil, text), true)
			if !utf8.ValidString(got) || collapse(got) != collapse(want) {
				t.Fatalf("%s: %q comes back as %q", tok.Name(), text, got)
			}
			checkSpecial(t, tok, text)
		}
	})
}

// collapse makes one U+FFFD of each run: strings.ToValidUTF8 replaces runs, we
// replace maximal subparts.
func collapse(text string) string {
	const double = "\uFFFD\uFFFD"
	for strings.Contains(text, double) {
		text = strings.ReplaceAll(text, double, "\uFFFD")
	}
	return text
}

// checkSpecial: with its special tokens printed, EncodeSpecial loses nothing, but a
// token may come back by another of its names.
func checkSpecial(t *testing.T, tok *Tokenizer, text string) {
	var got strings.Builder
	for _, id := range tok.EncodeSpecial(nil, text) {
		b, _, ok := tok.Token(id)
		if !ok {
			t.Fatalf("%s: EncodeSpecial(%q) gives id %d", tok.Name(), text, id)
		}
		got.Write(b)
	}
	want := validUTF8(text)
	if id, ok := tok.Special("<|reserved_200018|>"); ok {
		b, _, _ := tok.Token(id)
		want = strings.ReplaceAll(want, "<|reserved_200018|>", string(b))
	}
	if got.String() != want {
		t.Fatalf("%s: EncodeSpecial(%q) comes back as %q", tok.Name(), text, got.String())
	}
}
