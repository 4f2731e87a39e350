package server

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"hearth/internal/engine"
	"hearth/internal/harmony"
)

const hello = `{"role":"user","content":"Hi"}`

// TestStreamIsPlain: whatever the model writes, in whatever tokens, the chunks add up to the plain answer; and a stop
// string cuts the content where it first appears, without a trace of it.
func TestStreamIsPlain(t *testing.T) {
	m := &fakeModel{}
	r := newRigOf(t, m, engine.Options{})
	rapid.Check(t, func(rt *rapid.T) {
		ids := rapid.SliceOfN(rapid.Int32Range(0, fakeVocab-1), 0, 40).Draw(rt, "noise")
		if rapid.Bool().Draw(rt, "well-formed") {
			content := rapid.StringOfN(rapid.RuneFrom([]rune("abé \n💖")), 0, 20, -1).Draw(rt, "content")
			ids = append(r.encode("<|channel|>final<|message|>"), r.pieces(rt, content)...)
		}
		ids = append(ids, r.encode("<|return|>")...)
		m.answer = func([]int32, uint64) []int32 { return ids }
		stop := rapid.SampledFrom([]string{"", "ab", "b\n", "é", " 💖", "aa"}).Draw(rt, "stop")
		stops := "null"
		if stop != "" {
			stops = fmt.Sprintf("%q", stop)
		}
		body := fmt.Sprintf(`{"messages":[%s],"max_tokens":60,"return_token_ids":true,"stop":%s`, hello, stops)

		plain := decode[chatAnswer](r.t, r.post("/v1/chat/completions", body+"}"))
		sum := addChat(r.t, r.post("/v1/chat/completions", body+`,"stream":true,"stream_options":{"include_usage":true}}`).Body, 0)
		c := plain.Choices[0]
		wantContent, wantReasoning := sum.content, sum.reasoning
		if len(sum.calls) > 0 { // then content that was streamed is at the end of the plain answer's reasoning
			wantContent, wantReasoning = "", strings.Trim(sum.reasoning+"\n"+sum.content, "\n")
		}
		if got := content(&c.Message); got != wantContent || strings.Trim(c.Message.Reasoning, "\n") != strings.Trim(wantReasoning, "\n") {
			rt.Errorf("plain content %q and reasoning %q, want %q and %q", got, c.Message.Reasoning, wantContent, wantReasoning)
		}
		if sum.finish != c.Finish || !slices.Equal(sum.tokens, c.TokenIDs) || !sum.done {
			rt.Errorf("stream %+v, plain %+v", sum, c)
		}
		if diff := cmp.Diff(&plain.Usage, sum.usage); diff != "" {
			rt.Errorf("usage (-plain +stream):\n%s", diff)
		}
		if stop != "" && strings.Contains(sum.content, stop) {
			rt.Errorf("the stop string %q is in %q", stop, sum.content)
		}
		if !utf8.ValidString(sum.content) {
			rt.Errorf("content %q is not UTF-8", sum.content)
		}
		whole := r.assemble(ids)
		if want, _ := cutAtStop(whole, nonEmpty(stop)); sum.content != want {
			rt.Errorf("content %q, want %q of %q", sum.content, want, whole)
		}
	})
}

// pieces encodes text in tokens of random length, down to single bytes.
func (r *rig) pieces(t *rapid.T, text string) []int32 {
	var ids []int32
	for len(text) > 0 {
		n := rapid.IntRange(1, len(text)).Draw(t, "piece")
		for _, b := range []byte(text[:n]) {
			if n > 3 || !utf8.ValidString(text[:n]) {
				ids = append(ids, r.byteID(b))
			}
		}
		if n <= 3 && utf8.ValidString(text[:n]) {
			ids = r.enc.Tokenizer().Encode(ids, text[:n])
		}
		text = text[n:]
	}
	return ids
}

// byteID is the token of a single byte.
func (r *rig) byteID(b byte) int32 {
	for id := range int32(256) {
		if one, _, ok := r.enc.Tokenizer().Token(id); ok && bytes.Equal(one, []byte{b}) {
			return id
		}
	}
	r.t.Fatalf("the vocabulary has no token for the byte %#x", b)
	return 0
}

// assemble is the content of an answer without stop strings.
func (r *rig) assemble(ids []int32) string {
	if end := slices.IndexFunc(ids, func(id int32) bool { return slices.Contains(r.enc.StopTokens(), id) }); end >= 0 {
		ids = ids[:end+1]
	}
	asm := harmony.NewChatAssembler(r.enc, harmony.ParserOptions{})
	text := ""
	add := func(deltas []harmony.ChatDelta) {
		for _, d := range deltas {
			text += d.Content
		}
	}
	for _, id := range ids {
		add(asm.Push(id))
	}
	add(asm.Finish(false))
	return text
}

func content(m *chatMessage) string {
	if m.Content == nil {
		return ""
	}
	return *m.Content
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// TestKeepAlive: while a prompt is computed for long, and between tokens, comment lines keep the connection.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := tinyEncoding(t).Tokenizer().EncodeSpecial(nil, "ab<|return|>")
		m := &fakeModel{
			answer: func([]int32, uint64) []int32 { return ids },
			step:   func() error { time.Sleep(25 * time.Second); return nil },
		}
		r := newRigOf(t, m, engine.Options{})
		body := r.post("/v1/completions", `{"prompt":[1],"stream":true}`).Body.String()
		const silence = ": keep-alive\n\n: keep-alive\n\n"
		if n := strings.Count(body, ": keep-alive\n\n"); n != 4 || !strings.HasPrefix(body, silence+"data: ") || !strings.HasSuffix(body, "data: [DONE]\n\n") {
			t.Errorf("%d comments in\n%s", n, body)
		}
		chat := r.post("/v1/chat/completions", `{"messages":[`+hello+`],"stream":true,"max_tokens":1}`).Body.String()
		if list := events(t, strings.NewReader(chat)); !strings.Contains(list[0], `"role":"assistant"`) || strings.Index(chat, "data:") > strings.Index(chat, ": keep") {
			t.Errorf("the first chunk must come before the first comment:\n%s", chat)
		}
		if plain := r.post("/v1/completions", `{"prompt":[1]}`).Body.String(); strings.Contains(plain, "keep-alive") {
			t.Errorf("a plain answer holds %s", plain)
		}
	})
}

// finishes tells a test how each request of the engine ended.
type finishes chan engine.FinishReason

func (finishes) Queued(int, int)          {}
func (finishes) Step(int, int)            {}
func (finishes) FirstToken(time.Duration) {}
func (finishes) Token(time.Duration)      {}
func (f finishes) Finished(r engine.FinishReason, _ engine.Usage, _ engine.Timings) {
	f <- r
}

// TestStopStringFrees: the engine does not go on to the limit after a stop string.
func TestStopStringFrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := tinyEncoding(t).Tokenizer().Encode(nil, "a string of bytes")
		steps := 0
		m := &fakeModel{
			answer: func([]int32, uint64) []int32 { return ids },
			// A step ends when everything else waits: the stop string is found before the next one.
			step: func() error { steps++; time.Sleep(time.Second); return nil },
		}
		ended := make(finishes, 1)
		r := newRigOf(t, m, engine.Options{Observer: ended})
		w := decode[textAnswer](t, r.post("/v1/completions", `{"prompt":[1],"max_tokens":2000,"stop":["ring"]}`))
		if c := w.Choices[0]; c.Text != "a st" || *c.Finish != "stop" || c.Stopped != "ring" {
			t.Errorf("%+v", c)
		}
		if reason := <-ended; reason != engine.ReasonAbort || steps > len(ids) {
			t.Errorf("the request ended with %v after %d steps", reason, steps)
		}
		r.quiet(t.Context())
	})
}

// TestSeeds: n answers have seeds in a row, and the same seed asks the engine for the same.
func TestSeeds(t *testing.T) {
	var mu sync.Mutex
	seeds := map[uint64]bool{}
	m := &fakeModel{answer: func(_ []int32, seed uint64) []int32 {
		mu.Lock()
		defer mu.Unlock()
		seeds[seed] = true
		return nil
	}}
	r := newRigOf(t, m, engine.Options{})
	r.post("/v1/completions", `{"prompt":[1],"n":3,"seed":7,"max_tokens":2}`)
	if want := (map[uint64]bool{7: true, 8: true, 9: true}); !cmp.Equal(seeds, want) {
		t.Errorf("seeds %v, want %v", seeds, want)
	}
	clear(seeds)
	r.post("/v1/completions", `{"prompt":[1],"max_tokens":1}`)
	r.post("/v1/completions", `{"prompt":[1],"max_tokens":1}`)
	if len(seeds) != 2 {
		t.Errorf("without a seed two requests must draw differently: %v", seeds)
	}
}

// TestConcurrent: answers of many requests at once do not mix.
func TestConcurrent(t *testing.T) {
	// The answer repeats the last token of the prompt as often as its number says.
	m := &fakeModel{answer: func(prompt []int32, _ uint64) []int32 {
		last := prompt[len(prompt)-1]
		return append(slices.Repeat([]int32{last}, int(last)), 604)
	}}
	r := newRigOf(t, m, engine.Options{})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			body := fmt.Sprintf(`{"prompt":[[1,%d],[2,%d]],"n":2,"max_tokens":100,"return_token_ids":true,"stream":%t}`, i+1, i+2, i%2 == 0)
			w := r.post("/v1/completions", body)
			got := make([][]int32, 4)
			if i%2 == 0 {
				for _, data := range events(t, w.Body) {
					if data != "[DONE]" {
						c := mustJSON[textAnswer](t, data).Choices[0]
						got[c.Index] = append(got[c.Index], c.TokenIDs...)
					}
				}
			} else {
				for _, c := range decode[textAnswer](t, w).Choices {
					got[c.Index] = c.TokenIDs
				}
			}
			for k, ids := range got {
				if want := m.answer([]int32{int32(i + 1 + k/2)}, 0); !slices.Equal(ids, want) {
					t.Errorf("request %d, answer %d: %v, want %v", i, k, ids, want)
				}
			}
		})
	}
	wg.Wait()
	r.quiet(t.Context())
}
