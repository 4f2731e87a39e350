package tokenizer

import (
	"fmt"
	"regexp"
)

// GGUF is what the metadata of a GGUF file say about its tokenizer. Merges are not
// needed: an id is a rank.
type GGUF struct {
	Model  string   // tokenizer.ggml.model
	Pre    string   // tokenizer.ggml.pre
	Tokens []string // tokenizer.ggml.tokens, printable as in BytesOfPrintable
	Types  []int32  // tokenizer.ggml.token_type, one for each token
}

// Token types of GGUF.
const (
	ggufNormal      = 1
	ggufControl     = 3
	ggufUserDefined = 4
	ggufUnused      = 5
)

// ggufPadding matches the names that fill up the rows of the model. llama.cpp marks
// them as unused, Ollama as user-defined.
var ggufPadding = regexp.MustCompile(`^\[PAD\d+\]$`)

// LoadGGUF makes a tokenizer from the metadata of a GGUF file. Its special ids are
// not to be trusted (Ollama writes constants): find special tokens by name. The
// splitter must be "gpt-4o"; Ollama before v0.30.0 wrote "default" for the same.
func LoadGGUF(g GGUF) (*Tokenizer, error) {
	switch {
	case g.Model != "gpt2":
		return nil, fmt.Errorf("tokenizer.ggml.model is %q, want \"gpt2\", a byte-level BPE", g.Model)
	case g.Pre != "gpt-4o" && g.Pre != "default":
		return nil, fmt.Errorf("tokenizer.ggml.pre is %q, want \"gpt-4o\"; Hearth splits text only as GPT-OSS does", g.Pre)
	case len(g.Types) != len(g.Tokens):
		return nil, fmt.Errorf("tokenizer.ggml.token_type has %d entries for %d tokens", len(g.Types), len(g.Tokens))
	}
	var b builder
	for id, text := range g.Tokens {
		if err := b.addGGUF(int64(id), text, g.Types[id]); err != nil {
			return nil, fmt.Errorf("tokenizer.ggml.tokens[%d] %q: %w", id, text, err)
		}
	}
	t, err := b.finish("GGUF")
	if err != nil {
		return nil, fmt.Errorf("tokenizer.ggml.tokens: %w", err)
	}
	return t, nil
}

func (b *builder) addGGUF(id int64, text string, kind int32) error {
	switch kind {
	case ggufNormal:
		plain, ok := BytesOfPrintable(nil, []byte(text))
		if !ok {
			return errNoByte
		}
		return b.add(id, plain)
	case ggufControl:
		return b.addNamed(id, text, kindSpecial)
	case ggufUserDefined:
		if ggufPadding.MatchString(text) {
			return nil
		}
		return b.addNamed(id, text, kindAdded)
	case ggufUnused:
		return nil
	}
	return fmt.Errorf("tokenizer.ggml.token_type is %d, want 1 (normal), 3 (control), 4 (user-defined) or 5 (unused)", kind)
}
