// Package eval measures a model's answers on held-out items: exact match by skill, and how far its distributions are
// from those of a reference model. It asks an engine as the server does and never looks at weights.
package eval

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"

	"hearth/internal/harmony"
)

// Item is one question with what counts as its answer.
type Item struct {
	ID      string
	Skill   string
	Date    string // of the system message
	Request harmony.ChatRequest
	Expect  Expect
}

// Expect says which answers are right, by Type:
//
//	text  the final text is one of AnyOf
//	call  the first call has this Name and Arguments, compared as JSON values
//	json  the final text is JSON equal to Value
type Expect struct {
	Type      string
	AnyOf     []string `json:"any_of"`
	Name      string
	Arguments any
	Value     any
}

// maxLine bounds one item: a recall over several thousand tokens is some tens of kilobytes.
const maxLine = 4 << 20

// ReadItems reads one item a line.
func ReadItems(r io.Reader) ([]Item, error) {
	var items []Item
	seen := map[string]bool{}
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for line := 1; s.Scan(); line++ {
		var i Item
		if err := json.Unmarshal(s.Bytes(), &i); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if err := i.check(); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if seen[i.ID] {
			return nil, fmt.Errorf("line %d: a second item with id %q", line, i.ID)
		}
		seen[i.ID] = true
		items = append(items, i)
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, fmt.Errorf("no items")
	}
	return items, nil
}

func (i *Item) check() error {
	switch {
	case i.ID == "" || i.Skill == "":
		return fmt.Errorf("id %q, skill %q: both are needed", i.ID, i.Skill)
	case i.Expect.Type == "text" && len(i.Expect.AnyOf) > 0:
	case i.Expect.Type == "call" && i.Expect.Name != "":
	case i.Expect.Type == "json" && i.Expect.Value != nil:
	default:
		return fmt.Errorf("expect of %s has type %q and not what that needs", i.ID, i.Expect.Type)
	}
	return nil
}

// Right judges an answer.
func (e *Expect) Right(a harmony.ChatAnswer) bool {
	if e.Type == "call" {
		var got any
		return len(a.Calls) > 0 && a.Calls[0].Name == e.Name && json.Unmarshal([]byte(a.Calls[0].Arguments), &got) == nil &&
			reflect.DeepEqual(got, e.Arguments)
	}
	if a.Content == nil {
		return false
	}
	if e.Type == "json" {
		var got any
		return json.Unmarshal([]byte(*a.Content), &got) == nil && reflect.DeepEqual(got, e.Value)
	}
	return slices.Contains(e.AnyOf, *a.Content)
}

// want prints the expectation for a list of failures.
func (e *Expect) want() string {
	switch e.Type {
	case "call":
		b, _ := json.Marshal(e.Arguments)
		return e.Name + string(b)
	case "json":
		b, _ := json.Marshal(e.Value)
		return string(b)
	}
	return e.AnyOf[0]
}

// Skills are the names of the items' skills, sorted.
func Skills(items []Item) []string {
	set := map[string]bool{}
	for i := range items {
		set[items[i].Skill] = true
	}
	return slices.Sorted(maps.Keys(set))
}
