package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
)

// A scanner reads JSON from front to back without building a tree: tokenizer.json
// has more than a million strings, of which we keep a fifth. Its errors end in the
// offset.
type scanner struct {
	data []byte
	pos  int
	text []byte // the last string with escapes
}

func (s *scanner) errorf(format string, args ...any) error {
	return fmt.Errorf(format+" at offset %d", append(args, s.pos)...)
}

// peek returns the first byte of the next value or mark, 0 at the end.
func (s *scanner) peek() byte {
	for i, c := range s.data[s.pos:] {
		if c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			s.pos += i
			return c
		}
	}
	s.pos = len(s.data)
	return 0
}

// mark reads one of the characters {}[]:, and reports whether it was there.
func (s *scanner) mark(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

func (s *scanner) expect(c byte) error {
	if !s.mark(c) {
		return s.errorf("want %q", c)
	}
	return nil
}

// object calls member after each key, which must read the value. key is valid until
// the next string is read.
func (s *scanner) object(member func(key []byte) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	for first := true; !s.mark('}'); first = false {
		if !first {
			if err := s.expect(','); err != nil {
				return err
			}
		}
		key, err := s.str()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := member(key); err != nil {
			return err
		}
	}
	return nil
}

// array calls element before each element, which it must read.
func (s *scanner) array(element func(i int) error) error {
	if err := s.expect('['); err != nil {
		return err
	}
	for i := 0; !s.mark(']'); i++ {
		if i > 0 {
			if err := s.expect(','); err != nil {
				return err
			}
		}
		if err := element(i); err != nil {
			return err
		}
	}
	return nil
}

// str reads a string. The result is valid until the next one is read.
func (s *scanner) str() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.errorf("want a string")
	}
	begin := s.pos
	escaped, err := s.skipString()
	if err != nil {
		return nil, err
	}
	quoted := s.data[begin:s.pos]
	if !escaped {
		return quoted[1 : len(quoted)-1], nil
	}
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return nil, fmt.Errorf("string at offset %d: %w", begin, err)
	}
	s.text = append(s.text[:0], text...)
	return s.text, nil
}

// skipString passes the string that begins at pos.
func (s *scanner) skipString() (escaped bool, err error) {
	for i := s.pos + 1; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			s.pos = i + 1
			return escaped, nil
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			return false, s.errorf("control character in the string")
		}
	}
	return false, s.errorf("unterminated string")
}

// id reads a whole number that may be an id.
func (s *scanner) id() (int64, error) {
	s.peek()
	begin := s.pos
	for s.pos < len(s.data) && isNumberByte(s.data[s.pos]) {
		s.pos++
	}
	id, err := parseID(s.data[begin:s.pos])
	if err != nil {
		return 0, fmt.Errorf("%w at offset %d", err, begin)
	}
	return id, nil
}

func isNumberByte(c byte) bool {
	return '0' <= c && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// skip passes a value of any kind. Of an object or array it only sees that the
// brackets balance: raw is valid JSON only if it was decoded too.
func (s *scanner) skip() (raw []byte, err error) {
	c := s.peek()
	begin := s.pos
	if c != '{' && c != '[' && c != '"' {
		for s.pos < len(s.data) && !isDelimiter(s.data[s.pos]) {
			s.pos++
		}
		if s.pos == begin {
			return nil, s.errorf("want a value")
		}
		return s.data[begin:s.pos], nil
	}
	depth := 0
	for i := begin; i < len(s.data); i++ {
		switch s.data[i] {
		case '"':
			s.pos = i
			if _, err := s.skipString(); err != nil {
				return nil, err
			}
			i = s.pos - 1
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		default:
			continue
		}
		if depth == 0 {
			s.pos = i + 1
			return s.data[begin:s.pos], nil
		}
	}
	return nil, errors.New("unexpected end: the file is cut off")
}

func isDelimiter(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', ',', ':', '{', '}', '[', ']', '"':
		return true
	}
	return false
}

// decode reads a value of any kind into v.
func (s *scanner) decode(v any) error {
	raw, err := s.skip()
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}
