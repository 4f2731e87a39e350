package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLoadTiny(t *testing.T) {
	tok := tiny(t)
	if tok.Name() != "tokenizer.json, 600 tokens, 21 special" || tok.Size() != 621 {
		t.Errorf("Name %q, Size %d", tok.Name(), tok.Size())
	}
	for _, test := range []struct {
		name string
		id   int32
		ok   bool
	}{
		{"<|return|>", 604, true},
		{"<|channel|>", 607, true},
		{"<|call|>", 614, true},
		{"<|endofprompt|>", 620, true},
		{"<|reserved_200018|>", 0, false}, // only its other name is in the file
	} {
		if id, ok := tok.Special(test.name); id != test.id || ok != test.ok {
			t.Errorf("Special(%q) = %d, %v", test.name, id, ok)
		}
	}
	if _, _, ok := tok.Token(621); ok {
		t.Error("621 has text")
	}
	text := "<|start|>user<|message|>Größe 💖 <|reserved_201087|>"
	if got := tok.Decode(tok.EncodeSpecial(nil, text), true); got != text {
		t.Errorf("round trip gives %q", got)
	}
}

// TestLoadFull: the tokenizer.json of the real model gives the built-in vocabulary,
// less the names that the file does not have.
func TestLoadFull(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a file of 28 MB")
	}
	loaded, err := LoadJSON(fullJSON(t))
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Name() != "tokenizer.json, 199998 tokens, 21 special" || loaded.Size() != 200019 {
		t.Errorf("Name %q, Size %d", loaded.Name(), loaded.Size())
	}
	tok := builtIn(t)
	for id := range int32(loaded.Size()) {
		want, wantSpecial, _ := tok.Token(id)
		got, special, ok := loaded.Token(id)
		if !ok || special != wantSpecial || !bytes.Equal(got, want) {
			t.Fatalf("Token(%d) = %q, %v, %v, want %q, %v", id, got, special, ok, want, wantSpecial)
		}
		if again := loaded.vocab.rank(string(want)); !special && again != id {
			t.Fatalf("%q has rank %d, want %d", want, again, id)
		}
	}
	for _, v := range vectors(t, "testdata/vectors-special.jsonl.gz") {
		if strings.Contains(v.Text, "<|reserved_2010") || strings.Contains(v.Text, "<|reserved_200018") {
			continue // ordinary text here
		}
		if diff := cmp.Diff(v.IDs, loaded.EncodeSpecial(nil, v.Text), equateEmpty); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", v.Text, diff)
		}
	}
}

// edit decodes the tiny tokenizer.json, lets change edit it and encodes it again.
// Keys are then in another order, and HTML characters and others are escaped.
func edit(t testing.TB, change func(doc, model map[string]any)) []byte {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(unzip(t, "testdata/tiny.json.gz"), &doc); err != nil {
		t.Fatal(err)
	}
	change(doc, doc["model"].(map[string]any))
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLoadForms(t *testing.T) {
	ascii := func(data []byte) []byte { // as a writer with ensure_ascii gives it
		var out bytes.Buffer
		for _, r := range string(data) {
			if r < 0x80 {
				out.WriteRune(r)
			} else {
				fmt.Fprintf(&out, `\u%04x`, r)
			}
		}
		return out.Bytes()
	}
	want := tiny(t)
	for _, test := range []struct {
		name   string
		change func(doc, model map[string]any)
		form   func([]byte) []byte
	}{
		{"other order", func(doc, model map[string]any) {}, nil},
		{"escapes", func(doc, model map[string]any) {}, ascii},
		{"indented", func(doc, model map[string]any) {}, func(data []byte) []byte {
			var out bytes.Buffer
			if err := json.Indent(&out, data, "\r\n", "\t"); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		}},
		{"merges as strings", func(doc, model map[string]any) {
			for i, m := range model["merges"].([]any) {
				pair := m.([]any)
				model["merges"].([]any)[i] = pair[0].(string) + " " + pair[1].(string)
			}
		}, nil},
		{"no merges", func(doc, model map[string]any) { delete(model, "merges") }, nil},
		{"specials in the vocabulary too", func(doc, model map[string]any) {
			vocab := model["vocab"].(map[string]any)
			for id := range int32(want.Size()) {
				if text, special, _ := want.Token(id); special {
					vocab[string(text)] = id
				}
			}
		}, nil},
		{"unknown fields", func(doc, model map[string]any) {
			doc["comment"] = map[string]any{"}": "]", "\"": []any{nil, true, 1e9}}
			model["comment"] = "\\\""
		}, nil},
		{"truncation", func(doc, model map[string]any) { doc["truncation"] = map[string]any{"max_length": 5} }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := edit(t, test.change)
			if test.form != nil {
				data = test.form(data)
			}
			got, err := LoadJSON(data)
			if err != nil {
				t.Fatal(err)
			}
			checkSame(t, want, got)
		})
	}
}

func checkSame(t *testing.T, want, got *Tokenizer) {
	t.Helper()
	if got.Size() != want.Size() {
		t.Fatalf("Size = %d, want %d", got.Size(), want.Size())
	}
	for id := range int32(want.Size()) {
		text, special, ok := want.Token(id)
		gotText, gotSpecial, gotOK := got.Token(id)
		if !bytes.Equal(text, gotText) || special != gotSpecial || ok != gotOK {
			t.Errorf("Token(%d) = %q, %v, %v, want %q, %v, %v", id, gotText, gotSpecial, gotOK, text, special, ok)
		}
	}
	text := "<|start|>Some words, <|call|> 中文 ſ'S\r\n  x = \"y\";"
	if diff := cmp.Diff(want.EncodeSpecial(nil, text), got.EncodeSpecial(nil, text)); diff != "" {
		t.Errorf("EncodeSpecial (-want +got)\n%s", diff)
	}
}

// TestAddedTokens: added tokens that are not special are text of the model, but
// ordinary text does not produce them either.
func TestAddedTokens(t *testing.T) {
	tok, err := LoadJSON(edit(t, func(doc, model map[string]any) {
		doc["added_tokens"] = append(doc["added_tokens"].([]any),
			map[string]any{"id": 630, "content": "<tool>", "special": false, "normalized": true},
			map[string]any{"id": 620, "content": "<|reserved_200018|>", "special": true})
	}))
	if err != nil {
		t.Fatal(err)
	}
	if text, special, ok := tok.Token(630); string(text) != "<tool>" || special || !ok {
		t.Errorf("Token(630) = %q, %v, %v", text, special, ok)
	}
	if _, _, ok := tok.Token(625); ok || tok.Size() != 631 {
		t.Errorf("Size %d; 625 has text: %v", tok.Size(), ok)
	}
	if diff := cmp.Diff([]int32{620, 630, 620}, tok.EncodeSpecial(nil, "<|endofprompt|><tool><|reserved_200018|>")); diff != "" {
		t.Errorf("EncodeSpecial (-want +got)\n%s", diff)
	}
	if got := tok.Decode([]int32{630, 620}, false); got != "<tool>" {
		t.Errorf("Decode gives %q", got)
	}
	if got := tok.Decode(tok.Encode(nil, "<tool>"), false); got != "<tool>" || len(tok.Encode(nil, "<tool>")) == 1 {
		t.Errorf("Encode of ordinary text gives %d", tok.Encode(nil, "<tool>"))
	}
}

func TestLoadJSONErrors(t *testing.T) {
	type object = map[string]any
	pre := func(doc object, i int) object {
		return doc["pre_tokenizer"].(object)["pretokenizers"].([]any)[i].(object)
	}
	vocab := func(model object) object { return model["vocab"].(object) }
	added := func(doc object, i int) object { return doc["added_tokens"].([]any)[i].(object) }
	for _, test := range []struct {
		want   string
		change func(doc, model object)
	}{
		{`model.type is "Unigram", want "BPE"`, func(_, m object) { m["type"] = "Unigram" }},
		{`model.type is "", want "BPE"`, func(d, _ object) { delete(d, "model") }},
		{`model.ignore_merges must be true`, func(_, m object) { delete(m, "ignore_merges") }},
		{`model.dropout must be null`, func(_, m object) { m["dropout"] = 0.5 }},
		{`model.unk_token must be null`, func(_, m object) { m["unk_token"] = "<unk>" }},
		{`model.continuing_subword_prefix must be null`, func(_, m object) { m["continuing_subword_prefix"] = "##" }},
		{`model.end_of_word_suffix must be null`, func(_, m object) { m["end_of_word_suffix"] = "</w>" }},
		{`model.byte_fallback must be false`, func(_, m object) { m["byte_fallback"] = true }},
		{`normalizer must be null`, func(d, _ object) { d["normalizer"] = object{"type": "NFC"} }},
		{`decoder.type is "Metaspace", want "ByteLevel"`, func(d, _ object) { d["decoder"] = object{"type": "Metaspace"} }},
		{`pre_tokenizer is a "" with 0 parts`, func(d, _ object) { d["pre_tokenizer"] = nil }},
		{`pre_tokenizer is a "ByteLevel" with 0 parts`, func(d, _ object) { d["pre_tokenizer"] = object{"type": "ByteLevel"} }},
		{`pre_tokenizer.pretokenizers are "Digits" and "ByteLevel"`, func(d, _ object) { pre(d, 0)["type"] = "Digits" }},
		{`pre_tokenizer.pretokenizers[0].pattern.Regex is not that of o200k but "\\s+"`, func(d, _ object) { pre(d, 0)["pattern"] = object{"Regex": `\s+`} }},
		{`pre_tokenizer.pretokenizers[0].pattern has no Regex`, func(d, _ object) { pre(d, 0)["pattern"] = object{"String": " "} }},
		{`pre_tokenizer.pretokenizers[0]: behavior is "Removed"`, func(d, _ object) { pre(d, 0)["behavior"] = "Removed" }},
		{`invert true`, func(d, _ object) { pre(d, 0)["invert"] = true }},
		{`pre_tokenizer.pretokenizers[1].add_prefix_space must be false`, func(d, _ object) { pre(d, 1)["add_prefix_space"] = true }},
		{`pre_tokenizer.pretokenizers[1].use_regex must be false`, func(d, _ object) { delete(pre(d, 1), "use_regex") }},
		{`model.vocab: 1 of the 256 single bytes have no token (the first is 0x61)`, func(_, m object) { delete(m, "merges"); delete(vocab(m), "a") }},
		{`model: vocab: token "▁x": a character stands for no byte`, func(_, m object) { vocab(m)["▁x"] = 700 }},
		{`model: vocab: token " x x x": id 2097152 is out of range (0 to 2097151)`, func(_, m object) { vocab(m)["ĠxĠxĠx"] = 1 << 21 }},
		{`model: vocab: token " x x x": want an id of one to nine digits`, func(_, m object) { vocab(m)["ĠxĠxĠx"] = 1 << 40 }},
		{`model: vocab: token " x x x": "-1" is not an id`, func(_, m object) { vocab(m)["ĠxĠxĠx"] = -1 }},
		{`model: vocab: token " x x x": "7.5" is not an id`, func(_, m object) { vocab(m)["ĠxĠxĠx"] = 7.5 }},
		{`model: vocab: token " x x x": want an id of one to nine digits`, func(_, m object) { vocab(m)["ĠxĠxĠx"] = "7" }},
		{`model: vocab: token "": text is empty`, func(_, m object) { vocab(m)[""] = 700 }},
		{`model: vocab: want '{'`, func(_, m object) { m["vocab"] = []any{"a"} }},
		{`model.merges: [344] makes "zqzq", which is no token`, func(_, m object) { m["merges"] = append(m["merges"].([]any), []any{"zq", "zq"}) }},
		{`model.merges: [344] makes token 256 after token 599, but the rank of a token must be its id`, func(_, m object) { m["merges"] = append(m["merges"].([]any), m["merges"].([]any)[0]) }},
		{`model.merges: [0]: want two texts, neither empty`, func(_, m object) { m["merges"] = []any{"ab"} }},
		{`model.merges: [0]: want ','`, func(_, m object) { m["merges"] = []any{[]any{"ab"}} }},
		{`model.merges: [0]: want ']'`, func(_, m object) { m["merges"] = []any{[]any{"a", "b", "c"}} }},
		{`model.merges: [0]: "a b": a character stands for no byte`, func(_, m object) { m["merges"] = []any{[]any{"a b", "b"}} }},
		{`model.merges: want '['`, func(_, m object) { m["merges"] = object{} }},
		{`added_tokens[0] ("<|startoftext|>"): single_word, lstrip and rstrip are not supported`, func(d, _ object) { added(d, 0)["lstrip"] = true }},
		{`added_tokens[20] ("<|endofprompt|>"): id 5 is also "&"`, func(d, _ object) { added(d, 20)["id"] = 5 }},
		{`added_tokens[20] ("<|endofprompt|>"): id -7 is out of range`, func(d, _ object) { added(d, 20)["id"] = -7 }},
		{`added_tokens[20] (""): text is empty`, func(d, _ object) { added(d, 20)["content"] = "" }},
		{`added_tokens: json: cannot unmarshal`, func(d, _ object) { added(d, 20)["id"] = "x" }},
	} {
		t.Run(test.want, func(t *testing.T) {
			_, err := LoadJSON(edit(t, test.change))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// TestLoadJSONSyntax: errors that need bytes a JSON writer would not give.
func TestLoadJSONSyntax(t *testing.T) {
	good := string(unzip(t, "testdata/tiny.json.gz"))
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, test := range []struct{ name, data, want string }{
		{"empty", "", "want '{' at offset 0"},
		{"array", "[]", "want '{' at offset 0"},
		{"cut off", good[:strings.Index(good, `"ther"`)+4], "model: vocab: unterminated string at offset"},
		{"cut off in a value", `{"model": {"merges": [`, "model: merges: unexpected end: the file is cut off"},
		{"no value", `{"model": }`, "model: want '{' at offset 10"},
		{"no value of an unknown field", `{"x": }`, "x: want a value at offset 6"},
		{"no comma", `{"x": 1 "y": 2}`, "want ',' at offset 8"},
		{"comma at the end", `{"x": 1,}`, "want a string at offset 8"},
		{"bad value", `{"x": nope}`, "x: invalid character"},
		{"unbalanced", `{"x": [1}]}`, "x: invalid character"},
		{"more data", good + "{}", "more data after the end of the object"},
		{"zero byte", good + "\x00", "more data after the end of the object"},
		{"field twice", replace(`"normalizer"`, `"decoder":null,"normalizer"`), "decoder: appears twice"},
		{"vocabulary twice", replace(`"merges"`, `"vocab":{},"merges"`), "model: vocab: appears twice"},
		{"zero in front", replace(`"!": 0`, `"!": 00`), `model: vocab: token "!": "00" is not an id`},
		{"same id", replace(`"!": 0`, `"!!!!!!!!!!!!": 0, "!": 0`), `model: vocab: token "!": id 0 is also "!!!!!!!!!!!!"`},
		{"same token", replace(`"!": 0`, `"!": 0, "!": 700`), `model.vocab: ids 0 and 700 have the same text "!"`},
		{"name with two ids", replace(`"<|endoftext|>"`, `"<|startoftext|>"`), `added_tokens[1] ("<|startoftext|>"): has two ids, 600 and 601`},
		{"control character", replace(`"!"`, "\"!\n\""), "model: vocab: control character in the string at offset"},
		{"bad escape", replace(`"!"`, `"\x"`), "model: vocab: string at offset"},
		{"lone surrogate", replace(`"!"`, `"\ud800"`), "a character stands for no byte"},
		{"bad UTF-8", replace(`"!"`, "\"\xff\""), "a character stands for no byte"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := LoadJSON([]byte(test.data))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "tokenizer.json")
	if err := os.WriteFile(good, unzip(t, "testdata/tiny.json.gz"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := LoadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, tiny(t), got)

	huge := filepath.Join(dir, "huge.json")
	f, err := os.Create(huge)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(maxVocabMB<<20 + 1); err != nil { // a hole: no disk is used
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte(`{"model"`), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		huge:                          "has 268 MB; a tokenizer.json larger than 256 MiB is not read",
		bad:                           "want ':' at offset 8",
		dir:                           "is a directory",
		filepath.Join(dir, "no.json"): "no such file",
	} {
		if _, err := LoadFile(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want %q and the path", path, err, want)
		}
	}
}

func FuzzLoadJSON(f *testing.F) {
	// The real files are too large to mutate: keep only the single bytes.
	f.Add(edit(f, func(doc, model map[string]any) {
		vocab := make(map[string]any)
		for b := range 256 {
			vocab[printable([]byte{byte(b)})] = b
		}
		vocab["aa"] = 300
		model["vocab"] = vocab
		model["merges"] = []any{[]any{"a", "a"}}
		doc["added_tokens"] = []any{map[string]any{"id": 301, "content": "<|end|>", "special": true}}
	}))
	f.Add([]byte(`{"model": {"vocab": {"a": 1, "\u0120": 2}, "merges": [["a", "a"], "a a"]}, "added_tokens": [{"id": 3}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := LoadJSON(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatal("loaded what is not JSON")
		}
		if tok.Size() > maxIDs {
			t.Fatalf("Size = %d", tok.Size())
		}
		for id := range int32(tok.Size()) {
			if text, _, ok := tok.Token(id); ok != (len(text) > 0) {
				t.Fatalf("Token(%d) = %q, %v", id, text, ok)
			}
		}
		const text = "aaaa <|end|> \u00e9\U0001F496 'll\r\n" + "\x00\x7f"
		if got := tok.Decode(tok.Encode(nil, text), false); got != text {
			t.Fatalf("%q comes back as %q", text, got)
		}
	})
}
