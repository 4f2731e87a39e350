package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"hearth/internal/engine"
	"hearth/internal/harmony"
	"hearth/internal/model"
	"hearth/internal/testmodel"
	"hearth/internal/tokenizer"
)

// fakeModel says what a script tells it to. It is a model for the real engine: pages, batches and sampling go the
// usual way, only the numbers are made up.
type fakeModel struct {
	// answer gives the tokens that follow a prompt. What comes after its end is filler.
	answer func(prompt []int32, seed uint64) []int32
	// step is called before each step; it may block, or fail the step. nil: nothing.
	step func() error
	// broken makes every draw fail with this error.
	broken error
}

const (
	fakeVocab   = 640
	fakeContext = 2048
	filler      = 'z' - '!' // the id of "z" in the tiny vocabulary, as in GPT-2's
)

func (m *fakeModel) Shape() model.Shape {
	return model.Shape{
		Vocab: fakeVocab, MaxContext: fakeContext, Window: 128, PageSize: 16, FullPages: 512, WindowPages: 512,
		MaxTokens: 256, MaxSeqs: 16, MaxLogits: 256,
	}
}

func (m *fakeModel) Step(b *model.Batch, out []model.Output) error {
	if m.step != nil {
		if err := m.step(); err != nil {
			return err
		}
	}
	for i, row := range b.Logits {
		out[i] = model.Output{Token: -1, Err: m.broken}
		best := b.Tokens[row.Row] // where nothing is drawn, the likeliest token repeats the last
		if s := row.Sample; s != nil {
			best = m.draw(s)
			out[i].Token, out[i].LogProb = best, -0.5
		}
		if row.Target >= 0 {
			out[i].TargetLogProb = -float32(row.Target%8) / 4
		}
		for k := range row.Top {
			out[i].Top = append(out[i].Top, model.TokenLogProb{
				ID: (best + int32(k)) % fakeVocab, LogProb: -0.5 - float32(k),
			})
		}
	}
	return nil
}

// draw takes the next token of the script, unless it is banned.
func (m *fakeModel) draw(s *model.Sampling) int32 {
	script := m.answer(s.Prompt, s.Seed)
	if n := len(s.Output); n < len(script) && !slices.Contains(s.Banned, script[n]) {
		return script[n]
	}
	return filler
}

// rig is a server on a fake model.
type rig struct {
	t      testing.TB
	model  *fakeModel
	engine *engine.Engine
	enc    *harmony.Encoding
	server *Server
}

// newRig starts a server whose model gives the same answer to everything, written with names of special tokens.
func newRig(t testing.TB, says string, change ...func(*Options)) *rig {
	t.Helper()
	enc := tinyEncoding(t)
	ids := enc.Tokenizer().EncodeSpecial(nil, says)
	return newRigOf(t, &fakeModel{answer: func([]int32, uint64) []int32 { return ids }}, engine.Options{}, change...)
}

func newRigOf(t testing.TB, m *fakeModel, eo engine.Options, change ...func(*Options)) *rig {
	t.Helper()
	enc := tinyEncoding(t)
	e, err := engine.New(m, eo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil && !errors.Is(err, model.ErrLost) {
			t.Error(err)
		}
	})
	o := Options{
		Engine: e, Harmony: enc, ModelID: "tiny", Aliases: []string{"hearth/tiny"}, MaxContext: fakeContext, Vocab: fakeVocab,
		Date: func() string { return "2025-06-28" }, Version: "test",
	}
	for _, c := range change {
		c(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t: t, model: m, engine: e, enc: enc, server: s}
}

// tinyEncoding is Harmony in the vocabulary of the tiny models.
func tinyEncoding(t testing.TB) *harmony.Encoding {
	t.Helper()
	tok, err := tokenizer.LoadFile(testmodel.Dir(t, "tiny-a/hf-mxfp4") + "/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	enc, err := harmony.New(tok)
	if err != nil {
		t.Fatal(err)
	}
	return enc
}

func (r *rig) encode(text string) []int32 { return r.enc.Tokenizer().EncodeSpecial(nil, text) }

// do sends a request and returns the whole answer.
func (r *rig) do(method, path, body string, header ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.server.Handler().ServeHTTP(w, req)
	return w
}

func (r *rig) post(path, body string) *httptest.ResponseRecorder {
	r.t.Helper()
	return r.do(http.MethodPost, path, body)
}

// decode reads an answer that must be a 200.
func decode[T any](t testing.TB, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return v
}

// errorBody is an error as a client reads it.
type errorBody struct {
	Error struct {
		Message, Type string
		Param, Code   *string
	}
}

// events splits a stream into the data of its events, [DONE] included.
func events(t testing.TB, body io.Reader) []string {
	t.Helper()
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for block := range bytes.SplitSeq(b, []byte("\n\n")) {
		if data, ok := bytes.CutPrefix(block, []byte("data: ")); ok {
			list = append(list, string(data))
		}
	}
	return list
}

// chatSum adds the chunks of a chat stream up, as a client does.
type chatSum struct {
	content, reasoning, finish string
	calls                      []toolCall
	tokens                     []int32
	usage                      *usage
	done                       bool
}

func addChat(t testing.TB, body io.Reader, choice int) chatSum {
	t.Helper()
	var sum chatSum
	for _, data := range events(t, body) {
		if data == "[DONE]" {
			sum.done = true
			continue
		}
		var chunk struct {
			Choices []chatChunkChoice
			Usage   *usage
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		if chunk.Usage != nil {
			sum.usage = chunk.Usage
		}
		for _, c := range chunk.Choices {
			if c.Index != choice {
				continue
			}
			sum.reasoning += c.Delta.Reasoning
			sum.tokens = append(sum.tokens, c.TokenIDs...)
			if c.Delta.Content != nil {
				sum.content += *c.Delta.Content
			}
			if c.Finish != nil {
				sum.finish += *c.Finish
			}
			for _, call := range c.Delta.ToolCalls {
				for *call.Index >= len(sum.calls) {
					sum.calls = append(sum.calls, toolCall{})
				}
				one := &sum.calls[*call.Index]
				one.ID += call.ID
				one.Type += call.Type
				one.Function.Name += call.Function.Name
				one.Function.Arguments += call.Function.Arguments
			}
		}
	}
	return sum
}

var errBroken = errors.New("logits are not finite")

// quiet waits until the engine holds nothing.
func (r *rig) quiet(ctx context.Context) {
	r.t.Helper()
	for {
		st := r.engine.Stats()
		if st.Running == 0 && st.Waiting == 0 && st.Full.Free+st.Full.Cached == st.Full.Total {
			return
		}
		if ctx.Err() != nil {
			r.t.Fatalf("the engine still holds %+v", st)
		}
	}
}

func mustJSON[T any](t testing.TB, data string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return v
}
