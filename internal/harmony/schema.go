package harmony

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Limits of a tool's schema. References make a small text grow, so what they
// expand to is limited too.
const (
	maxSchemaDepth = 64
	maxSchemaNodes = 20_000
)

// A schema is what Harmony shows of a JSON Schema, after normalisation.
type schema struct {
	title, description *string
	examples           []value
	fallback           *value // the default
	nullable           bool

	null     bool // prints "null"; only a variant can
	variants []*schema
	oneOf    bool // variants count, even if there are none

	types      []string // of a list of types
	kind       string   // the one type, "" if absent
	enum       []value
	properties []property
	required   map[string]bool
	items      *schema // nil: absent
}

// A property is a named part of an object.
type property struct {
	key string
	*schema
}

// parseSchema reads and normalises a JSON Schema: references are replaced by their
// targets, anyOf becomes oneOf, a string const becomes an enum, and a choice
// between one schema and null becomes a nullable schema.
func parseSchema(data []byte) (*schema, error) {
	root, err := parseValue(data)
	if err != nil {
		return nil, err
	}
	n := normalizer{root: root}
	s := n.build(n.resolve(root, nil, 0), 0)
	if n.err != nil {
		return nil, n.err
	}
	return s, nil
}

// A normalizer resolves the schemas of one root. The first limit that is passed is
// kept in err, and everything after it is empty.
type normalizer struct {
	root  value
	nodes int
	err   error
}

// A node is one schema after resolve.
type node struct {
	value    value
	variants []node
	oneOf    bool
	open     *reference // what is being expanded around it
}

// A reference is a $ref that is being expanded, in a list of all of them.
type reference struct {
	pointer string
	outer   *reference
}

func (r *reference) contains(pointer string) bool {
	for ; r != nil; r = r.outer {
		if r.pointer == pointer {
			return true
		}
	}
	return false
}

// enter counts v, also each time it is reached through a reference, and reports
// whether it may be looked at.
func (n *normalizer) enter(v *value, depth int) bool {
	n.nodes += 1 + len(v.members)/8
	switch {
	case n.err != nil:
	case depth > maxSchemaDepth:
		n.err = fmt.Errorf("the schema is nested deeper than %d levels", maxSchemaDepth)
	case n.nodes > maxSchemaNodes:
		n.err = fmt.Errorf("the schema has more than %d parts after its references are expanded", maxSchemaNodes)
	}
	return n.err == nil
}

// resolve normalises v itself and its variants, from the outside in.
func (n *normalizer) resolve(v value, open *reference, depth int) node {
	v, open = n.expand(v, open, depth)
	if n.err != nil || v.kind != kindObject {
		return node{}
	}
	if s, ok := v.str("const"); ok {
		if _, has := v.get("enum"); !has {
			v = v.remove("const")
			v.add("enum", value{kind: kindArray, array: []value{{kind: kindString, text: s}}})
			if _, has := v.get("type"); !has {
				v.add("type", value{kind: kindString, text: "string"})
			}
		}
	}
	choice, ok := v.get("oneOf")
	if !ok {
		choice, _ = v.get("anyOf")
	}
	if choice.kind != kindArray {
		return node{value: v, open: open}
	}
	out := node{value: v, open: open, oneOf: true}
	var only *node
	nulls := 0
	for _, e := range choice.array {
		e := n.resolve(e, open, depth+1)
		out.variants = append(out.variants, e)
		if e.null() {
			nulls++
		}
	}
	for i := range out.variants {
		if !out.variants[i].null() {
			only = &out.variants[i]
		}
	}
	if nulls == 0 || len(out.variants)-nulls != 1 {
		return out
	}
	merged := *only
	merged.value = only.value.remove("nullable")
	merged.value = merged.value.overlay(&v, "oneOf", "anyOf", "nullable")
	merged.value.add("nullable", value{kind: kindBool, text: "true"})
	return merged
}

// null reports whether e is {"type": "null"}.
func (e *node) null() bool {
	kind, ok := e.value.str("type")
	return ok && kind == "null" && !e.oneOf
}

// expand replaces $ref by its target, with the keys beside it put over the target's.
// A reference that cannot be resolved, or that is being expanded, is removed.
func (n *normalizer) expand(v value, open *reference, depth int) (value, *reference) {
	for n.enter(&v, depth) {
		ref, ok := v.get("$ref")
		if !ok {
			return v, open
		}
		beside := v.remove("$ref")
		target, ok := n.find(ref)
		if !ok || target.kind != kindObject || open.contains(ref.text) {
			return beside, open
		}
		open = &reference{ref.text, open}
		v = target.overlay(&beside)
	}
	return value{}, open
}

// find follows a JSON pointer from the root.
func (n *normalizer) find(ref value) (value, bool) {
	path, ok := strings.CutPrefix(ref.text, "#/")
	if !ok || ref.kind != kindString {
		return value{}, false
	}
	at := n.root
	for part := range strings.SplitSeq(path, "/") {
		key := strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		next, ok := at.get(key)
		if !ok {
			if plain, err := url.PathUnescape(key); err == nil {
				next, ok = at.get(plain)
			}
		}
		if i, err := strconv.Atoi(key); !ok && err == nil && i >= 0 && i < len(at.array) {
			next, ok = at.array[i], true
		}
		if !ok {
			return value{}, false
		}
		at = next
	}
	return at, true
}

// build turns a resolved node and everything in it into a schema.
func (n *normalizer) build(e node, depth int) *schema {
	v := &e.value
	s := &schema{nullable: v.isTrue("nullable"), oneOf: e.oneOf}
	if title, ok := v.str("title"); ok {
		s.title = &title
	}
	if d, ok := v.str("description"); ok {
		s.description = &d
	}
	if d, ok := v.get("default"); ok {
		s.fallback = &d
	}
	examples, _ := v.get("examples")
	s.examples = examples.array
	enum, _ := v.get("enum")
	s.enum = enum.array
	for i := range e.variants {
		variant := n.build(e.variants[i], depth+1)
		variant.null = e.variants[i].null()
		s.variants = append(s.variants, variant)
	}
	n.buildType(s, &e, depth)
	return s
}

// buildType reads the type of a schema and what belongs to the type.
func (n *normalizer) buildType(s *schema, e *node, depth int) {
	kind, _ := e.value.get("type")
	for _, t := range kind.array {
		if t.kind == kindString {
			s.types = append(s.types, t.text)
		}
	}
	if kind.kind == kindString {
		s.kind = kind.text
	}
	if items, ok := e.value.get("items"); ok && s.kind == "array" {
		s.items = n.build(n.resolve(items, e.open, depth+1), depth+1)
	}
	if s.kind != "object" {
		return
	}
	properties, _ := e.value.get("properties")
	for _, m := range properties.members {
		s.properties = append(s.properties, property{m.key, n.build(n.resolve(m.value, e.open, depth+1), depth+1)})
	}
	required, _ := e.value.get("required")
	s.required = make(map[string]bool, len(required.array))
	for _, r := range required.array {
		if r.kind == kindString {
			s.required[r.text] = true
		}
	}
}

// empty reports whether s is an object that has no properties to show.
func (s *schema) empty() bool {
	return s.kind == "object" && !s.oneOf && len(s.properties) == 0
}

var errSchemaText = errors.New("the schema renders to more than 1 MiB of text")
