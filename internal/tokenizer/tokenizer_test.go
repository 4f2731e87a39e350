package tokenizer

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// builtIn is the o200k_harmony vocabulary.
func builtIn(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := O200kHarmony()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// tiny is a tokenizer.json of 600 tokens and the 21 special tokens of GPT-OSS's, as
// the tiny test models have it.
func tiny(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := LoadJSON(unzip(t, "testdata/tiny.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func unzip(t testing.TB, path string) []byte {
	t.Helper()
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A vector is a line of a golden file. They were made with OpenAI's tiktoken 0.14
// and agree with openai-harmony, Hugging Face tokenizers and two other programs.
type vector struct {
	Group, Name, Text string
	IDs               []int32
	Chunks            []string
	ChunksWHATWG      []string `json:"chunks_whatwg"`
}

func vectors(t testing.TB, path string) []vector {
	t.Helper()
	var all []vector
	for d := json.NewDecoder(bytes.NewReader(unzip(t, path))); d.More(); {
		var v vector
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	if len(all) == 0 {
		t.Fatalf("%s is empty", path)
	}
	return all
}

func ids(t testing.TB, text string) []int32 {
	t.Helper()
	var out []int32
	for _, field := range strings.Fields(text) {
		id, err := strconv.ParseInt(field, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, int32(id))
	}
	return out
}

func TestEncodeVectors(t *testing.T) {
	tok := builtIn(t)
	for i, v := range vectors(t, "testdata/vectors.jsonl.gz") {
		got := tok.Encode(nil, v.Text)
		if diff := cmp.Diff(v.IDs, got, equateEmpty); diff != "" {
			t.Errorf("line %d (%s) %.200q: (-want +got)\n%s", i+1, v.Group, v.Text, diff)
		}
		if text := tok.Decode(v.IDs, true); text != v.Text {
			t.Errorf("line %d (%s): Decode gives %.200q, want %.200q", i+1, v.Group, text, v.Text)
		}
	}
}

func TestEncodeSpecialVectors(t *testing.T) {
	tok := builtIn(t)
	for i, v := range vectors(t, "testdata/vectors-special.jsonl.gz") {
		got := tok.EncodeSpecial(nil, v.Text)
		if diff := cmp.Diff(v.IDs, got, equateEmpty); diff != "" {
			t.Errorf("line %d %q: (-want +got)\n%s", i+1, v.Text, diff)
		}
		want := strings.ReplaceAll(v.Text, "<|reserved_200018|>", "<|endofprompt|>")
		if text := tok.Decode(v.IDs, true); text != want {
			t.Errorf("line %d: Decode gives %q, want %q", i+1, text, want)
		}
	}
}

// TestHarmonyPrompt encodes whole messages; the ids are those of openai-harmony.
func TestHarmonyPrompt(t *testing.T) {
	for _, test := range []struct{ name, text, ids string }{
		{
			"prompt",
			"<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\nCurrent date: 2025-06-28\n\n" +
				"Reasoning: medium\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>" +
				"<|start|>user<|message|>What is 2 + 2?<|end|><|start|>assistant",
			`200006 17360 200008 3575 553 17554 162016 11 261 4410 6439 2359 22203 656 7788 17527 558 87447 100594 25 220 1323 19 12
			3218 198 6576 3521 25 220 1323 20 12 3218 12 2029 279 30377 289 25 14093 279 2 13888 18403 25 8450 11 49159 11 1721 13
			21030 2804 413 7360 395 1753 3176 13 200007 200006 1428 200008 4827 382 220 17 659 220 17 30 200007 200006 173781`,
		},
		{
			"call, recipient in the channel",
			`<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"location":"Tokyo"}<|call|>`,
			"200005 12606 815 316 28 44580 775 170154 220 200003 4108 200008 10848 7693 7534 173844 18583 200012",
		},
		{
			"call, recipient in the role",
			" to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>",
			"316 28 44580 775 170154 200005 12606 815 220 200003 4108 200008",
		},
		{
			"tool result",
			"<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>",
			"200006 44580 775 170154 316 28 173781 200005 12606 815 200008",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := ids(t, test.ids)
			tok := builtIn(t)
			if diff := cmp.Diff(want, tok.EncodeSpecial(nil, test.text)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if text := tok.Decode(want, true); text != test.text {
				t.Errorf("Decode gives %q", text)
			}
		})
	}
}

// TestUserTextIsNeverSpecial: a user who types a marker must not get its id.
func TestUserTextIsNeverSpecial(t *testing.T) {
	for _, tok := range []*Tokenizer{builtIn(t), tiny(t)} {
		for name := range tok.named {
			for _, id := range tok.Encode(nil, "a "+name+" b") {
				if _, special, ok := tok.Token(id); special || !ok {
					t.Errorf("%s: Encode of %q gives %d", tok.Name(), name, id)
				}
			}
		}
	}
}

func TestToken(t *testing.T) {
	tok := builtIn(t)
	for _, test := range []struct {
		id      int32
		text    string
		special bool
		ok      bool
	}{
		{-1, "", false, false},
		{0, "!", false, true},
		{9552, " \xf0\x9f", false, true},
		{199997, " cocos", false, true},
		{199998, "<|startoftext|>", true, true},
		{200006, "<|start|>", true, true},
		{200018, "<|endofprompt|>", true, true},
		{201087, "<|reserved_201087|>", true, true},
		{201088, "", false, false},
		{1 << 30, "", false, false},
	} {
		text, special, ok := tok.Token(test.id)
		if string(text) != test.text || special != test.special || ok != test.ok {
			t.Errorf("Token(%d) = %q, %v, %v", test.id, text, special, ok)
		}
	}
	if tok.Size() != 201088 {
		t.Errorf("Size = %d", tok.Size())
	}
	for _, test := range []struct {
		name string
		id   int32
		ok   bool
	}{
		{"<|call|>", 200012, true},
		{"<|endofprompt|>", 200018, true},
		{"<|reserved_200018|>", 200018, true},
		{"<|reserved_201088|>", 0, false},
		{"assistant", 0, false},
		{"", 0, false},
	} {
		if id, ok := tok.Special(test.name); id != test.id || ok != test.ok {
			t.Errorf("Special(%q) = %d, %v", test.name, id, ok)
		}
	}
}

// TestTokenDoesNotExposeArena: appending to a result must not change the next token.
func TestTokenDoesNotExposeArena(t *testing.T) {
	tok := builtIn(t)
	b, _, _ := tok.Token(5)
	_ = append(b, 'x')
	if next, _, _ := tok.Token(6); string(next) != "'" {
		t.Errorf("token 6 is now %q", next)
	}
}

func TestEncodeAppends(t *testing.T) {
	tok := builtIn(t)
	dst := append(make([]int32, 0, 64), 7)
	want := []int32{7, 24912, 2375}
	if diff := cmp.Diff(want, tok.Encode(dst, "hello world")); diff != "" {
		t.Errorf("Encode (-want +got)\n%s", diff)
	}
	want = []int32{7, 200007, 24912}
	if diff := cmp.Diff(want, tok.EncodeSpecial(dst, "<|end|>hello")); diff != "" {
		t.Errorf("EncodeSpecial (-want +got)\n%s", diff)
	}
}

func TestEncodeReplacesInvalidUTF8(t *testing.T) {
	tok := builtIn(t)
	for _, test := range []struct{ text, want string }{
		{"\xff", "\uFFFD"},
		{"a\xf0\x9f\x92", "a\uFFFD"},
		{"a\xf0\x9f\x92b", "a\uFFFDb"},
		{"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"},
		{"\xc3\xc3\xa9", "\uFFFDé"},
		{"x\xc0\xaf<|end|>\x80", "x\uFFFD\uFFFD<|end|>\uFFFD"},
	} {
		if diff := cmp.Diff(tok.Encode(nil, test.want), tok.Encode(nil, test.text)); diff != "" {
			t.Errorf("Encode(%q): (-want +got)\n%s", test.text, diff)
		}
		if diff := cmp.Diff(tok.EncodeSpecial(nil, test.want), tok.EncodeSpecial(nil, test.text)); diff != "" {
			t.Errorf("EncodeSpecial(%q): (-want +got)\n%s", test.text, diff)
		}
		if got := tok.Decode(tok.Encode(nil, test.text), true); got != test.want {
			t.Errorf("round trip of %q gives %q, want %q", test.text, got, test.want)
		}
	}
}

func TestEncodeSpecialTakesTheLongestName(t *testing.T) {
	tokens := singleBytes()
	special := map[string]int32{"<a>": 300, "<a><b>": 301, "é!": 302, "<": 303, "<long": 304, "<also long": 304}
	tok, err := New(tokens, special)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		text string
		want []int32
	}{
		{"<a>", []int32{300}},
		{"<a><b>", []int32{301}},
		{"<a><a><b>", []int32{300, 301}},
		{"<b>", []int32{303, 'b', '>'}},
		{"é!x", []int32{302, 'x'}},
		{"éx", []int32{0xc3, 0xa9, 'x'}},
		{"<long<also long", []int32{304, 304}},
	} {
		if diff := cmp.Diff(test.want, tok.EncodeSpecial(nil, test.text)); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", test.text, diff)
		}
	}
	if name, special, ok := tok.Token(304); string(name) != "<also long" || !special || !ok {
		t.Errorf("Token(304) = %q, %v, %v", name, special, ok)
	}
}

func TestWithoutSpecials(t *testing.T) {
	tok, err := New(singleBytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int32{'<', '|'}, tok.EncodeSpecial(nil, "<|")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// singleBytes is the smallest vocabulary: each byte is the id of itself.
func singleBytes() [][]byte {
	tokens := make([][]byte, 256)
	for b := range tokens {
		tokens[b] = []byte{byte(b)}
	}
	return tokens
}

func TestNewErrors(t *testing.T) {
	with := func(id int, text string) [][]byte {
		tokens := append(singleBytes(), make([][]byte, 10)...)
		tokens[id] = []byte(text)
		return tokens
	}
	for _, test := range []struct {
		name    string
		tokens  [][]byte
		special map[string]int32
		want    string
	}{
		{"no tokens", nil, nil, "256 of the 256 single bytes have no token (the first is 0x00)"},
		{"a byte is missing", with('x', ""), nil, "1 of the 256 single bytes have no token (the first is 0x78)"},
		{"same text", with(260, "x"), nil, `ids 120 and 260 have the same text "x"`},
		{"long token", with(260, strings.Repeat("x", maxToken+1)), nil, "token 260: text has 65536 bytes, more than 65535"},
		{"negative special", singleBytes(), map[string]int32{"<|end|>": -1}, `special token "<|end|>": id -1 is out of range`},
		{"special out of range", singleBytes(), map[string]int32{"<|end|>": maxIDs}, "is out of range (0 to 2097151)"},
		{"empty name", singleBytes(), map[string]int32{"": 300}, `special token "": text is empty`},
		{"special has a text", singleBytes(), map[string]int32{"<|end|>": 65}, `special token "<|end|>": id 65 is also "A"`},
		{"special is a needed byte", singleBytes(), map[string]int32{"A": 65}, "1 of the 256 single bytes have no token (the first is 0x41)"},
		{"long name", singleBytes(), map[string]int32{strings.Repeat("x", maxName+1): 300}, "name has 1025 bytes, more than 1024"},
		{"name is not text", singleBytes(), map[string]int32{"\xff": 300}, "name is not valid UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(test.tokens, test.special)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// TestNewEqualsLoadJSON: a vocabulary from GGUF is the one of tokenizer.json.
func TestNewEqualsLoadJSON(t *testing.T) {
	loaded := tiny(t)
	var tokens [][]byte
	special := make(map[string]int32)
	for id := range int32(loaded.Size()) {
		text, isSpecial, _ := loaded.Token(id)
		if isSpecial {
			special[string(text)] = id
			if id%2 == 0 { // both ways to hand over a special token
				text = nil
			}
		}
		tokens = append(tokens, text)
	}
	tokens = append(tokens, nil, nil) // rows without text
	made, err := New(tokens, special)
	if err != nil {
		t.Fatal(err)
	}
	if made.Size() != loaded.Size() || made.Name() != "vocabulary, 600 tokens, 21 special" {
		t.Errorf("Size %d, Name %q", made.Size(), made.Name())
	}
	for _, v := range vectors(t, "testdata/vectors-special.jsonl.gz") {
		if diff := cmp.Diff(loaded.EncodeSpecial(nil, v.Text), made.EncodeSpecial(nil, v.Text)); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", v.Text, diff)
		}
	}
}
