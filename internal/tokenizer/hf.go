package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// LoadFile reads the tokenizer.json at path. See LoadJSON.
func LoadFile(path string) (*Tokenizer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxVocabMB<<20 {
		return nil, fmt.Errorf("%s: has %d MB; a tokenizer.json larger than %d MiB is not read", path, info.Size()/1e6, maxVocabMB)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t, err := LoadJSON(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// LoadJSON reads a Hugging Face tokenizer.json of a byte-level BPE with the splitter
// of o200k. data is not kept.
//
// A tokenizer that would split or merge in another way is refused with the name of
// the field, since a wrong one does not garble text but makes the model write broken
// Harmony headers. Merges go by the rank of the text, that is by id: the merges list
// must be in that order and is otherwise not used. It is taken to contain every way
// to split a token, as the lists converted from tiktoken do; where it does not,
// Hugging Face's result can differ in rare words.
//
// Ids without an entry have no text. Not used: truncation, padding, post_processor.
func LoadJSON(data []byte) (*Tokenizer, error) {
	l := loader{scanner: scanner{data: data}}
	if err := l.document(); err != nil {
		return nil, err
	}
	if err := l.checkFields(); err != nil {
		return nil, err
	}
	for i, a := range l.added {
		if err := l.addToken(a); err != nil {
			return nil, fmt.Errorf("added_tokens[%d] (%q): %w", i, a.Content, err)
		}
	}
	t, err := l.builder.finish("tokenizer.json")
	if err != nil {
		return nil, fmt.Errorf("model.vocab: %w", err)
	}
	if err := l.checkMerges(&t.vocab); err != nil {
		return nil, fmt.Errorf("model.merges: %w", err)
	}
	return t, nil
}

// A loader holds what tokenizer.json says until all of it was read: the order of
// its fields is free.
type loader struct {
	scanner scanner
	builder builder
	merges  []byte

	normalizer   json.RawMessage
	preTokenizer preTokenizer
	decoder      struct{ Type string }
	added        []addedToken
	model        modelFields
}

type modelFields struct {
	Type                    string
	Dropout                 *float64
	UnkToken                *string
	ContinuingSubwordPrefix *string
	EndOfWordSuffix         *string
	ByteFallback            bool
	IgnoreMerges            bool
}

type preTokenizer struct {
	Type          string
	Pretokenizers []struct {
		Type           string
		Pattern        struct{ Regex *string }
		Behavior       string
		Invert         bool
		AddPrefixSpace bool  `json:"add_prefix_space"`
		UseRegex       *bool `json:"use_regex"`
	}
}

type addedToken struct {
	ID         int64
	Content    string
	SingleWord bool `json:"single_word"`
	Lstrip     bool
	Rstrip     bool
	Special    bool
}

// document reads the whole file.
func (l *loader) document() error {
	err := l.fields(map[string]any{
		"normalizer":    &l.normalizer,
		"pre_tokenizer": &l.preTokenizer,
		"decoder":       &l.decoder,
		"added_tokens":  &l.added,
		"model":         l.readModel,
	})
	if err != nil {
		return err
	}
	if l.scanner.peek(); l.scanner.pos < len(l.scanner.data) {
		return l.scanner.errorf("more data after the end of the object")
	}
	return nil
}

// readModel reads the object "model".
func (l *loader) readModel() error {
	m := &l.model
	return l.fields(map[string]any{
		"type":                      &m.Type,
		"dropout":                   &m.Dropout,
		"unk_token":                 &m.UnkToken,
		"continuing_subword_prefix": &m.ContinuingSubwordPrefix,
		"end_of_word_suffix":        &m.EndOfWordSuffix,
		"byte_fallback":             &m.ByteFallback,
		"ignore_merges":             &m.IgnoreMerges,
		"vocab":                     l.readVocab,
		"merges": func() (err error) {
			l.merges, err = l.scanner.skip()
			return err
		},
	})
}

// fields reads an object. targets says where a field goes: a pointer that it is
// decoded into or a function that reads it. Other fields are passed over.
func (l *loader) fields(targets map[string]any) error {
	seen := make(map[string]bool)
	return l.scanner.object(func(key []byte) (err error) {
		name := string(key)
		if seen[name] {
			return fmt.Errorf("%s: appears twice", name)
		}
		seen[name] = true
		switch target := targets[name].(type) {
		case func() error:
			err = target()
		case nil:
			err = l.scanner.decode(new(json.RawMessage))
		default:
			err = l.scanner.decode(target)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// readVocab reads the object "vocab": printable text to id.
func (l *loader) readVocab() error {
	var text []byte
	return l.scanner.object(func(key []byte) error {
		var ok bool
		if text, ok = bytesOfPrintable(text[:0], key); !ok {
			return fmt.Errorf("token %q: %w", key, errNoByte)
		}
		id, err := l.scanner.id()
		if err != nil {
			return fmt.Errorf("token %q: %w", text, err)
		}
		if err := l.builder.add(id, text); err != nil {
			return fmt.Errorf("token %q: %w", text, err)
		}
		return nil
	})
}

func (l *loader) addToken(a addedToken) error {
	if a.SingleWord || a.Lstrip || a.Rstrip {
		return errors.New("single_word, lstrip and rstrip are not supported and must be false")
	}
	k := kindAdded
	if a.Special {
		k = kindSpecial
	}
	return l.builder.addNamed(a.ID, a.Content, k)
}

// checkFields refuses what we would encode differently.
func (l *loader) checkFields() error {
	m := &l.model
	present := func(s *string) bool { return s != nil && *s != "" }
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{m.Type != "BPE", fmt.Sprintf("model.type is %q, want \"BPE\"", m.Type)},
		{!m.IgnoreMerges, "model.ignore_merges must be true: a word that is a token is taken as it is"},
		{m.Dropout != nil && *m.Dropout != 0, "model.dropout must be null"},
		{present(m.UnkToken), "model.unk_token must be null: every byte has a token"},
		{present(m.ContinuingSubwordPrefix), "model.continuing_subword_prefix must be null"},
		{present(m.EndOfWordSuffix), "model.end_of_word_suffix must be null"},
		{m.ByteFallback, "model.byte_fallback must be false"},
		{l.normalizer != nil && string(l.normalizer) != "null", "normalizer must be null"},
		{l.decoder.Type != "ByteLevel", fmt.Sprintf("decoder.type is %q, want \"ByteLevel\"", l.decoder.Type)},
	} {
		if c.bad {
			return errors.New(c.text)
		}
	}
	return l.preTokenizer.check()
}

// check makes sure that the text is split as next splits it.
func (p *preTokenizer) check() error {
	const want = `want a Sequence of o200k's Split and a ByteLevel; Hearth splits text only as GPT-OSS does`
	if p.Type != "Sequence" || len(p.Pretokenizers) != 2 {
		return fmt.Errorf("pre_tokenizer is a %q with %d parts: %s", p.Type, len(p.Pretokenizers), want)
	}
	split, byteLevel := p.Pretokenizers[0], p.Pretokenizers[1]
	switch regex := split.Pattern.Regex; {
	case split.Type != "Split" || byteLevel.Type != "ByteLevel":
		return fmt.Errorf("pre_tokenizer.pretokenizers are %q and %q: %s", split.Type, byteLevel.Type, want)
	case regex == nil:
		return fmt.Errorf("pre_tokenizer.pretokenizers[0].pattern has no Regex: %s", want)
	case *regex != splitPattern:
		return fmt.Errorf("pre_tokenizer.pretokenizers[0].pattern.Regex is not that of o200k but %q: %s", *regex, want)
	case split.Behavior != "Isolated" || split.Invert:
		return fmt.Errorf("pre_tokenizer.pretokenizers[0]: behavior is %q and invert %v, want \"Isolated\" and false", split.Behavior, split.Invert)
	case byteLevel.AddPrefixSpace:
		return errors.New("pre_tokenizer.pretokenizers[1].add_prefix_space must be false")
	case byteLevel.UseRegex == nil || *byteLevel.UseRegex:
		return errors.New("pre_tokenizer.pretokenizers[1].use_regex must be false")
	}
	return nil
}

// checkMerges makes sure that the merges, pairs of printable texts, make tokens in
// the order of their ids, so that an id is a rank.
func (l *loader) checkMerges(v *vocab) error {
	if l.merges == nil {
		return nil
	}
	s := scanner{data: l.merges}
	var text []byte
	last := int32(-1)
	return s.array(func(i int) (err error) {
		if text, err = readMerge(&s, text[:0]); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
		id := v.rank(string(text))
		switch {
		case id == noToken:
			return fmt.Errorf("[%d] makes %q, which is no token", i, text)
		case id < last:
			return fmt.Errorf("[%d] makes token %d after token %d, but the rank of a token must be its id", i, id, last)
		}
		last = id
		return nil
	})
}

// readMerge appends to text what a merge makes: ["a", "b"], or "a b" in old files.
func readMerge(s *scanner, text []byte) ([]byte, error) {
	if s.peek() == '"' {
		pair, err := s.str()
		if err != nil {
			return text, err
		}
		first, second, _ := bytes.Cut(pair, []byte{' '})
		if text, err = appendPart(text, first); err != nil {
			return text, err
		}
		return appendPart(text, second)
	}
	for _, before := range []byte{'[', ','} {
		if err := s.expect(before); err != nil {
			return text, err
		}
		part, err := s.str()
		if err != nil {
			return text, err
		}
		if text, err = appendPart(text, part); err != nil {
			return text, err
		}
	}
	return text, s.expect(']')
}

func appendPart(text, printable []byte) ([]byte, error) {
	if len(printable) == 0 {
		return text, errors.New("want two texts, neither empty")
	}
	text, ok := bytesOfPrintable(text, printable)
	if !ok {
		return text, fmt.Errorf("%q: %w", printable, errNoByte)
	}
	return text, nil
}
