package tokenizer

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// Limits of a vocabulary. They bound what a hostile file can make us allocate and
// are about ten times what any model has.
const (
	maxIDs     = 1 << 21
	maxToken   = math.MaxUint16 // bytes of a token
	maxName    = 1 << 10        // bytes of the name of a special or added token
	maxVocabMB = 256            // of all tokens, and of a tokenizer.json
)

// noToken is the rank of bytes that are no token: it loses against every id.
const noToken = math.MaxInt32

type kind uint8

const (
	kindNone     kind = iota
	kindOrdinary      // takes part in BPE
	kindAdded         // has text, but only EncodeSpecial produces it
	kindSpecial       // its text is a name and not part of the output
)

// A token is a place in the arena. Eight bytes, so that 201,088 of them, their text
// and the hash table stay at about 8 MB.
type token struct {
	off  uint32
	n    uint16
	kind kind
}

// A vocab holds the text of every id in one arena and finds ids by text. As in
// tiktoken, an id is also its merge rank.
type vocab struct {
	arena  []byte
	tokens []token

	// slots is an open-addressed table of the ordinary tokens, at most half full:
	// the high half of the text's hash in the high half, id+1 in the low one.
	slots   []uint64
	seed    maphash.Seed
	longest int        // bytes of the longest ordinary token
	single  [256]int32 // ids of the single bytes
	pairs   *pairTable // ids of two-byte texts, where most merges begin
}

type pairTable [1 << 16]int32

// bytes returns the text and the kind of id; kindNone if id is out of range.
func (v *vocab) bytes(id int32) ([]byte, kind) {
	if id < 0 || int(id) >= len(v.tokens) {
		return nil, kindNone
	}
	t := v.tokens[id]
	if t.kind == kindNone {
		return nil, kindNone
	}
	end := t.off + uint32(t.n)
	return v.arena[t.off:end:end], t.kind
}

// rank returns the ordinary token whose text is s, or noToken. len(s) >= 1.
func (v *vocab) rank(s string) int32 {
	switch {
	case len(s) == 2:
		return v.pairs[int(s[0])<<8|int(s[1])]
	case len(s) == 1:
		return v.single[s[0]]
	case len(s) > v.longest:
		return noToken
	}
	hash := maphash.String(v.seed, s)
	mask := uint64(len(v.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		slot := v.slots[i]
		if slot == 0 {
			return noToken
		}
		if slot>>32 == hash>>32 {
			t := v.tokens[uint32(slot)-1]
			if string(v.arena[t.off:t.off+uint32(t.n)]) == s {
				return int32(uint32(slot) - 1)
			}
		}
	}
}

// index builds the lookup tables.
func (v *vocab) index() error {
	ordinary := 0
	for _, t := range v.tokens {
		if t.kind == kindOrdinary {
			ordinary++
		}
	}
	v.slots = make([]uint64, 1<<bits.Len(uint(2*ordinary)))
	v.seed = maphash.MakeSeed() // random: a file cannot be made to collide
	v.pairs = new(pairTable)
	for i := range v.pairs {
		v.pairs[i] = noToken
	}
	for i := range v.single {
		v.single[i] = noToken
	}
	for id := range v.tokens {
		if v.tokens[id].kind != kindOrdinary {
			continue
		}
		if other := v.insert(int32(id)); other != noToken {
			text, _ := v.bytes(other)
			return fmt.Errorf("ids %d and %d have the same text %q", other, id, text)
		}
	}
	return v.checkBytes()
}

// insert enters id into the tables. It returns the id that has the same text
// already, or noToken.
func (v *vocab) insert(id int32) int32 {
	text, _ := v.bytes(id)
	v.longest = max(v.longest, len(text))
	switch len(text) {
	case 1:
		return swap(&v.single[text[0]], id)
	case 2:
		return swap(&v.pairs[int(text[0])<<8|int(text[1])], id)
	}
	hash := maphash.Bytes(v.seed, text)
	mask := uint64(len(v.slots) - 1)
	i := hash & mask
	for ; v.slots[i] != 0; i = (i + 1) & mask {
		if v.slots[i]>>32 == hash>>32 {
			other := int32(uint32(v.slots[i]) - 1)
			if b, _ := v.bytes(other); bytes.Equal(b, text) {
				return other
			}
		}
	}
	v.slots[i] = hash>>32<<32 | uint64(id+1)
	return noToken
}

func swap(p *int32, id int32) (old int32) {
	old, *p = *p, id
	return old
}

// checkBytes makes sure that every text can be encoded.
func (v *vocab) checkBytes() error {
	missing := 0
	first := 0
	for b := len(v.single) - 1; b >= 0; b-- {
		if v.single[b] == noToken {
			missing++
			first = b
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of the 256 single bytes have no token (the first is 0x%02x), so some text has no encoding: not a complete byte-level vocabulary", missing, first)
	}
	return nil
}

// parseID reads an id in decimal digits.
func parseID(digits []byte) (int64, error) {
	if len(digits) == 0 || len(digits) > 9 {
		return 0, errors.New("want an id of one to nine digits")
	}
	id := int64(0)
	for i, c := range digits {
		if c < '0' || c > '9' || i == 1 && id == 0 {
			return 0, fmt.Errorf("%q is not an id", digits)
		}
		id = 10*id + int64(c-'0')
	}
	return id, nil
}

// A builder collects the tokens of a vocabulary in any order.
type builder struct {
	vocab vocab
	named map[string]int32
}

// add gives id its text. The bytes are copied.
func (b *builder) add(id int64, text []byte) error { return b.put(id, text, kindOrdinary) }

func (b *builder) put(id int64, text []byte, k kind) error {
	switch {
	case id < 0 || id >= maxIDs:
		return fmt.Errorf("id %d is out of range (0 to %d)", id, maxIDs-1)
	case len(text) == 0:
		return errors.New("text is empty")
	case len(text) > maxToken:
		return fmt.Errorf("text has %d bytes, more than %d", len(text), maxToken)
	case len(b.vocab.arena)+len(text) > maxVocabMB<<20:
		return fmt.Errorf("the vocabulary has more than %d MiB of text", maxVocabMB)
	}
	v := &b.vocab
	if n := int(id) + 1; n > len(v.tokens) {
		v.tokens = slices.Grow(v.tokens, n-len(v.tokens))[:n]
	}
	if v.tokens[id].kind != kindNone {
		old, _ := v.bytes(int32(id))
		return fmt.Errorf("id %d is also %q", id, old)
	}
	v.tokens[id] = token{off: uint32(len(v.arena)), n: uint16(len(text)), kind: k}
	v.arena = append(v.arena, text...)
	return nil
}

// addNamed declares a special or added token, after the ordinary ones. An ordinary
// token with the same id and text becomes the named one.
func (b *builder) addNamed(id int64, name string, k kind) error {
	switch {
	case len(name) > maxName:
		return fmt.Errorf("name has %d bytes, more than %d", len(name), maxName)
	case !utf8.ValidString(name):
		return errors.New("name is not valid UTF-8")
	}
	if other, ok := b.named[name]; ok && int64(other) != id {
		return fmt.Errorf("has two ids, %d and %d", other, id)
	}
	var old []byte
	oldKind := kindNone
	if id >= 0 && id < maxIDs {
		old, oldKind = b.vocab.bytes(int32(id))
	}
	switch {
	case oldKind == kindNone:
		if err := b.put(id, []byte(name), k); err != nil {
			return err
		}
	case oldKind == kindOrdinary && string(old) == name:
		b.vocab.tokens[id].kind = k
	case oldKind != k:
		return fmt.Errorf("id %d is also %q", id, old)
	case name < string(old): // a second name: the order of calls must not matter
		b.vocab.tokens[id].kind = kindNone
		if err := b.put(id, []byte(name), k); err != nil {
			return err
		}
	}
	if b.named == nil {
		b.named = make(map[string]int32)
	}
	b.named[name] = int32(id)
	return nil
}

// finish indexes the vocabulary. source begins the tokenizer's name.
func (b *builder) finish(source string) (*Tokenizer, error) {
	if err := b.vocab.index(); err != nil {
		return nil, err
	}
	t := &Tokenizer{vocab: b.vocab, named: b.named, classes: classes()}
	var count [kindSpecial + 1]int
	for _, tok := range t.vocab.tokens {
		count[tok.kind]++
	}
	t.name = fmt.Sprintf("%s, %d tokens, %d special", source, count[kindOrdinary]+count[kindAdded], count[kindSpecial])

	var firsts []rune
	for name := range t.named {
		first, _ := utf8.DecodeRuneInString(name)
		firsts = append(firsts, first)
		t.lengths = append(t.lengths, len(name))
	}
	slices.Sort(firsts)
	t.firsts = string(slices.Compact(firsts))
	slices.Sort(t.lengths)
	t.lengths = slices.Compact(t.lengths)
	slices.Reverse(t.lengths)
	return t, nil
}
