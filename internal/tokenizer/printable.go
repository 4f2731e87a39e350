package tokenizer

import (
	"errors"
	"unicode/utf8"
)

var errNoByte = errors.New("a character stands for no byte: not a byte-level vocabulary")

// byteOfPrintable is GPT-2's mapping of bytes to printable characters, inverted:
// the printable bytes of Latin-1 stand for themselves, the other 68 for the
// characters from U+0100 on, in order. Unused entries are -1.
var byteOfPrintable = func() (table [0x100 + 68]int16) {
	for i := range table {
		table[i] = -1
	}
	next := 0x100
	for b := range 0x100 {
		switch {
		case '!' <= b && b <= '~', 0xA1 <= b && b <= 0xAC, 0xAE <= b:
			table[b] = int16(b)
		default:
			table[next] = int16(b)
			next++
		}
	}
	return table
}()

// bytesOfPrintable appends to dst the bytes that s stands for in the form in which
// tokenizer.json and GGUF write a token: one printable character for each byte, as
// GPT-2 chose them. ok is false if a character of s stands for no byte.
func bytesOfPrintable(dst, s []byte) (b []byte, ok bool) {
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		if int(r) >= len(byteOfPrintable) || byteOfPrintable[r] < 0 {
			return dst, false
		}
		dst = append(dst, byte(byteOfPrintable[r]))
		s = s[n:]
	}
	return dst, true
}
