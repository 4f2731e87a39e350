package server

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hearth/internal/engine"
)

// TestEngineRequest: what a body asks for is what the engine is asked for.
func TestEngineRequest(t *testing.T) {
	temperature, topP := float32(0.5), float32(0.9)
	ours := Defaults{Temperature: &temperature, TopP: &topP, TopK: 40, MinP: 0.1, Repetition: 1.1}
	plain := engine.Request{
		Prompt: []int32{1}, MaxTokens: 16, Logprobs: -1, PromptLogprobs: -1,
		Sampling: engine.Sampling{Temperature: 1, TopP: 1, Seed: 7},
	}
	for _, c := range []struct {
		name, body string
		defaults   Defaults
		change     func(*engine.Request)
	}{
		{"OpenAI's defaults", `{}`, Defaults{}, func(*engine.Request) {}},
		{"the server's defaults", `{}`, ours, func(r *engine.Request) {
			r.Sampling.Temperature, r.Sampling.TopP, r.Sampling.TopK, r.Sampling.MinP, r.Sampling.Repetition = 0.5, 0.9, 40, 0.1, 1.1
		}},
		{"the request comes before the server", `{"temperature":0,"top_p":1,"top_k":-1,"min_p":0,"repetition_penalty":1}`, ours, func(r *engine.Request) {
			r.Sampling.Temperature, r.Sampling.TopP, r.Sampling.Repetition = 0, 1, 1
		}},
		{"too cold for a division is greedy", `{"temperature":1e-30,"top_p":0.25}`, Defaults{}, func(r *engine.Request) {
			r.Sampling.Temperature, r.Sampling.TopP = 0, 0.25
		}},
		{"penalties and bias, in order of ids", `{"presence_penalty":1,"frequency_penalty":-2,"logit_bias":{"9":-100,"2":1.5,"30":100}}`, Defaults{}, func(r *engine.Request) {
			r.Sampling.Presence, r.Sampling.Frequency = 1, -2
			r.Sampling.Bias = []engine.Bias{{ID: 2, Value: 1.5}, {ID: 9, Value: -100}, {ID: 30, Value: 100}}
		}},
		{"a negative seed", `{"seed":-1}`, Defaults{}, func(r *engine.Request) { r.Sampling.Seed = 1<<64 - 1 }},
		{"ends", `{"max_tokens":9,"min_tokens":3,"stop_token_ids":[5,6],"ignore_eos":true}`, Defaults{}, func(r *engine.Request) {
			r.MaxTokens, r.MinTokens, r.Stop, r.IgnoreEOS = 9, 3, []int32{5, 6}, true
		}},
		{"without a limit the least length counts", `{"min_tokens":30}`, Defaults{}, func(r *engine.Request) { r.MaxTokens, r.MinTokens = 30, 30 }},
		{"log-probabilities", `{"logprobs":3}`, Defaults{}, func(r *engine.Request) { r.Logprobs = 3 }},
		{"log-probabilities of the prompt", `{"logprobs":3,"echo":true}`, Defaults{}, func(r *engine.Request) { r.Logprobs, r.PromptLogprobs = 3, 3 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, "x", func(o *Options) { o.Defaults = c.defaults })
			body := strings.TrimSuffix(c.body, "}") + `,"prompt":[1],"seed":7}`
			if strings.Contains(c.body, "seed") {
				body = strings.Replace(body, `,"seed":7`, "", 1)
			}
			o, err := parseBody([]byte(strings.Replace(body, "{,", "{", 1)))
			if err != nil {
				t.Fatal(err)
			}
			j, err := r.server.readCompletion(o)
			if err != nil {
				t.Fatal(err)
			}
			want := plain
			want.EOS = r.enc.StopTokens()
			c.change(&want)
			if diff := cmp.Diff(want, j.requests[0], cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestChatLimit: without a limit an answer may take the rest of the context; the newer name of the limit counts.
func TestChatLimit(t *testing.T) {
	r := newRig(t, "x")
	for body, want := range map[string]int{
		``:                   fakeContext,
		`,"max_tokens":null`: fakeContext,
		`,"max_tokens":9`:    9,
		`,"max_tokens":9,"max_completion_tokens":8`: 8,
	} {
		o, err := parseBody([]byte(`{"messages":[` + hello + `]` + body + `}`))
		if err != nil {
			t.Fatal(err)
		}
		j, err := r.server.readChat(o)
		if err != nil {
			t.Fatal(err)
		}
		q := j.requests[0]
		if want == fakeContext {
			want -= len(q.Prompt)
		}
		if q.MaxTokens != want {
			t.Errorf("%s: %d tokens, want %d", body, q.MaxTokens, want)
		}
	}
}
