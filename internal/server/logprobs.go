package server

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"hearth/internal/engine"
	"hearth/internal/tokenizer"
)

// tokenLogprob is a token of an answer with its log-probability and those of the most likely tokens in its place.
type tokenLogprob struct {
	id     int32
	value  float32
	first  bool // the first token of a prompt: nothing comes before it, so it has no value
	offset int  // of its text in the answer's text, in characters
	top    []engine.TokenLogProb
}

// leastLogprob stands for minus infinity, which JSON cannot write.
const leastLogprob = -9999

func floor(v float32) float32 {
	if v > leastLogprob { // false for NaN too
		return v
	}
	return leastLogprob
}

// names gives tokens their names in answers.
type names struct {
	tok  *tokenizer.Tokenizer // may be nil
	asID bool                 // always "token_id:N"
}

// bytes are those of the token's text, or of a special token's name; nil if it has none.
func (n names) bytes(id int32) []byte {
	if n.tok == nil {
		return nil
	}
	b, _, _ := n.tok.Token(id)
	return b
}

// label is the token's text where that is valid UTF-8. Part of a character is written as OpenAI's completions write
// it, bytes:\xf0\x9f, so that different tokens have different labels.
func (n names) label(id int32) string {
	b := n.bytes(id)
	switch {
	case n.asID || b == nil:
		return "token_id:" + strconv.Itoa(int(id))
	case utf8.Valid(b):
		return string(b)
	}
	var s strings.Builder
	s.WriteString("bytes:")
	for _, c := range b {
		fmt.Fprintf(&s, `\x%02x`, c)
	}
	return s.String()
}

// chatLogprobs is the form of chat completions: only tokens of the answer, reasoning left out.
type chatLogprobs struct {
	Content []chatLogprob `json:"content"`
}

type chatLogprob struct {
	topLogprob
	Top []topLogprob `json:"top_logprobs"`
}

type topLogprob struct {
	Token   string  `json:"token"`
	Logprob float32 `json:"logprob"`
	Bytes   []int   `json:"bytes"` // a []byte would be written in base64
}

func (n names) chatEntry(id int32, value float32) topLogprob {
	e := topLogprob{Token: strings.ToValidUTF8(string(n.bytes(id)), string(utf8.RuneError)), Logprob: floor(value), Bytes: []int{}}
	if n.asID || n.bytes(id) == nil {
		e.Token = n.label(id)
	}
	for _, c := range n.bytes(id) {
		e.Bytes = append(e.Bytes, int(c))
	}
	return e
}

// chat gives lps in the form of chat completions, each with at most top alternatives.
func (n names) chat(lps []tokenLogprob) *chatLogprobs {
	c := &chatLogprobs{Content: []chatLogprob{}}
	for _, lp := range lps {
		e := chatLogprob{topLogprob: n.chatEntry(lp.id, lp.value), Top: []topLogprob{}}
		for _, t := range lp.top {
			e.Top = append(e.Top, n.chatEntry(t.ID, t.LogProb))
		}
		c.Content = append(c.Content, e)
	}
	return c
}

// textLogprobs is the form of text completions: four lists with an entry for each token.
type textLogprobs struct {
	Tokens  []string             `json:"tokens"`
	Values  []*float32           `json:"token_logprobs"`
	Top     []map[string]float32 `json:"top_logprobs"`
	Offsets []int                `json:"text_offset"` // in characters
}

// text gives lps in the form of text completions. The chosen token is always among the alternatives.
func (n names) text(lps []tokenLogprob) *textLogprobs {
	t := &textLogprobs{Tokens: []string{}, Values: []*float32{}, Top: []map[string]float32{}, Offsets: []int{}}
	for _, lp := range lps {
		label := n.label(lp.id)
		t.Tokens = append(t.Tokens, label)
		t.Offsets = append(t.Offsets, lp.offset)
		if lp.first {
			t.Values, t.Top = append(t.Values, nil), append(t.Top, nil)
			continue
		}
		value := floor(lp.value)
		top := map[string]float32{label: value}
		for _, alt := range lp.top {
			l := n.label(alt.ID)
			// Two tokens may have one text: the likelier counts.
			if v, ok := top[l]; !ok || v < floor(alt.LogProb) && alt.ID != lp.id {
				top[l] = floor(alt.LogProb)
			}
		}
		t.Values, t.Top = append(t.Values, &value), append(t.Top, top)
	}
	return t
}
