package harmony

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Namespace is a group of tools in a system or developer message.
type Namespace struct {
	Name        string
	Description string
	Tools       []Tool
}

// functionsKey is the namespace of the functions that a developer declares.
const functionsKey = "functions"

// A toolError says which tool of which namespace cannot be rendered.
type toolError struct {
	namespace string
	index     int // in Namespace.Tools
	err       error
}

func (e *toolError) Error() string {
	return fmt.Sprintf("tool %d of namespace %q: parameters: %v", e.index, e.namespace, e.err)
}

func (e *toolError) Unwrap() error { return e.err }

// toolsSection renders namespaces, sorted by the bytes of their keys.
func toolsSection(namespaces map[string]Namespace) (string, error) {
	sections := []string{"# Tools"}
	for _, key := range slices.Sorted(maps.Keys(namespaces)) {
		section, err := namespaceSection(namespaces[key])
		if err != nil {
			return "", err
		}
		sections = append(sections, section)
	}
	return strings.Join(sections, "\n\n"), nil
}

func namespaceSection(n Namespace) (string, error) {
	functions := n.functions()
	lines := []string{"## " + n.Name + "\n"}
	for _, line := range textLines(n.Description) {
		if functions {
			line = "// " + line
		}
		lines = append(lines, line)
	}
	if !functions {
		return strings.Join(lines, "\n"), nil
	}
	lines = append(lines, "namespace "+n.Name+" {\n")
	for i, t := range n.Tools {
		if !t.isFunction() {
			continue
		}
		for _, line := range textLines(t.Description) {
			lines = append(lines, "// "+line)
		}
		signature, err := t.signature()
		if err != nil {
			return "", &toolError{n.Name, i, err}
		}
		lines = append(lines, "type "+t.Name+" = "+signature+";\n")
	}
	lines = append(lines, "} // namespace "+n.Name)
	return strings.Join(lines, "\n"), nil
}

// signature is the type of a function. One whose parameters have no properties
// takes nothing.
func (t *Tool) signature() (string, error) {
	const none = "() => any"
	if len(t.Parameters) == 0 || string(t.Parameters) == "null" {
		return none, nil
	}
	s, err := parseSchema(t.Parameters)
	if err != nil {
		return "", err
	}
	if s.empty() {
		return none, nil
	}
	text, err := typeOf(s)
	return "(_: " + text + ") => any", err
}

func (t *Tool) isFunction() bool { return t.Type == "" || t.Type == "function" }

// functions reports whether n has a function.
func (n *Namespace) functions() bool {
	return slices.ContainsFunc(n.Tools, func(t Tool) bool { return t.isFunction() })
}
