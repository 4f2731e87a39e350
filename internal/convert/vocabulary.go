package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"hearth/internal/checkpoint"
)

// vocabulary is a byte-level BPE as GGUF spells it: one token per id, in GPT-2's alphabet.
type vocabulary struct {
	tokens []string
	types  []int32
	merges []string // "left right"
}

var errNoTokenizer = errors.New("the source has no tokenizer, and a GGUF file holds its vocabulary: name a tokenizer.json with --tokenizer")

// vocabulary reads that of a GGUF source, else that of tokenizer.json.
func (b *builder) vocabulary(c *checkpoint.Checkpoint) (*vocabulary, error) {
	if b.plan.opt.Tokenizer == "" {
		if v, ok := ggufVocabulary(c); ok {
			return v, nil
		}
	}
	path := b.plan.opt.Tokenizer
	if path == "" {
		path = c.TokenizerFile()
	}
	if path == "" {
		return nil, errNoTokenizer
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	v, err := parseTokenizer(raw, b.cfg.Vocab)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

func ggufVocabulary(c *checkpoint.Checkpoint) (*vocabulary, bool) {
	bytesOf, special, ok := c.Vocabulary()
	if !ok {
		return nil, false
	}
	tokens, ok := c.GGUFText("tokenizer.ggml.tokens")
	if !ok || len(tokens) != len(bytesOf) {
		return nil, false
	}
	v := &vocabulary{tokens: tokens, types: make([]int32, len(tokens))}
	v.merges, _ = c.GGUFText("tokenizer.ggml.merges")
	for id := range tokens {
		v.types[id] = tokenUnused
		if bytesOf[id] != nil {
			v.types[id] = tokenNormal
		}
	}
	for _, id := range special {
		v.types[id] = tokenControl
	}
	return v, true
}

// parseTokenizer reads what a GGUF needs from a tokenizer.json. Ids without a token, up to the rows of the embedding,
// become padding.
func parseTokenizer(raw []byte, rows int) (*vocabulary, error) {
	var t struct {
		Added []struct {
			ID      int
			Content string
			Special bool
		} `json:"added_tokens"`
		Model struct {
			Type   string
			Vocab  map[string]int
			Merges []json.RawMessage
		}
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, err
	}
	if t.Model.Type != "BPE" || len(t.Model.Vocab) == 0 {
		return nil, fmt.Errorf("model.type is %q with %d tokens: only the byte-level BPE of GPT-OSS can be written", t.Model.Type, len(t.Model.Vocab))
	}
	v := &vocabulary{tokens: make([]string, rows), types: make([]int32, rows)}
	set := func(id int, text string, kind int32) error {
		if id < 0 || id >= rows {
			return fmt.Errorf("token %q has id %d, but the embedding has %d rows", text, id, rows)
		}
		v.tokens[id], v.types[id] = text, kind
		return nil
	}
	for text, id := range t.Model.Vocab {
		if err := set(id, text, tokenNormal); err != nil {
			return nil, err
		}
	}
	for _, a := range t.Added {
		kind := int32(tokenUser)
		if a.Special {
			kind = tokenControl
		}
		if err := set(a.ID, a.Content, kind); err != nil {
			return nil, err
		}
	}
	for id := range v.tokens {
		if v.types[id] == 0 {
			v.tokens[id], v.types[id] = fmt.Sprintf("[PAD%d]", id), tokenUnused
		}
	}
	for i, m := range t.Model.Merges {
		var pair []string
		var text string
		if json.Unmarshal(m, &pair) == nil && len(pair) == 2 {
			text = pair[0] + " " + pair[1]
		} else if json.Unmarshal(m, &text) != nil {
			return nil, fmt.Errorf("model.merges[%d] is neither a pair nor a string", i)
		}
		v.merges = append(v.merges, text)
	}
	return v, nil
}

// splitter is the expression that cuts text into words before merging, as o200k's tokenizer.json has it.
const splitter = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|` +
	`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|` +
	`\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// vocabularyFiles writes tokenizer.json and its companions from a GGUF's vocabulary.
func (b *builder) vocabularyFiles(c *checkpoint.Checkpoint) error {
	if b.hasFile("tokenizer.json") {
		return nil
	}
	v, ok := ggufVocabulary(c)
	if !ok || len(v.merges) == 0 {
		b.note("the GGUF holds no list of merges, so no tokenizer.json is written: add the one of openai/gpt-oss-20b")
		return nil
	}
	b.plan.extra = append(b.plan.extra, sideFile{"tokenizer.json", v.json()})
	config := map[string]any{
		"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": b.cfg.MaxPosition, "clean_up_tokenization_spaces": false,
	}
	generation := map[string]any{"do_sample": true, "eos_token_id": b.cfg.EOS}
	for _, x := range []struct{ name, token string }{{"bos", "<|startoftext|>"}, {"eos", "<|return|>"}, {"pad", "<|endoftext|>"}} {
		if id := slices.Index(v.tokens, x.token); id >= 0 {
			config[x.name+"_token"] = x.token
			if x.name != "eos" {
				generation[x.name+"_token_id"] = id
			}
		}
	}
	if template := b.chatTemplate(c); template != "" {
		config["chat_template"] = template
	}
	if !b.hasFile("tokenizer_config.json") {
		b.plan.extra = append(b.plan.extra, sideFile{"tokenizer_config.json", indented(config)})
	}
	if !b.hasFile("generation_config.json") && len(b.cfg.EOS) > 0 {
		b.plan.extra = append(b.plan.extra, sideFile{"generation_config.json", indented(generation)})
	}
	b.note("tokenizer.json, tokenizer_config.json and generation_config.json are made from the GGUF's vocabulary")
	return nil
}

// json is the vocabulary as a tokenizer.json of the o200k family.
func (v *vocabulary) json() []byte {
	type token struct {
		ID         int    `json:"id"`
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		Lstrip     bool   `json:"lstrip"`
		Rstrip     bool   `json:"rstrip"`
		Normalized bool   `json:"normalized"`
		Special    bool   `json:"special"`
	}
	added := []token{}
	var words bytes.Buffer
	for id, text := range v.tokens {
		switch v.types[id] {
		case tokenNormal:
			if words.Len() > 0 {
				words.WriteByte(',')
			}
			fmt.Fprintf(&words, "%s:%d", quoted(text), id)
		case tokenControl, tokenUser:
			added = append(added, token{ID: id, Content: text, Special: true})
		}
	}
	merges := make([][2]string, 0, len(v.merges))
	for _, m := range v.merges {
		left, right, _ := strings.Cut(m, " ")
		merges = append(merges, [2]string{left, right})
	}
	byteLevel := func(prefix, regex bool) map[string]any {
		return map[string]any{"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex}
	}
	return unescaped(map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": nil,
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Split", "pattern": map[string]any{"Regex": splitter}, "behavior": "Isolated", "invert": false},
			byteLevel(false, false),
		}},
		"post_processor": nil, "decoder": byteLevel(true, true),
		"model": map[string]any{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
			"vocab": json.RawMessage("{" + words.String() + "}"), "merges": merges,
		},
	})
}

// unescaped is JSON in which < and > stay as they are.
func unescaped(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // values of our own making
	}
	return b.Bytes()
}

func quoted(s string) []byte { return bytes.TrimSpace(unescaped(s)) }
