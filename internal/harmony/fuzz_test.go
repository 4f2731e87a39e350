package harmony

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// fuzzWords are what headers are made of, and of what they go wrong with.
var fuzzWords = []string{
	"assistant", "user:x ", "analysis", "commentary", "final", " to=", "functions.", "f", " json", "code", "all ",
	"{\"a\":1}", "\n", "  ", " some free text", "??", "\xf0\x9f\x98\x80",
}

// fuzzIDs makes ids of the tiny vocabulary: of a byte under 0x80 the letter; above
// that a marker, a word, an id without text, another special token or a byte that is
// no text by itself.
func fuzzIDs(enc *Encoding, data []byte) []int32 {
	odd := []int32{
		enc.start, enc.end, enc.message, enc.channel, enc.constrain, enc.ret, enc.call, enc.endOfText,
		enc.start, enc.message, enc.channel, enc.message, 300, 290, -1, 1 << 30,
	}
	var ids []int32
	for _, b := range data {
		switch {
		case b < 0x80 || b >= 0xe0:
			ids = append(ids, int32(b))
		case b < 0xb0:
			ids = append(ids, odd[int(b)%len(odd)])
		default:
			ids = enc.tok.Encode(ids, fuzzWords[int(b)%len(fuzzWords)])
		}
	}
	return ids
}

// FuzzParser reads any tokens.
func FuzzParser(f *testing.F) {
	enc := tiny(f)
	for how := range uint8(16) {
		f.Add(how, []byte("\x83\xb3\x82 x \x81\x80\xb1\x83\xb5\x82y\x85"))
		f.Add(how, []byte("\xb6\xb7\xb8\x83\xb4 \x84\xb9\x82{}\x86"))
		f.Add(how, []byte("just text that goes on for more than a header may have\x82\xf0\x9f"))
	}
	f.Fuzz(func(t *testing.T, how uint8, data []byte) { checkStream(t, enc, how, data) })
}

// TestRandomStreams is FuzzParser on streams that are mostly markup.
func TestRandomStreams(t *testing.T) {
	enc := tiny(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		data := make([]byte, r.IntN(60))
		for i := range data {
			data[i] = byte(r.IntN(256))
			if r.IntN(3) > 0 {
				data[i] = byte(0x80 + r.IntN(0x60))
			}
		}
		how := uint8(r.IntN(16))
		checkStream(t, enc, how, data)
		if t.Failed() {
			t.Fatalf("stream %d, %q", how, data)
		}
	}
}

// checkStream parses a stream; parse checks that the events make whole messages.
func checkStream(t *testing.T, enc *Encoding, how uint8, data []byte) {
	t.Helper()
	o := ParserOptions{Prefill: Prefill(how % 4)}
	if how&4 != 0 {
		o.Tools = []string{"f", "functions.g"}
	}
	ids := fuzzIDs(enc, data)
	messages := parse(t, enc, o, ids)
	var joined strings.Builder
	for _, m := range messages {
		if !utf8.ValidString(m.Content) {
			t.Fatalf("invalid UTF-8: %q", m.Content)
		}
		joined.WriteString(m.Content)
	}
	inContent := o.Prefill == PrefillFinal || o.Prefill == PrefillAnalysis
	if want := contentOf(enc, ids, inContent); !isSubsequence(want, joined.String()) {
		t.Fatalf("content %q is not in %q", want, joined.String())
	}
	if want, ok := bareText(enc, ids); ok && o.Prefill == PrefillNone && joined.String() != want {
		t.Fatalf("bare text %q became %q", want, joined.String())
	}
	checkAssembler(t, enc, o, ids, messages, how&8 != 0)
}

// contentOf is a simple model of what is content for sure: the text behind each
// <|message|>, up to a marker that ends a message.
func contentOf(enc *Encoding, ids []int32, in bool) string {
	var all strings.Builder
	from := 0
	for i, id := range append(ids[:len(ids):len(ids)], enc.end) {
		switch id {
		case enc.start, enc.channel, enc.end, enc.ret, enc.call, enc.message:
			if in {
				all.WriteString(enc.tok.Decode(ids[from:i], false))
			}
			from, in = i+1, id == enc.message
		}
	}
	return all.String()
}

// isSubsequence reports whether s is what is left of all after taking out some of
// its characters.
func isSubsequence(s, all string) bool {
	for _, r := range s {
		i := strings.IndexRune(all, r)
		if i < 0 {
			return false
		}
		all = all[i+utf8.RuneLen(r):]
	}
	return true
}

// bareText is the text of ids, if they have no special token and do not begin like
// a header.
func bareText(enc *Encoding, ids []int32) (string, bool) {
	for _, id := range ids {
		if _, special, _ := enc.tok.Token(id); special {
			return "", false
		}
	}
	text := enc.tok.Decode(ids, false)
	words := strings.Fields(text)
	if len(words) == 0 || words[0] == RoleAssistant || isChannel(words[0]) || strings.Contains(text, "to=") {
		return "", false
	}
	// White space that fills a whole header is dropped.
	return text, len(text)-len(strings.TrimLeft(text, " \t\r\n\f\v")) < maxHeaderRun
}

// checkAssembler checks that the deltas make the answer, at every token, and that
// the answer holds the text of every message.
func checkAssembler(t *testing.T, enc *Encoding, o ParserOptions, ids []int32, messages []parsed, length bool) {
	t.Helper()
	a := NewChatAssembler(enc, o)
	var s transcript
	for _, id := range ids {
		s.add(t, a.Push(id))
		s.matches(t, a.Message())
	}
	s.add(t, a.Finish(length))
	answer := a.Message()
	s.matches(t, answer)
	parts := []string{answer.Reasoning}
	if answer.Content != nil {
		parts = append(parts, *answer.Content)
	}
	for _, c := range answer.Calls {
		parts = append(parts, c.Arguments)
	}
next:
	for _, m := range messages {
		for _, part := range parts {
			if strings.Contains(part, strings.TrimSpace(m.Content)) {
				continue next
			}
		}
		t.Fatalf("text %q is not in the answer %q", m.Content, parts)
	}
	switch reason := a.FinishReason(); {
	case reason == FinishToolCalls && len(answer.Calls) == 0,
		reason == FinishStop && length,
		reason == FinishLength && !length && len(answer.Calls) == 0:
		t.Fatalf("finish reason %s of %+v", reason, answer)
	}
	if reasoning, total := a.Counts(); total != len(ids) || reasoning > total {
		t.Fatalf("%d of %d tokens reasoning, %d pushed", reasoning, total, len(ids))
	}
}

// FuzzRenderChat renders any request: an error that says where, or ids of the
// vocabulary with exactly the special tokens that the renderer meant to put there,
// from which the parser reads as many messages as were written.
func FuzzRenderChat(f *testing.F) {
	enc := o200k(f)
	for _, c := range readLines[struct{ Request json.RawMessage }](f, "chat.jsonl.gz") {
		f.Add([]byte(c.Request))
	}
	f.Add([]byte(`{"messages":[{"role":"assistant","tool_calls":[{"id":"<|end|>","function":{"name":"<|call|> to=x","arguments":"<|start|>"}}]},{"role":"tool","tool_call_id":"<|end|>"}]}`))
	f.Add([]byte(`{"messages":[{"role":"user"}],"response_format":{"type":"json_schema","json_schema":{"name":"<|end|>","schema":{"<|end|>":1e5}}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var r ChatRequest
		var wrong *RequestError
		if err := json.Unmarshal(body, &r); err != nil {
			if json.Valid(body) && !errors.As(err, &wrong) {
				t.Fatalf("valid JSON, but no path: %v", err)
			}
			return
		}
		rend, prefill, err := enc.renderChat(&r, PromptOptions{Date: "2025-06-28"})
		if err != nil {
			if !errors.As(err, &wrong) || wrong.Path == "" || wrong.Reason == "" {
				t.Fatalf("no path: %v", err)
			}
			return
		}
		marks, starts := 0, 0
		for _, id := range rend.ids {
			_, special, ok := enc.tok.Token(id)
			if !ok {
				t.Fatalf("id %d is not in the vocabulary", id)
			}
			if special {
				marks++
			}
			if id == enc.start {
				starts++
			}
		}
		if marks != rend.marks {
			t.Fatalf("%d special tokens, %d were meant: %s", marks, rend.marks, enc.tok.Decode(rend.ids, true))
		}
		if prefill == PrefillNone {
			starts-- // the message to come has no header yet
		}
		if got := parse(t, enc, ParserOptions{Prefill: PrefillNothing}, rend.ids); len(got) != starts {
			t.Fatalf("%d messages written, %d read: %s", starts, len(got), enc.tok.Decode(rend.ids, true))
		}
	})
}

// The text decoder is the tokenizer's, on bytes: both must agree.
func FuzzTextBuffer(f *testing.F) {
	enc := tiny(f)
	f.Add([]byte("a\xf0\x9f\x98\x80\xf0\x9f\xff\xed\xa0\x80\xe4\xb8"), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		d := enc.tok.NewDecoder(false)
		var b textBuffer
		var want, got []string
		for n := int(step)%4 + 1; len(data) > 0; data = data[min(n, len(data)):] {
			text := ""
			for _, c := range data[:min(n, len(data))] {
				text += d.Push(int32(c))
			}
			want = append(want, text)
			got = append(got, b.push(data[:min(n, len(data))]))
		}
		want, got = append(want, d.Flush()), append(got, b.flush())
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-tokenizer +harmony):\n%s", diff)
		}
	})
}
