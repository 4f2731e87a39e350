package tokenizer

import "unicode/utf8"

const replacement = "\uFFFD"

// validUTF8 returns text with each maximal invalid sequence replaced by U+FFFD.
func validUTF8(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	out, rest := appendValid(nil, []byte(text))
	if len(rest) > 0 {
		out = append(out, replacement...)
	}
	return string(out)
}

// appendValid appends the complete characters of src to dst. An invalid sequence
// gives one U+FFFD for each maximal subpart, as in the WHATWG decoder: the longest
// beginning of a valid character, or one byte. A character that src cuts off at its
// end is returned as rest, at most three bytes.
func appendValid(dst, src []byte) (out, rest []byte) {
	for len(src) > 0 {
		r, n := utf8.DecodeRune(src)
		if r != utf8.RuneError || n > 1 {
			dst = append(dst, src[:n]...)
			src = src[n:]
			continue
		}
		if !utf8.FullRune(src) {
			return dst, src
		}
		for n < len(src) && !utf8.FullRune(src[:n+1]) {
			n++
		}
		dst = append(dst, replacement...)
		src = src[n:]
	}
	return dst, nil
}
