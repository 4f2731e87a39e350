package checkpoint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// store holds every tensor of a checkpoint, by normalised name.
type store struct {
	tensors []tensor // by file, then offset
	byName  map[string]*tensor
	prefix  string // what normalise took off the front of most names, for messages
}

// newStore indexes tensors by the names that normalise gives them. The slice must not grow afterwards.
func newStore(tensors []tensor, normalise func(string) string) (*store, error) {
	s := &store{tensors: tensors, byName: make(map[string]*tensor, len(tensors))}
	for i := range tensors {
		t := &tensors[i]
		name := normalise(t.name)
		if other, ok := s.byName[name]; ok {
			if other.name == t.name {
				return nil, fmt.Errorf("tensor %q: in %s and again in %s", t.name, other.file, t.file)
			}
			return nil, fmt.Errorf("tensor %q of %s and tensor %q of %s have the same meaning", other.name, other.file, t.name, t.file)
		}
		s.byName[name] = t
		if s.prefix == "" && strings.HasSuffix(t.name, name) {
			s.prefix = strings.TrimSuffix(t.name, name)
		}
	}
	return s, nil
}

// normaliseHF reduces the spellings of a tensor's name to one: without the prefixes of Transformers and PEFT, without
// Unsloth's extra level in the router, without PyTorch's name of a parametrised weight.
func normaliseHF(name string) string {
	name = strings.TrimPrefix(name, "base_model.model.")
	name = strings.TrimPrefix(name, "model.")
	if before, after, ok := strings.Cut(name, ".mlp.router.linear."); ok {
		name = before + ".mlp.router." + after
	}
	if before, after, ok := strings.Cut(name, ".parametrizations."); ok {
		if param, rest, ok := strings.Cut(after, ".original"); ok {
			name = before + "." + param + rest
		}
	}
	return name
}

func (s *store) has(name string) bool { return s.byName[name] != nil }

// shown is the name as the files would spell it, for messages about tensors that are not there.
func (s *store) shown(name string) string {
	if strings.HasPrefix(name, "lm_head.") {
		return strings.TrimSuffix(s.prefix, "model.") + name
	}
	return s.prefix + name
}

// find returns the first tensor by name that the test accepts, so that messages do not depend on map order.
func (s *store) find(test func(name string) bool) *tensor {
	var best *tensor
	for i := range s.tensors {
		if t := &s.tensors[i]; test(t.name) && (best == nil || cmp.Compare(t.name, best.name) < 0) {
			best = t
		}
	}
	return best
}

// unused lists the names of tensors that are not in the set, sorted.
func (s *store) unused(used map[*tensor]claim) []string {
	var names []string
	for i := range s.tensors {
		if _, ok := used[&s.tensors[i]]; !ok {
			names = append(names, s.tensors[i].name)
		}
	}
	slices.Sort(names)
	return names
}
