package harmony

import "unicode/utf8"

const replacement = "\uFFFD"

// A textBuffer makes text of the bytes of tokens: a character whose bytes are
// spread over several tokens comes with the last of them, and each maximal part of
// a character that is never completed becomes one U+FFFD.
type textBuffer struct {
	held [utf8.UTFMax - 1]byte // the beginning of a character
	n    int                   // bytes in held
}

// push returns the text that b completed.
func (t *textBuffer) push(b []byte) string {
	src := append(t.held[:t.n:t.n], b...)
	dst := make([]byte, 0, len(src))
	for len(src) > 0 {
		r, n := utf8.DecodeRune(src)
		if r != utf8.RuneError || n > 1 {
			dst = append(dst, src[:n]...)
			src = src[n:]
			continue
		}
		if !utf8.FullRune(src) {
			break
		}
		for n < len(src) && !utf8.FullRune(src[:n+1]) {
			n++
		}
		dst = append(dst, replacement...)
		src = src[n:]
	}
	t.n = copy(t.held[:], src)
	return string(dst)
}

// flush ends the text: what is held becomes U+FFFD.
func (t *textBuffer) flush() string {
	if t.n == 0 {
		return ""
	}
	t.n = 0
	return replacement
}
