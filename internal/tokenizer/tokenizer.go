// Package tokenizer turns text into token ids and back with the byte-level BPE
// of GPT-OSS (o200k_harmony), from the model's own vocabulary or a built-in one.
// It never produces the id of a special token from ordinary text, never adds a
// beginning-of-sequence token and never drops a byte of valid UTF-8.
package tokenizer

import "errors"

// A Tokenizer maps text to ids and ids to bytes. It does not change after it was
// loaded, so any number of goroutines may share it.
type Tokenizer struct{ name string }

var errUnwritten = errors.New("tokenizer: not written yet")

// LoadJSON reads a Hugging Face tokenizer.json.
func LoadJSON(data []byte) (*Tokenizer, error) { return nil, errUnwritten }

// LoadFile reads the tokenizer.json at path.
func LoadFile(path string) (*Tokenizer, error) { return nil, errUnwritten }

// O200kHarmony returns the built-in vocabulary of GPT-OSS.
func O200kHarmony() (*Tokenizer, error) { return nil, errUnwritten }

// New makes a tokenizer from tokens, the bytes of each id (nil: the id has no
// text), and the ids of the special tokens by name.
func New(tokens [][]byte, special map[string]int32) (*Tokenizer, error) { return nil, errUnwritten }

// Encode appends the ids of text to dst. Names of special tokens are ordinary text.
func (t *Tokenizer) Encode(dst []int32, text string) []int32 { return dst }

// EncodeSpecial is Encode, except that names of special tokens become their ids.
func (t *Tokenizer) EncodeSpecial(dst []int32, text string) []int32 { return dst }

// Token returns the bytes of id, or the name of a special token.
func (t *Tokenizer) Token(id int32) (b []byte, special, ok bool) { return nil, false, false }

// Special returns the id of the special token called name.
func (t *Tokenizer) Special(name string) (int32, bool) { return 0, false }

// Decode returns the text of ids.
func (t *Tokenizer) Decode(ids []int32, special bool) string { return "" }

// Size is the highest id with text, plus one.
func (t *Tokenizer) Size() int { return 0 }

// Name describes where the vocabulary came from.
func (t *Tokenizer) Name() string { return t.name }

// A Decoder turns a stream of ids into a stream of text.
type Decoder struct{}

// NewDecoder returns a decoder at the start of a text.
func (t *Tokenizer) NewDecoder(special bool) *Decoder { return &Decoder{} }

// Push returns the text that id completed.
func (d *Decoder) Push(id int32) string { return "" }

// Flush ends the stream.
func (d *Decoder) Flush() string { return "" }

// BytesOfPrintable undoes GPT-2's mapping of bytes to printable characters, the
// form in which tokenizer.json and GGUF store a token. It appends to dst; ok is
// false if s holds a character that stands for no byte.
func BytesOfPrintable(dst []byte, s string) (b []byte, ok bool) { return dst, false }
