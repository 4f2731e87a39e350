package testgpu

import (
	"fmt"
	"math"
	"strconv"
)

// A token of PTX. Identifiers keep their dots: an opcode with its modifiers is one token.
type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokName
	tokInt
	tokFloat // bits as float64 of 0d, or of float32 for 0f with single set
	tokPunct
	tokString
)

type token struct {
	kind   tokenKind
	text   string
	bits   uint64
	single bool // a 0f literal: bits holds a float32
	line   int
}

// syntaxError is a complaint about one line of PTX.
type syntaxError struct {
	line int
	msg  string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.msg) }

type scanner struct {
	src  string
	pos  int
	line int
}

func isNameStart(c byte) bool {
	return c == '_' || c == '$' || c == '%' || c == '.' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isNamePart(c byte) bool { return isNameStart(c) && c != '%' || isDigit(c) }

// skip passes blanks and comments.
func (s *scanner) skip() error {
	for s.pos < len(s.src) {
		c := s.src[s.pos]
		switch {
		case c == '\n':
			s.line++
			s.pos++
		case c == ' ' || c == '\t' || c == '\r':
			s.pos++
		case c == '/' && s.pos+1 < len(s.src) && s.src[s.pos+1] == '/':
			for s.pos < len(s.src) && s.src[s.pos] != '\n' {
				s.pos++
			}
		case c == '/' && s.pos+1 < len(s.src) && s.src[s.pos+1] == '*':
			start := s.line
			for s.pos += 2; ; s.pos++ {
				if s.pos+1 >= len(s.src) {
					return &syntaxError{start, "comment does not end"}
				}
				if s.src[s.pos] == '\n' {
					s.line++
				}
				if s.src[s.pos] == '*' && s.src[s.pos+1] == '/' {
					s.pos += 2
					break
				}
			}
		default:
			return nil
		}
	}
	return nil
}

func (s *scanner) next() (token, error) {
	if err := s.skip(); err != nil {
		return token{}, err
	}
	t := token{line: s.line}
	if s.pos >= len(s.src) {
		return t, nil
	}
	start := s.pos
	c := s.src[s.pos]
	switch {
	case isDigit(c):
		for s.pos < len(s.src) && (isNamePart(s.src[s.pos])) {
			s.pos++
		}
		return s.number(t, s.src[start:s.pos])
	case isNameStart(c):
		for s.pos++; s.pos < len(s.src); s.pos++ {
			if !isNamePart(s.src[s.pos]) {
				if s.src[s.pos] != ':' || s.pos+1 >= len(s.src) || s.src[s.pos+1] != ':' {
					break
				}
				s.pos++ // "::", as in L1::no_allocate
			}
		}
		t.kind, t.text = tokName, s.src[start:s.pos]
	case c == '"':
		for s.pos++; s.pos < len(s.src) && s.src[s.pos] != '"' && s.src[s.pos] != '\n'; s.pos++ {
		}
		if s.pos >= len(s.src) || s.src[s.pos] != '"' {
			return t, &syntaxError{s.line, "string does not end"}
		}
		s.pos++
		t.kind, t.text = tokString, s.src[start+1:s.pos-1]
	default:
		s.pos++
		t.kind, t.text = tokPunct, s.src[start:s.pos]
	}
	return t, nil
}

// number reads 0fXXXXXXXX, 0dXXXXXXXXXXXXXXXX, 0x, 0b, octal and decimal integers with an optional U, and decimal floats.
func (s *scanner) number(t token, text string) (token, error) {
	t.text = text
	if len(text) > 2 && text[0] == '0' {
		switch text[1] {
		case 'f', 'F', 'd', 'D':
			digits := 8
			t.single = true
			if text[1] == 'd' || text[1] == 'D' {
				digits, t.single = 16, false
			}
			v, err := strconv.ParseUint(text[2:], 16, 64)
			if err != nil || len(text) != 2+digits {
				return t, &syntaxError{t.line, "bad float literal " + text}
			}
			t.kind, t.bits = tokFloat, v
			return t, nil
		}
	}
	digits := text
	if n := len(digits); n > 1 && digits[n-1] == 'U' {
		digits = digits[:n-1]
	}
	if v, err := strconv.ParseUint(digits, 0, 64); err == nil {
		t.kind, t.bits = tokInt, v
		return t, nil
	}
	if v, err := strconv.ParseFloat(digits, 64); err == nil {
		t.kind, t.bits = tokFloat, math.Float64bits(v)
		return t, nil
	}
	return t, &syntaxError{t.line, "bad number " + text}
}
