package tokenizer

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// splitPattern is the regular expression that next matches by hand, as it stands in
// tokenizer.json. Go's regexp cannot run it: it lacks the look-ahead, and its \s is
// ASCII only. The tests compare next with an engine that can.
const splitPattern = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?` +
	`|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?` +
	`|\p{N}{1,3}` +
	`| ?[^\s\p{L}\p{N}]+[\r\n/]*` +
	`|\s*[\r\n]+` +
	`|\s+(?!\S)` +
	`|\s+`

// A class is the set of character classes of the pattern that a rune is in.
type class uint8

const (
	upper   class = 1 << iota // Lu Lt Lm Lo M
	lower                     // Ll Lm Lo M
	letter                    // L
	number                    // N
	space                     // White_Space
	newline                   // CR LF
)

// classTable holds the classes of the basic multilingual plane.
type classTable [1 << 16]class

// classRanges lists the Unicode tables behind each class.
var classRanges = []struct {
	table *unicode.RangeTable
	class class
}{
	{unicode.Lu, upper | letter},
	{unicode.Lt, upper | letter},
	{unicode.Ll, lower | letter},
	{unicode.Lm, upper | lower | letter},
	{unicode.Lo, upper | lower | letter},
	{unicode.M, upper | lower},
	{unicode.N, number},
	{unicode.White_Space, space},
}

// classes returns the table, which is made once, in well under a millisecond.
var classes = sync.OnceValue(func() *classTable {
	t := new(classTable)
	for _, c := range classRanges {
		for _, r := range c.table.R16 {
			for i := int(r.Lo); i <= int(r.Hi); i += int(r.Stride) {
				t[i] |= c.class
			}
		}
	}
	t['\r'] |= newline
	t['\n'] |= newline
	return t
})

// at returns the classes and the length in bytes of the character at s[i].
func (t *classTable) at(s string, i int) (class, int) {
	if s[i] < utf8.RuneSelf {
		return t[s[i]], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	if int(r) < len(t) {
		return t[r], n
	}
	var c class
	for _, table := range classRanges {
		if unicode.Is(table.table, r) {
			c |= table.class
		}
	}
	return c, n
}

// next returns the length of the first piece of s, which is valid UTF-8 and not
// empty. The attempts are in the order of the pattern's alternatives; the first two,
// words, are each tried with their optional first character, then without.
func (t *classTable) next(s string) int {
	first, n := t.at(s, 0)
	prefixed, plain := 0, 0
	var ok bool
	if first&(letter|number|newline) == 0 {
		if prefixed, ok = t.word(s, n); ok {
			return prefixed
		}
	}
	if first&(upper|lower) != 0 {
		if plain, ok = t.word(s, 0); ok {
			return plain
		}
	}
	switch {
	case prefixed > n:
		return prefixed
	case plain > 0:
		return plain
	case first&number != 0:
		return t.digits(s)
	}
	if end := t.symbols(s); end > 0 {
		return end
	}
	return t.spaces(s)
}

// word matches the words of the first two alternatives at s[p]: upper*lower+ if ok,
// upper+ otherwise; end is p if there is neither.
func (t *classTable) word(s string, p int) (end int, ok bool) {
	end = p
	lowerEnd := 0 // end of the last character that is both upper and lower
	for end < len(s) {
		c, n := t.at(s, end)
		if c&upper == 0 {
			break
		}
		end += n
		if c&lower != 0 {
			lowerEnd = end
		}
	}
	upperEnd := end
	for end < len(s) {
		c, n := t.at(s, end)
		if c&lower == 0 {
			break
		}
		end += n
	}
	switch {
	case end > upperEnd:
		return contraction(s, end), true
	case lowerEnd > 0: // upper* gives back what lower+ needs
		return contraction(s, lowerEnd), true
	case end > p:
		return contraction(s, end), false
	}
	return p, false
}

// contraction returns the end of an English contraction ('s 't 're 've 'm 'll 'd,
// in any case) at s[p], or p. U+017F folds to s.
func contraction(s string, p int) int {
	if p+1 >= len(s) || s[p] != '\'' {
		return p
	}
	rest := s[p+1:]
	switch rest[0] | 0x20 {
	case 's', 't', 'm', 'd':
		return p + 2
	case 'r', 'v':
		if len(rest) > 1 && rest[1]|0x20 == 'e' {
			return p + 3
		}
	case 'l':
		if len(rest) > 1 && rest[1]|0x20 == 'l' {
			return p + 3
		}
	}
	if strings.HasPrefix(rest, "\u017f") {
		return p + 1 + len("\u017f")
	}
	return p
}

// digits matches one to three numbers.
func (t *classTable) digits(s string) int {
	end := 0
	for count := 0; count < 3 && end < len(s); count++ {
		c, n := t.at(s, end)
		if c&number == 0 {
			break
		}
		end += n
	}
	return end
}

// symbols matches an optional space, symbols, and any CR, LF and slashes after them.
// It returns 0 if there is no symbol.
func (t *classTable) symbols(s string) int {
	begin := 0
	if s[0] == ' ' {
		begin = 1
	}
	end := begin
	for end < len(s) {
		c, n := t.at(s, end)
		if c&(space|letter|number) != 0 {
			break
		}
		end += n
	}
	if end == begin {
		return 0
	}
	for end < len(s) && (s[end] == '\r' || s[end] == '\n' || s[end] == '/') {
		end++
	}
	return end
}

// spaces matches white space: up to the last CR or LF of the run if it has one; all
// of it at the end of the text; otherwise all but the last character, which may
// begin the next piece, unless there is only one.
func (t *classTable) spaces(s string) int {
	end, last, afterNewline := 0, 0, 0
	for end < len(s) {
		c, n := t.at(s, end)
		if c&space == 0 {
			break
		}
		last = end
		end += n
		if c&newline != 0 {
			afterNewline = end
		}
	}
	switch {
	case afterNewline > 0:
		return afterNewline
	case end == len(s) || last == 0:
		return end
	}
	return last
}
