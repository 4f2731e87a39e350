package tokenizer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pkoukk/tiktoken-go-loader/assets"
)

// printable is GPT-2's map from bytes, written out apart from the one under test.
func printable(text []byte) string {
	var out strings.Builder
	for _, b := range text {
		switch {
		case b <= ' ':
			out.WriteRune(0x100 + rune(b))
		case b < 0x7f:
			out.WriteByte(b)
		case b <= 0xa0:
			out.WriteRune(0x121 + rune(b) - 0x7f)
		case b == 0xad:
			out.WriteRune(0x143)
		default:
			out.WriteRune(rune(b))
		}
	}
	return out.String()
}

// fullJSON writes the tokenizer.json of GPT-OSS as transformers does: 199,998
// tokens, every way to split each of them into two as a merge (446,189), 21 named
// special tokens, indented by two.
func fullJSON(t testing.TB) []byte {
	t.Helper()
	tok := builtIn(t)
	var b bytes.Buffer
	b.WriteString(`{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [`)
	for id := o200kBase; id <= 200018; id++ {
		name, _, _ := tok.Token(int32(id))
		if id > o200kBase {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id": %d, "content": %q, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}`, id, name)
	}
	b.WriteString(`], "normalizer": null, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": `)
	pattern, err := json.Marshal(splitPattern)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(pattern)
	b.WriteString(`}, "behavior": "Isolated", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
 "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
 "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
 "fuse_unk": false, "byte_fallback": false, "ignore_merges": true, "vocab": {` + "\n")
	quoted := make([][]byte, o200kBase)
	for id := range quoted {
		text, _, _ := tok.Token(int32(id))
		if quoted[id], err = json.Marshal(printable(text)); err != nil {
			t.Fatal(err)
		}
		if id > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, "      %s: %d", quoted[id], id)
	}
	b.WriteString("}, \"merges\": [\n")
	count := 0
	for id := range int32(o200kBase) {
		for _, m := range mergesOf(tok, id) {
			if count++; count > 1 {
				b.WriteString(",\n")
			}
			fmt.Fprintf(&b, "      [\n        %s,\n        %s\n      ]", quoted[m[0]], quoted[m[1]])
		}
	}
	b.WriteString("]}}\n")
	if count != 446189 {
		t.Fatalf("%d merges, want 446,189", count)
	}
	return b.Bytes()
}

// mergesOf returns the splits of a token into two tokens, in the order in which
// transformers' converter lists them.
func mergesOf(tok *Tokenizer, id int32) [][2]int32 {
	text, _, _ := tok.Token(id)
	var merges [][2]int32
	for i := 1; i < len(text); i++ {
		left, right := tok.vocab.rank(string(text[:i])), tok.vocab.rank(string(text[i:]))
		if left != noToken && right != noToken {
			merges = append(merges, [2]int32{left, right})
		}
	}
	slices.SortFunc(merges, func(a, b [2]int32) int { return slices.Compare(a[:], b[:]) })
	return merges
}

func TestBuiltInSource(t *testing.T) {
	data, err := assets.Assets.ReadFile(o200kFile)
	if err != nil {
		t.Fatal(err)
	}
	const want = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != want {
		t.Errorf("sha256 of %s is %x, want %s", o200kFile, sum, want)
	}
}
