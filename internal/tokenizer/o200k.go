package tokenizer

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"sync"

	"github.com/pkoukk/tiktoken-go-loader/assets"
)

// O200kHarmony returns the built-in vocabulary of GPT-OSS: the 199,998 tokens of
// o200k_base and the special tokens 199998 to 201087, all of which have a name. It
// is parsed at the first call, in some tens of milliseconds.
func O200kHarmony() (*Tokenizer, error) { return o200kHarmony() }

var o200kHarmony = sync.OnceValues(loadO200k)

func loadO200k() (*Tokenizer, error) {
	ranks, err := assets.Assets.ReadFile(o200kFile)
	if err != nil {
		return nil, fmt.Errorf("built-in vocabulary: %w", err)
	}
	var b builder
	b.vocab.arena = make([]byte, 0, len(ranks)/2)
	b.vocab.tokens = make([]token, 0, o200kSize)
	if err := readRanks(&b, ranks); err != nil {
		return nil, fmt.Errorf("built-in vocabulary: %s: %w", o200kFile, err)
	}
	for name, id := range harmonySpecials() {
		if err := b.addNamed(int64(id), name, kindSpecial); err != nil {
			return nil, fmt.Errorf("built-in vocabulary: special token %q: %w", name, err)
		}
	}
	return b.finish("o200k_harmony (built in)")
}

const (
	o200kFile = "o200k_base.tiktoken"
	o200kBase = 199998 // ordinary tokens; the first special id
	o200kSize = 201088 // rows of the model
)

// harmonySpecials returns the names of the special tokens. 200018 has two: tiktoken
// and tokenizer.json call it <|endofprompt|>. openai-harmony also has a 201088,
// which is one past the last row of the model.
func harmonySpecials() map[string]int32 {
	special := map[string]int32{
		"<|startoftext|>": 199998,
		"<|endoftext|>":   199999,
		"<|return|>":      200002,
		"<|constrain|>":   200003,
		"<|channel|>":     200005,
		"<|start|>":       200006,
		"<|end|>":         200007,
		"<|message|>":     200008,
		"<|call|>":        200012,
	}
	named := make(map[int32]bool)
	for _, id := range special {
		named[id] = true
	}
	for id := int32(o200kBase); id < o200kSize; id++ {
		if !named[id] {
			special["<|reserved_"+strconv.Itoa(int(id))+"|>"] = id
		}
	}
	special["<|endofprompt|>"] = 200018
	return special
}

// readRanks adds the tokens of a tiktoken rank file: lines of "base64 SP rank".
func readRanks(b *builder, data []byte) error {
	text := make([]byte, 256)
	for line := 1; len(data) > 0; line++ {
		var row []byte
		row, data, _ = bytes.Cut(data, []byte{'\n'})
		code, rank, found := bytes.Cut(row, []byte{' '})
		if !found {
			return fmt.Errorf("line %d: want base64, a space and a rank", line)
		}
		if need := base64.StdEncoding.DecodedLen(len(code)); need > len(text) {
			text = make([]byte, need)
		}
		n, err := base64.StdEncoding.Decode(text, code)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		id, err := parseID(rank)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		if err := b.add(id, text[:n]); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	return nil
}
