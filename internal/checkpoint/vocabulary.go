package checkpoint

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

const (
	ggufTokens = "tokenizer.ggml.tokens"
	ggufTypes  = "tokenizer.ggml.token_type"
)

// The token types of GGUF.
const (
	tokenNormal      = 1
	tokenControl     = 3
	tokenUserDefined = 4
)

// vocabulary is the token list of a GGUF file.
type vocabulary struct {
	size    int      // ids, those without text included
	tokens  [][]byte // nil: no text of its own
	special map[string]int32
	other   string // the kind of tokeniser, if it is not the byte-level BPE that GPT-OSS has; then the fields above are nil
}

// readVocabulary decodes the token list. Ordinary tokens are spelled in GPT-2's alphabet, in which every byte is a
// printable letter. Padding rows ([PAD0]) and unused ones have no text.
func readVocabulary(m *metadata) (*vocabulary, error) {
	list, ok := m.array(ggufTokens, kindString)
	if !ok {
		m.fail(ggufTokens, "missing")
		return nil, m.err
	}
	v := &vocabulary{size: list.n}
	if v.other = m.text("tokenizer.ggml.model"); v.other != "gpt2" || m.err != nil {
		return v, m.err
	}
	v.other = ""
	types, typed := m.array(ggufTypes, kindI32, kindU32)
	if m.err != nil {
		return nil, m.err
	}
	if typed && types.n != list.n {
		return nil, fmt.Errorf("metadata %q: %d entries for %d tokens", ggufTypes, types.n, list.n)
	}
	v.tokens, v.special = make([][]byte, list.n), map[string]int32{}
	alphabet := gpt2Alphabet()
	arena := make([]byte, 0, len(list.data))
	for i, text := range list.strings() {
		kind := uint32(tokenNormal)
		if typed {
			kind = binary.LittleEndian.Uint32(types.data[4*i:])
		}
		switch {
		case isPadding(text):
		case kind == tokenControl || kind == tokenUserDefined:
			if other, ok := v.special[string(text)]; ok {
				return nil, fmt.Errorf("metadata %q: %q is both token %d and token %d", ggufTokens, text, other, i)
			}
			v.special[string(text)] = int32(i)
		case kind == tokenNormal:
			start := len(arena)
			var ok bool
			if arena, ok = alphabet.decode(arena, text); !ok {
				return nil, fmt.Errorf("metadata %q: token %d, %q, is not in GPT-2's alphabet of bytes", ggufTokens, i, text)
			}
			v.tokens[i] = arena[start:len(arena):len(arena)]
		}
	}
	return v, nil
}

// isPadding recognises rows that only fill the matrix up: [PAD0], [PAD621].
func isPadding(text []byte) bool {
	const head, tail = "[PAD", "]"
	if len(text) <= len(head)+len(tail) || string(text[:len(head)]) != head || text[len(text)-1] != ']' {
		return false
	}
	for _, c := range text[len(head) : len(text)-len(tail)] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// alphabet maps the letters of GPT-2's spelling, all below 512, to bytes; -1 is no letter of it.
type alphabet [512]int16

// gpt2Alphabet: printable bytes of Latin-1 stand for themselves, the others for the letters from 256 on, in order.
func gpt2Alphabet() *alphabet {
	a := new(alphabet)
	for i := range a {
		a[i] = -1
	}
	next := 256
	for b := range 256 {
		if b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE {
			a[b] = int16(b)
			continue
		}
		a[next] = int16(b)
		next++
	}
	return a
}

func (a *alphabet) decode(dst, text []byte) ([]byte, bool) {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n <= 1 || int(r) >= len(a) || a[r] < 0 {
			return dst, false
		}
		dst, text = append(dst, byte(a[r])), text[n:]
	}
	return dst, true
}

// ends are the ids that end generation, found by name: converters write constants that need not be in the vocabulary.
func (v *vocabulary) ends() []int32 {
	var ids []int32
	for _, name := range []string{"<|return|>", "<|endoftext|>", "<|call|>"} {
		if id, ok := v.special[name]; ok {
			ids = append(ids, id)
		}
	}
	return ids
}

func (v *vocabulary) specialOr(name string, def int32) int32 {
	if id, ok := v.special[name]; ok {
		return id
	}
	return def
}

// id reads a token id from the metadata; -1 if it is absent or outside the vocabulary.
func (v *vocabulary) id(m *metadata, key string) int32 {
	if m.m[key].data == nil {
		return -1
	}
	if x := m.real(key); x >= 0 && x < float64(v.size) {
		return int32(x)
	}
	return -1
}

// Vocabulary gives the tokens of a GGUF file: tokens[id] is the bytes of an ordinary token, nil where an id has no text
// of its own; special has the ids of special tokens by name. ok is false for files without a byte-level BPE vocabulary,
// such as all safetensors. The caller must not change what it gets.
func (c *Checkpoint) Vocabulary() (tokens [][]byte, special map[string]int32, ok bool) {
	if c.vocabulary == nil || c.vocabulary.tokens == nil {
		return nil, nil, false
	}
	return c.vocabulary.tokens, c.vocabulary.special, true
}
