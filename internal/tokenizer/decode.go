package tokenizer

import "unicode/utf8"

// Decode returns the text of ids. With special, names of special tokens are part of
// it; else they are left out. Bytes that are no UTF-8 and ids without text become
// U+FFFD.
func (t *Tokenizer) Decode(ids []int32, special bool) string {
	d := Decoder{t: t, special: special}
	text := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		text = d.push(text, id)
	}
	return string(d.flush(text))
}

// A Decoder turns a stream of ids into a stream of text that is always valid UTF-8:
// a character whose bytes are spread over several tokens comes with the last of
// them. Joined, its results are what Decode returns.
type Decoder struct {
	t       *Tokenizer
	special bool
	held    [utf8.UTFMax - 1]byte // the beginning of a character
	n       int                   // bytes in held
}

// NewDecoder returns a decoder at the start of a text. With special, names of
// special tokens are part of the text.
func (t *Tokenizer) NewDecoder(special bool) *Decoder {
	return &Decoder{t: t, special: special}
}

// Push returns the text that id completed, often none. A special token, printed or
// not, ends an incomplete character: it becomes U+FFFD. So does an id without text.
func (d *Decoder) Push(id int32) string { return string(d.push(nil, id)) }

// Flush ends the text: an incomplete character becomes U+FFFD. The decoder is then
// ready for another text.
func (d *Decoder) Flush() string { return string(d.flush(nil)) }

func (d *Decoder) push(dst []byte, id int32) []byte {
	text, k := d.t.vocab.bytes(id)
	switch k {
	case kindNone:
		return append(d.flush(dst), replacement...)
	case kindSpecial:
		dst = d.flush(dst)
		if d.special {
			dst = append(dst, text...)
		}
		return dst
	}
	if d.n > 0 {
		text = append(d.held[:d.n:d.n], text...)
	}
	dst, rest := appendValid(dst, text)
	d.n = copy(d.held[:], rest)
	return dst
}

func (d *Decoder) flush(dst []byte) []byte {
	if d.n > 0 {
		d.n = 0
		dst = append(dst, replacement...)
	}
	return dst
}
