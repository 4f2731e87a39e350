package harmony

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// An object is a JSON object that is read field by field. A method takes one field
// and checks its type; null counts as absent. The first error is kept for failure,
// in a place that the objects of one request share.
type object struct {
	path   string // "" for the body
	fields map[string]json.RawMessage
	err    **RequestError
}

// openObject reads the body of a request.
func openObject(path string, data []byte) *object {
	o := &object{path: path, err: new(*RequestError)}
	o.open(data)
	return o
}

// child is the object at name, which raw holds.
func (o *object) child(name string, raw json.RawMessage) *object {
	c := &object{path: o.at(name), err: o.err}
	if *o.err == nil {
		c.open(raw)
	}
	return c
}

func (o *object) open(data []byte) {
	if err := json.Unmarshal(data, &o.fields); err != nil || o.fields == nil {
		o.fail("", "want an object, not "+kindOf(data))
	}
}

func (o *object) at(name string) string {
	switch {
	case o.path == "":
		return name
	case name == "":
		return o.path
	}
	return o.path + "." + name
}

func (o *object) fail(name, reason string) {
	if *o.err == nil {
		path := o.at(name)
		if path == "" {
			path = "body"
		}
		*o.err = &RequestError{path, reason}
	}
}

// failure is the first error of the request.
func (o *object) failure() error {
	if *o.err == nil {
		return nil
	}
	return *o.err
}

// raw is the JSON text of a field, nil if it is absent.
func (o *object) raw(name string) json.RawMessage {
	if raw := o.fields[name]; string(raw) != "null" {
		return raw
	}
	return nil
}

// need is raw for a field that must be there.
func (o *object) need(name string) json.RawMessage {
	raw := o.raw(name)
	if raw == nil {
		o.fail(name, "missing")
	}
	return raw
}

func (o *object) str(name string) string { return o.text(name, "a string") }

// text is str with other words for what the field may be.
func (o *object) text(name, want string) string {
	raw := o.raw(name)
	if raw == nil {
		return ""
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		o.fail(name, "want "+want+", not "+kindOf(raw))
	}
	return s
}

func (o *object) boolean(name string) (v, ok bool) {
	raw := o.raw(name)
	if raw == nil {
		return false, false
	}
	if json.Unmarshal(raw, &v) != nil {
		o.fail(name, "want true or false, not "+kindOf(raw))
	}
	return v, true
}

func (o *object) list(name string) []json.RawMessage {
	raw := o.raw(name)
	if raw == nil {
		return nil
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		o.fail(name, "want a list, not "+kindOf(raw))
	}
	return list
}

// kindOf names the type of a JSON text.
func kindOf(raw []byte) string {
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

// at is the path of an element of a list.
func at(name string, i int) string { return fmt.Sprintf("%s[%d]", name, i) }

// quote is s in quotes, for an error, cut if it is long.
func quote(s string) string {
	if len(s) > 64 {
		s = s[:64] + "..."
	}
	return strconv.Quote(s)
}
