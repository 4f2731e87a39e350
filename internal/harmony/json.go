package harmony

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxJSONDepth limits the nesting of a schema's JSON text.
const maxJSONDepth = 256

type valueKind uint8

const (
	kindNull valueKind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

// A value is JSON that remembers the order of keys and the text of numbers: both
// reach the prompt.
type value struct {
	kind    valueKind
	text    string // of a string, number or bool
	array   []value
	members []member
}

type member struct {
	key   string
	value value
}

// parseValue decodes one JSON text. Of equal keys the last value wins, in the place
// of the first.
func parseValue(data []byte) (value, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := decodeValue(d, 0)
	if err != nil {
		return value{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return value{}, errors.New("invalid JSON: text after the value")
	}
	return v, nil
}

// readToken is d.Token; the end of the data in a value is an error like others.
func readToken(d *json.Decoder) (json.Token, error) {
	t, err := d.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("invalid JSON: %w", err)
	}
	return t, nil
}

func decodeValue(d *json.Decoder, depth int) (value, error) {
	if depth > maxJSONDepth {
		return value{}, fmt.Errorf("nested deeper than %d levels", maxJSONDepth)
	}
	t, err := readToken(d)
	if err != nil {
		return value{}, err
	}
	switch t := t.(type) {
	case bool:
		return value{kind: kindBool, text: strconv.FormatBool(t)}, nil
	case json.Number:
		return value{kind: kindNumber, text: t.String()}, nil
	case string:
		return value{kind: kindString, text: t}, nil
	case json.Delim:
		if t == '[' {
			return decodeArray(d, depth)
		}
		return decodeObject(d, depth)
	}
	return value{}, nil
}

func decodeArray(d *json.Decoder, depth int) (value, error) {
	v := value{kind: kindArray}
	for d.More() {
		e, err := decodeValue(d, depth+1)
		if err != nil {
			return value{}, err
		}
		v.array = append(v.array, e)
	}
	_, err := readToken(d)
	return v, err
}

func decodeObject(d *json.Decoder, depth int) (value, error) {
	v := value{kind: kindObject}
	places := make(map[string]int)
	for d.More() {
		t, err := readToken(d)
		if err != nil {
			return value{}, err
		}
		key, ok := t.(string)
		if !ok {
			return value{}, fmt.Errorf("invalid JSON: the key %v is no string", t)
		}
		e, err := decodeValue(d, depth+1)
		if err != nil {
			return value{}, err
		}
		if at, ok := places[key]; ok {
			v.members[at].value = e
			continue
		}
		places[key] = len(v.members)
		v.members = append(v.members, member{key, e})
	}
	_, err := readToken(d)
	return v, err
}

// get returns the value of a key of an object.
func (v *value) get(key string) (value, bool) {
	for i := range v.members {
		if v.members[i].key == key {
			return v.members[i].value, true
		}
	}
	return value{}, false
}

// str returns the value of a key if it is a string.
func (v *value) str(key string) (string, bool) {
	s, ok := v.get(key)
	return s.text, ok && s.kind == kindString
}

// isTrue reports whether the value of a key is true.
func (v *value) isTrue(key string) bool {
	b, _ := v.get(key)
	return b.kind == kindBool && b.text == "true"
}

// overlay returns v with the members of top put over it, except those with the keys
// in without. v is not changed.
func (v *value) overlay(top *value, without ...string) value {
	out := value{kind: kindObject, members: slices.Clone(v.members)}
	places := make(map[string]int, len(out.members))
	for i := range out.members {
		places[out.members[i].key] = i
	}
	for _, m := range top.members {
		if slices.Contains(without, m.key) {
			continue
		}
		if at, ok := places[m.key]; ok {
			out.members[at].value = m.value
		} else {
			out.members = append(out.members, m)
		}
	}
	return out
}

// add gives v a key that it does not have.
func (v *value) add(key string, e value) { v.members = append(v.members, member{key, e}) }

// remove returns v without a key. v is not changed.
func (v *value) remove(key string) value {
	empty := value{kind: kindObject}
	return empty.overlay(v, key)
}

// appendJSON appends v as compact JSON with keys in order, the way serde_json
// prints: Harmony's prompts come from there.
func (v *value) appendJSON(dst []byte) []byte {
	switch v.kind {
	case kindNull:
		return append(dst, "null"...)
	case kindBool:
		return append(dst, v.text...)
	case kindNumber:
		return appendNumber(dst, v.text)
	case kindString:
		return appendString(dst, v.text)
	case kindArray:
		dst = append(dst, '[')
		for i := range v.array {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = v.array[i].appendJSON(dst)
		}
		return append(dst, ']')
	}
	dst = append(dst, '{')
	for i := range v.members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, v.members[i].key), ':')
		dst = v.members[i].value.appendJSON(dst)
	}
	return append(dst, '}')
}

// appendString appends s in quotes. Only what JSON demands is escaped.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ':
			dst = append(dst, c)
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(dst, '"')
}

// appendNumber appends a JSON number: integers of any size as they are, floats by
// their shortest digits, with an exponent only at 1e16 and above and below 1e-5.
func appendNumber(dst []byte, text string) []byte {
	if !strings.ContainsAny(text, ".eE") {
		return append(dst, text...)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return append(dst, text...) // out of range: nothing better than what was sent
	}
	if a := math.Abs(f); a == 0 || a >= 1e-5 && a < 1e16 {
		at := len(dst)
		dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
		if bytes.IndexByte(dst[at:], '.') < 0 {
			dst = append(dst, '.', '0')
		}
		return dst
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	n, _ := strconv.Atoi(exponent) // drops the plus sign and leading zeros
	return strconv.AppendInt(append(append(dst, mantissa...), 'e'), int64(n), 10)
}
