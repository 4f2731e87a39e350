package tokenizer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tinyGGUF is the metadata that converters write for the tiny tokenizer and a model
// of 640 rows: padding is type 5 from llama.cpp, type 4 from Ollama.
func tinyGGUF(t *testing.T, pre string, padding int32) GGUF {
	tok := tiny(t)
	g := GGUF{Model: "gpt2", Pre: pre}
	for id := range int32(640) {
		text, special, ok := tok.Token(id)
		switch {
		case special:
			g.Tokens, g.Types = append(g.Tokens, string(text)), append(g.Types, 3)
		case ok:
			g.Tokens, g.Types = append(g.Tokens, printable(text)), append(g.Types, 1)
		default:
			g.Tokens, g.Types = append(g.Tokens, fmt.Sprintf("[PAD%d]", id-621)), append(g.Types, padding)
		}
	}
	return g
}

func TestLoadGGUF(t *testing.T) {
	for _, g := range []GGUF{tinyGGUF(t, "gpt-4o", 5), tinyGGUF(t, "default", 4)} {
		tok, err := LoadGGUF(g)
		if err != nil {
			t.Fatal(err)
		}
		checkSame(t, tiny(t), tok)
		if tok.Name() != "GGUF, 600 tokens, 21 special" {
			t.Errorf("Name %q", tok.Name())
		}
	}
}

func TestLoadGGUFAddedToken(t *testing.T) {
	g := tinyGGUF(t, "gpt-4o", 5)
	g.Tokens[630], g.Types[630] = "[PADDLE]", 4
	tok, err := LoadGGUF(g)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int32{630}, tok.EncodeSpecial(nil, "[PADDLE]")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if text, special, ok := tok.Token(630); string(text) != "[PADDLE]" || special || !ok {
		t.Errorf("Token(630) = %q, %v, %v", text, special, ok)
	}
}

func TestLoadGGUFErrors(t *testing.T) {
	for _, test := range []struct {
		want   string
		change func(g *GGUF)
	}{
		{`tokenizer.ggml.model is "llama", want "gpt2"`, func(g *GGUF) { g.Model = "llama" }},
		{`tokenizer.ggml.pre is "qwen2", want "gpt-4o"`, func(g *GGUF) { g.Pre = "qwen2" }},
		{`tokenizer.ggml.token_type has 639 entries for 640 tokens`, func(g *GGUF) { g.Types = g.Types[1:] }},
		{`tokenizer.ggml.tokens[0] "!": tokenizer.ggml.token_type is 6`, func(g *GGUF) { g.Types[0] = 6 }},
		{`tokenizer.ggml.tokens[0] "▁": a character stands for no byte`, func(g *GGUF) { g.Tokens[0] = "▁" }},
		{`tokenizer.ggml.tokens[0] "": text is empty`, func(g *GGUF) { g.Tokens[0] = "" }},
		{`tokenizer.ggml.tokens: ids 0 and 599 have the same text "!"`, func(g *GGUF) { g.Tokens[599] = "!" }},
		{`tokenizer.ggml.tokens: 1 of the 256 single bytes`, func(g *GGUF) { g.Tokens[0] = "!!" }},
		{`tokenizer.ggml.tokens[609] "<|start|>": has two ids, 608 and 609`, func(g *GGUF) { g.Tokens[609] = "<|start|>" }},
	} {
		t.Run(test.want, func(t *testing.T) {
			g := tinyGGUF(t, "gpt-4o", 5)
			test.change(&g)
			if _, err := LoadGGUF(g); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// TestBytesOfPrintable goes through every byte and every character near the table.
func TestBytesOfPrintable(t *testing.T) {
	for b := range 256 {
		text := []byte{byte(b)}
		if got, ok := BytesOfPrintable(nil, []byte(printable(text))); !ok || string(got) != string(text) {
			t.Errorf("%q gives %q, %v", printable(text), got, ok)
		}
	}
	count := 0
	for r := range rune(0x1000) {
		if _, ok := BytesOfPrintable(nil, []byte(string(r))); ok {
			count++
		}
	}
	if count != 256 {
		t.Errorf("%d characters stand for a byte, want 256", count)
	}
	for _, bad := range []string{" ", "\n", "\u00a0", "\u00ad", "\u0144", "\uFFFD", "\xff", "\U0010FFFF"} {
		if got, ok := BytesOfPrintable(nil, []byte(bad)); ok {
			t.Errorf("%q gives %q", bad, got)
		}
	}
}
