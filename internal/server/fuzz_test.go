package server

import (
	"encoding/json"
	"net/http"
	"testing"
)

// Both targets send any body to the real server: it must answer with JSON, with a 200 or a 4xx, and never with a 5xx.

func FuzzChatBody(f *testing.F) {
	for _, s := range []string{
		`{"messages":[{"role":"user","content":"Hi"}]}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}],"n":2,"max_tokens":3,"stop":["a","b"],"seed":-1}`,
		`{"messages":[{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"x"}],"max_tokens":1}`,
		`{"messages":[{"role":"user","content":"Hi"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"enum":[1]}}}}}],"tool_choice":"none","max_tokens":2}`,
		`{"messages":[{"role":"user","content":"Hi"}],"logprobs":true,"top_logprobs":2,"logit_bias":{"5":1},"max_tokens":2,"reasoning_effort":"none"}`,
		`{"messages":[{"role":"user","content":"Hi"}],"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{}}},"max_completion_tokens":1}`,
		`{"messages":[{"role":"user","content":"\ud800"}],"temperature":1e-300,"top_p":1e-300,"top_k":-1,"max_tokens":1}`,
		`{}`, `null`, `[`, `{"messages":{}}`,
	} {
		f.Add(s)
	}
	fuzzPath(f, "/v1/chat/completions")
}

func FuzzCompletionBody(f *testing.F) {
	for _, s := range []string{
		`{"prompt":"Given","max_tokens":2}`,
		`{"prompt":["a","<|start|>"],"echo":true,"logprobs":1,"max_tokens":0}`,
		`{"prompt":[1,2,3],"n":2,"max_tokens":1,"return_token_ids":true}`,
		`{"prompt":[[1],[2,3]],"stop":"x","max_tokens":3,"min_tokens":1,"ignore_eos":true}`,
		`{"prompt":"a","logit_bias":{"1":-100},"presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.1,"max_tokens":1}`,
		`{"prompt":[1e99]}`, `{"prompt":[null]}`, `{"prompt":[]}`, `"`, ``,
	} {
		f.Add(s)
	}
	fuzzPath(f, "/v1/completions")
}

func fuzzPath(f *testing.F, path string) {
	r := newRig(f, "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
		func(o *Options) { o.MaxContext = 400 })
	f.Fuzz(func(t *testing.T, body string) {
		var asked struct{ Stream bool }
		if json.Unmarshal([]byte(body), &asked) == nil && asked.Stream {
			t.Skip("a stream is not JSON; streams have their own tests")
		}
		w := (&rig{t: t, server: r.server}).post(path, body)
		if w.Code != http.StatusOK && w.Code != http.StatusTooManyRequests && w.Code/100 != 4 {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("not JSON: %s", w.Body)
		}
	})
}
