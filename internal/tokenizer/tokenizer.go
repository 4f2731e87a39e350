// Package tokenizer turns text into token ids and back with the byte-level BPE
// of GPT-OSS (o200k_harmony), from the model's own vocabulary or a built-in one.
// It never produces the id of a special token from ordinary text, never adds a
// beginning-of-sequence token and never drops a byte of valid UTF-8.
//
// Encoding has three steps: invalid UTF-8 becomes U+FFFD (utf8.go), the text is
// split into pieces, roughly words (split.go), and the bytes of each piece are
// merged into tokens (bpe.go). The vocabulary lives in one arena with one hash
// table (vocab.go); it comes from tokenizer.json (hf.go), from a list (New) or
// from the rank file of o200k_base (o200k.go).
package tokenizer

import (
	"fmt"
	"slices"
	"strings"
)

// A Tokenizer maps text to ids and ids to bytes. It does not change after it was
// loaded, so any number of goroutines may share it.
type Tokenizer struct {
	name     string
	vocab    vocab
	classes  *classTable
	named    map[string]int32 // special and added tokens by name
	specials int              // how many ids are special
	lengths  []int            // distinct lengths of the names in bytes, longest first
	firsts   string           // distinct first characters of the names
}

// New makes a tokenizer from tokens, the bytes of each id (nil: the id has no
// text), and the ids of the special tokens by name. An id may have several names;
// Token then gives the first in byte order. The entry of a special token in tokens
// may be nil, absent or its name. A lower id merges first.
//
// It is an error if one of the 256 single bytes has no token (some text could not
// be encoded), if two ids have the same bytes, or if an id is out of range.
func New(tokens [][]byte, special map[string]int32) (*Tokenizer, error) {
	var b builder
	for id, text := range tokens {
		if len(text) == 0 {
			continue
		}
		if err := b.add(int64(id), text); err != nil {
			return nil, fmt.Errorf("token %d: %w", id, err)
		}
	}
	for name, id := range special {
		if err := b.addNamed(int64(id), name, kindSpecial); err != nil {
			return nil, fmt.Errorf("special token %q: %w", name, err)
		}
	}
	return b.finish("vocabulary")
}

// Encode appends the ids of text to dst. Names of special tokens are ordinary
// text; each maximal invalid sequence of UTF-8 is encoded as U+FFFD. A word may be
// of any length: the time is O(n log n). Text of 4 GiB and more is not supported.
func (t *Tokenizer) Encode(dst []int32, text string) []int32 {
	return t.encode(dst, validUTF8(text))
}

// EncodeSpecial is Encode, except that names of special (and other added) tokens
// become their ids. Where several names fit, the longest is taken. The text between
// two names is encoded as if it stood alone. Never give it text of a user that is
// meant as text.
func (t *Tokenizer) EncodeSpecial(dst []int32, text string) []int32 {
	text = validUTF8(text)
	begin, at := 0, 0 // of the ordinary text; of the search
	for {
		skip := strings.IndexAny(text[at:], t.firsts)
		if skip < 0 {
			return t.encode(dst, text[begin:])
		}
		at += skip
		id, n := t.matchName(text[at:])
		if n == 0 {
			at++
			continue
		}
		dst = append(t.encode(dst, text[begin:at]), id)
		at += n
		begin = at
	}
}

// encode is Encode for valid UTF-8.
func (t *Tokenizer) encode(dst []int32, text string) []int32 {
	dst = slices.Grow(dst, len(text)/4)
	for len(text) > 0 {
		n := t.classes.next(text)
		dst = t.vocab.encodePiece(dst, text[:n])
		text = text[n:]
	}
	return dst
}

// matchName returns the id and the length of the longest name that text begins
// with, or a length of 0.
func (t *Tokenizer) matchName(text string) (id int32, n int) {
	for _, n := range t.lengths {
		if n <= len(text) {
			if id, ok := t.named[text[:n]]; ok {
				return id, n
			}
		}
	}
	return 0, 0
}

// Token returns the bytes of id, or the name of a special token. ok is false if id
// has no text or is out of range. The caller must not change b.
func (t *Tokenizer) Token(id int32) (b []byte, special, ok bool) {
	b, k := t.vocab.bytes(id)
	return b, k == kindSpecial, k != kindNone
}

// Special returns the id of the special (or other added) token called name.
func (t *Tokenizer) Special(name string) (int32, bool) {
	id, ok := t.named[name]
	return id, ok
}

// Size is the highest id with text, plus one. A model may have more rows.
func (t *Tokenizer) Size() int { return len(t.vocab.tokens) }

// Name says in one line where the vocabulary came from.
func (t *Tokenizer) Name() string { return t.name }
