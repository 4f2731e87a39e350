package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// object is a JSON object that is being read field by field. Each method takes one field, checks its type and range,
// and reports whether the field is there; null counts as absent. The first thing wrong is kept in err, and everything
// after it reads as absent, so a caller reads all its fields and looks at err once. Fields that nobody asks for are
// ignored: clients send many that mean nothing here.
type object struct {
	path   string // of the object itself, "" for the body
	body   []byte // its text; only of a request's body
	fields map[string]json.RawMessage
	err    *apiError
}

// parseBody reads a request's body as one JSON object.
func parseBody(body []byte) (*object, *apiError) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, invalid("", "invalid_json", "the request body is empty, it must be a JSON object")
	}
	o := &object{body: body}
	err := json.Unmarshal(body, &o.fields)
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return nil, invalid("", "invalid_json", "the request body is not JSON: %v at byte %d", err, syntax.Offset)
	case errors.As(err, &wrong):
		return nil, invalid("", "invalid_type", "the request body must be a JSON object, got %s", article(wrong.Value))
	case err != nil:
		return nil, invalid("", "invalid_json", "the request body is not JSON: %v", err)
	case o.fields == nil:
		return nil, invalid("", "invalid_type", "the request body must be a JSON object, got null")
	}
	return o, nil
}

// at is the path of a field of o.
func (o *object) at(name string) string {
	if o.path == "" {
		return name
	}
	return o.path + "." + name
}

// fail keeps the first error.
func (o *object) fail(err *apiError) {
	if o.err == nil {
		o.err = err
	}
}

// raw is the text of a field.
func (o *object) raw(name string) (json.RawMessage, bool) {
	v, ok := o.fields[name]
	if o.err != nil || !ok || string(v) == "null" {
		return nil, false
	}
	return v, true
}

// wrongType keeps the error for a field that is not what it must be.
func (o *object) wrongType(path, want string, got json.RawMessage) {
	o.fail(invalid(path, "invalid_type", "%s must be %s, got %s", path, want, kindOf(got)))
}

func (o *object) boolean(name string) (v, ok bool) {
	raw, ok := o.raw(name)
	if !ok {
		return false, false
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		o.wrongType(o.at(name), "a boolean", raw)
		return false, false
	}
	return v, true
}

func (o *object) text(name string) (string, bool) {
	raw, ok := o.raw(name)
	if !ok {
		return "", false
	}
	var v string
	if err := json.Unmarshal(raw, &v); err != nil {
		o.wrongType(o.at(name), "a string", raw)
		return "", false
	}
	return v, true
}

// number takes a number from lo to hi.
func (o *object) number(name string, lo, hi float64) (float64, bool) {
	raw, ok := o.raw(name)
	if !ok {
		return 0, false
	}
	return o.asNumber(o.at(name), raw, lo, hi)
}

func (o *object) asNumber(path string, raw json.RawMessage, lo, hi float64) (float64, bool) {
	if !isNumber(raw) {
		o.wrongType(path, "a number", raw)
		return 0, false
	}
	v, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || v < lo || v > hi {
		o.fail(invalid(path, "invalid_value", "%s must be a number from %v to %v, got %s", path, lo, hi, brief(raw)))
		return 0, false
	}
	return v, true
}

// integer takes an integer from lo to hi. Some clients write 16 as 16.0.
func (o *object) integer(name string, lo, hi int64) (int64, bool) {
	raw, ok := o.raw(name)
	if !ok {
		return 0, false
	}
	return o.asInteger(o.at(name), raw, lo, hi)
}

func (o *object) asInteger(path string, raw json.RawMessage, lo, hi int64) (int64, bool) {
	if !isNumber(raw) {
		o.wrongType(path, "an integer", raw)
		return 0, false
	}
	v, err := strconv.ParseInt(string(raw), 10, 64)
	if errors.Is(err, strconv.ErrSyntax) {
		var f float64
		f, err = strconv.ParseFloat(string(raw), 64)
		if err == nil && f != math.Trunc(f) {
			o.fail(invalid(path, "invalid_type", "%s must be an integer, got %s", path, brief(raw)))
			return 0, false
		}
		if math.Abs(f) >= 1<<53 {
			err = strconv.ErrRange
		}
		v = int64(f)
	}
	switch {
	case err == nil && v >= lo && v <= hi:
		return v, true
	case hi == math.MaxInt64 && err == nil:
		o.fail(invalid(path, "invalid_value", "%s must be an integer of at least %d, got %s", path, lo, brief(raw)))
	default:
		o.fail(invalid(path, "invalid_value", "%s must be an integer from %d to %d, got %s", path, lo, hi, brief(raw)))
	}
	return 0, false
}

// array takes the elements of an array.
func (o *object) array(name string) ([]json.RawMessage, bool) {
	raw, ok := o.raw(name)
	if !ok {
		return nil, false
	}
	return o.asArray(o.at(name), raw)
}

func (o *object) asArray(path string, raw json.RawMessage) ([]json.RawMessage, bool) {
	var v []json.RawMessage
	if err := json.Unmarshal(raw, &v); err != nil {
		o.wrongType(path, "an array", raw)
		return nil, false
	}
	return v, true
}

// object takes a field that is an object. Errors found in the result must be handed back with o.fail.
func (o *object) object(name string) (*object, bool) {
	raw, ok := o.raw(name)
	if !ok {
		return nil, false
	}
	sub := &object{path: o.at(name)}
	if err := json.Unmarshal(raw, &sub.fields); err != nil {
		o.wrongType(sub.path, "an object", raw)
		return nil, false
	}
	return sub, true
}

// isNumber tells a number from the other JSON values. raw is valid JSON.
func isNumber(raw json.RawMessage) bool {
	return len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9')
}

// kindOf names the type of a JSON value for an error message.
func kindOf(raw json.RawMessage) string {
	switch {
	case len(raw) == 0, raw[0] == 'n':
		return "null"
	case raw[0] == '"':
		return "a string"
	case raw[0] == '{':
		return "an object"
	case raw[0] == '[':
		return "an array"
	case raw[0] == 't', raw[0] == 'f':
		return "a boolean"
	}
	return "a number"
}

// article puts encoding/json's name of a value into a sentence.
func article(value string) string {
	kind, _, _ := strings.Cut(value, " ")
	switch kind {
	case "bool":
		return "a boolean"
	case "array", "object":
		return "an " + kind
	}
	return "a " + kind
}

// brief is a value short enough for a message.
func brief(raw []byte) string {
	const most = 40
	if len(raw) <= most {
		return string(raw)
	}
	return strings.ToValidUTF8(string(raw[:most]), "") + "..."
}

// element is the path of an element of an array.
func element(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// writeJSON writes v in one line, with < and > as they are.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
