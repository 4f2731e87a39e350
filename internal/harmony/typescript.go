package harmony

import "strings"

// maxSchemaText limits what one schema renders to: more than the model's context.
const maxSchemaText = 1 << 20

// A typeWriter prints schemas as the TypeScript-like notation of Harmony. Comments
// and the ends of nested types are indented, keys that open a type are not: odd, and
// exactly what the model was trained on.
type typeWriter struct {
	strings.Builder
	full bool // the limit was passed; writes are dropped
}

func (w *typeWriter) put(parts ...string) {
	for _, p := range parts {
		if w.full = w.full || w.Len()+len(p) > maxSchemaText; !w.full {
			w.WriteString(p)
		}
	}
}

// typeOf prints the schema of a function's parameters.
func typeOf(s *schema) (string, error) {
	var w typeWriter
	w.typ(s, "")
	if w.full {
		return "", errSchemaText
	}
	return w.String(), nil
}

// typ prints s as a type.
func (w *typeWriter) typ(s *schema, indent string) {
	switch {
	case w.full:
	case s.null:
		w.put("null")
	case s.oneOf:
		for _, v := range s.variants {
			w.put("\n", indent, " | ")
			w.nullableType(v, indent+"   ")
			w.trailing(v, v.description, true)
		}
	case len(s.types) > 0:
		for i, t := range s.types {
			if i > 0 {
				w.put(" | ")
			}
			if t == "integer" {
				t = "number"
			}
			w.put(t)
		}
	case s.kind == "object":
		w.object(s, indent)
	case s.kind == "array" && s.items == nil:
		w.put("Array<any>")
	case s.kind == "array":
		w.typ(s.items, indent)
		w.put("[]")
	case s.kind == "string":
		w.stringType(s)
	case s.kind == "number" || s.kind == "integer":
		w.put("number")
	case s.kind == "boolean":
		w.put("boolean")
	default:
		w.put("any")
	}
}

// stringType prints the strings of an enum, else "string".
func (w *typeWriter) stringType(s *schema) {
	n := 0
	for _, e := range s.enum {
		if e.kind != kindString {
			continue
		}
		if n++; n > 1 {
			w.put(" | ")
		}
		w.put(`"`, e.text, `"`)
	}
	if n == 0 {
		w.put("string")
	}
}

// nullableType is typ, and " | null" if s is nullable and its text does not hold
// the word yet.
func (w *typeWriter) nullableType(s *schema, indent string) {
	from := w.Len()
	w.typ(s, indent)
	if s.nullable && !strings.Contains(w.String()[from:], "null") {
		w.put(" | null")
	}
}

func (w *typeWriter) object(s *schema, indent string) {
	w.description(s.description, indent)
	w.put("{\n")
	for _, p := range s.properties {
		w.property(p, s.required[p.key], indent)
	}
	w.put(indent, "}")
}

// property prints a property: comments above, then key and type.
func (w *typeWriter) property(p property, required bool, indent string) {
	if p.title != nil {
		w.put(indent, "// ", *p.title, "\n", indent, "//\n")
	}
	if !p.oneOf {
		w.description(p.description, indent)
	}
	if len(p.examples) > 0 {
		w.put(indent, "// Examples:\n")
		for _, e := range p.examples {
			if e.kind == kindString {
				w.put(indent, `// - "`, e.text, "\"\n")
			}
		}
	}
	mark := "?"
	if required {
		mark = ""
	}
	if p.oneOf {
		w.choice(p, mark, indent)
		return
	}
	w.put(indent, p.key, mark, ": ")
	w.nullableType(p.schema, indent+"    ")
	w.put(",")
	if p.fallback != nil {
		w.put(" // default: ", defaultText(p.schema, false))
	}
	w.put("\n")
}

// choice prints a property that is a oneOf: one line for each variant. A
// description that the property and its first variant share is printed nowhere.
func (w *typeWriter) choice(p property, mark, indent string) {
	above := p.description != nil &&
		(len(p.variants) == 0 || !equalText(p.description, p.variants[0].description))
	if above {
		w.description(p.description, indent)
	}
	if p.fallback != nil {
		w.put(indent, "// default: ", defaultText(p.schema, false), "\n")
	}
	w.put(indent, p.key, mark, ":\n")
	for i, v := range p.variants {
		w.put(indent, " | ")
		w.nullableType(v, indent+"   ")
		d := v.description
		if i == 0 && above || equalText(d, p.description) {
			d = nil
		}
		w.trailing(v, d, false)
		w.put("\n")
	}
	w.put(indent, ",\n")
}

// trailing prints the comment behind a variant: its description and default.
func (w *typeWriter) trailing(v *schema, description *string, quoted bool) {
	if description == nil && v.fallback == nil {
		return
	}
	w.put(" //")
	if description != nil {
		w.put(" ", *description)
	}
	if v.fallback != nil {
		w.put(" default: ", defaultText(v, quoted))
	}
}

// description prints a description as comment lines.
func (w *typeWriter) description(d *string, indent string) {
	if d == nil {
		return
	}
	if !strings.Contains(*d, "\n") {
		w.put(indent, "// ", *d, "\n")
		return
	}
	for _, line := range textLines(*d) {
		w.put(indent, "// ", line, "\n")
	}
}

// defaultText prints the default of s. A string stands in quotes, without escapes;
// bare if s has an enum, except where quoted is set.
func defaultText(s *schema, quoted bool) string {
	d := s.fallback
	switch {
	case d.kind != kindString:
		return string(d.appendJSON(nil))
	case quoted || len(s.enum) == 0:
		return `"` + d.text + `"`
	}
	return d.text
}

// textLines splits s at LF or CR LF. An empty last line gives nothing.
func textLines(s string) []string {
	if s == "" {
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSuffix(line, "\r")
	}
	return lines
}

func equalText(a, b *string) bool { return a != nil && b != nil && *a == *b }
