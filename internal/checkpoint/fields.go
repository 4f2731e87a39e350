package checkpoint

import (
	"encoding/json"
	"fmt"
	"strings"
)

// fields reads the members of a JSON object. The first failure is kept in err and names the field; later calls return
// zero values.
type fields struct {
	m     map[string]json.RawMessage
	under string   // name of the enclosing field and a dot, for messages
	took  []string // defaults that were taken, as "name value"
	past  []string // token ids past the vocabulary, as "name id"
	err   error
}

func parseFields(b []byte) (*fields, error) {
	f := &fields{}
	if err := json.Unmarshal(b, &f.m); err != nil {
		return nil, err
	}
	return f, nil
}

// has says whether a field is there and not null.
func (f *fields) has(name string) bool {
	raw, ok := f.m[name]
	return ok && string(raw) != "null"
}

// first returns the first of several names that is there, or the first of all.
func (f *fields) first(names ...string) string {
	for _, n := range names {
		if f.has(n) {
			return n
		}
	}
	return names[0]
}

func (f *fields) fail(name, format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf("%s%s: %s", f.under, name, fmt.Sprintf(format, args...))
	}
}

func (f *fields) decode(name string, v any) bool {
	if f.err != nil {
		return false
	}
	if err := json.Unmarshal(f.m[name], v); err != nil {
		f.fail(name, "%v", err)
		return false
	}
	return true
}

// size reads an integer that must be there.
func (f *fields) size(names ...string) int {
	name := f.first(names...)
	if f.err == nil && !f.has(name) {
		f.fail(name, "missing")
	}
	var v int
	f.decode(name, &v)
	return v
}

// sizeOr reads an integer, or takes the default and remembers that it did.
func (f *fields) sizeOr(def int, names ...string) int {
	if name := f.first(names...); !f.has(name) {
		f.took = append(f.took, fmt.Sprintf("%s%s %d", f.under, name, def))
		return def
	}
	return f.size(names...)
}

// realOr reads a number, or takes the default and remembers that it did.
func (f *fields) realOr(def float64, names ...string) float64 {
	name := f.first(names...)
	if !f.has(name) {
		f.took = append(f.took, fmt.Sprintf("%s%s %v", f.under, name, def))
		return def
	}
	var v float64
	f.decode(name, &v)
	return v
}

// text reads a string; "" if it is not there.
func (f *fields) text(name string) string {
	var v string
	if f.has(name) {
		f.decode(name, &v)
	}
	return v
}

// boolOr reads a boolean, or takes the default and remembers that it did.
func (f *fields) boolOr(def bool, name string) bool {
	if !f.has(name) {
		f.took = append(f.took, fmt.Sprintf("%s%s %v", f.under, name, def))
		return def
	}
	var v bool
	f.decode(name, &v)
	return v
}

// object reads a nested object; nil if it is not there.
func (f *fields) object(name string) *fields {
	if f.err != nil || !f.has(name) {
		return nil
	}
	sub := &fields{under: f.under + name + "."}
	if !f.decode(name, &sub.m) {
		return nil
	}
	return sub
}

// join takes over what a nested object met.
func (f *fields) join(sub *fields) {
	f.took = append(f.took, sub.took...)
	if f.err == nil {
		f.err = sub.err
	}
}

// ids reads token ids: one number, a list, or nothing. Those past the vocabulary, which no model can write, are left out
// and remembered: a model that was cut down often keeps the configuration of the whole.
func (f *fields) ids(name string, limit int) []int32 {
	if f.err != nil || !f.has(name) {
		return nil
	}
	var list []int32
	if raw := f.m[name]; raw[0] == '[' {
		f.decode(name, &list)
	} else {
		list = make([]int32, 1)
		f.decode(name, &list[0])
	}
	var known []int32
	for _, id := range list {
		switch {
		case id < 0:
			f.fail(name, "token %d is negative", id)
		case int(id) >= limit:
			f.past = append(f.past, fmt.Sprintf("%s%s %d", f.under, name, id))
		default:
			known = append(known, id)
		}
	}
	return known
}

// pastNote tells of ids past the vocabulary, "" if there were none.
func (f *fields) pastNote(file string, vocab int) string {
	if len(f.past) == 0 {
		return ""
	}
	return fmt.Sprintf("%s names tokens past the vocabulary of %d, which are ignored: %s", file, vocab, strings.Join(f.past, ", "))
}

// id reads one token id; -1 if it is not there, negative or past the vocabulary.
func (f *fields) id(name string, limit int) int32 {
	if f.err != nil || !f.has(name) {
		return -1
	}
	var id int32
	if f.decode(name, &id) && int(id) >= limit {
		f.past = append(f.past, fmt.Sprintf("%s%s %d", f.under, name, id))
		return -1
	}
	return max(id, -1)
}
