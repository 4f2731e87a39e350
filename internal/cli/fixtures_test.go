package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"hearth/internal/testmodel"
)

// The tolerances of the issue that this test is: log-probabilities of prompt tokens through the API against
// transformers in float64.
const (
	worstTolerance = 5e-4
	meanTolerance  = 5e-5
)

// startServer serves a checkpoint as `hearth serve` does and returns its base URL.
func startServer(t *testing.T, path string) string {
	t.Helper()
	return startServerOn(t, path, deviceFlags{device: "cpu"})
}

func startServerOn(t *testing.T, path string, where deviceFlags) string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	r, err := load(path, &modelFlags{where: where, kvBytes: 512 << 20, maxModelLen: 8192}, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	date, err := dateMode("2025-06-28", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.newServer(path, &serveFlags{names: []string{"tiny"}}, date, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		h.Close()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return h.URL
}

type completion struct {
	Choices []struct {
		TokenIDs []int32 `json:"token_ids"`
		Finish   string  `json:"finish_reason"`
		Logprobs struct {
			TokenLogprobs []*float64 `json:"token_logprobs"`
		}
	}
	Error *struct {
		Message, Param string
		Code           any
	}
}

func post(t *testing.T, url string, body any) (c completion) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return c
}

// Every kind of layout through /v1/completions, as a client sees it: prompt log-probabilities by echo, and the greedy
// continuation. Package model runs every folder and the longest prompt; here the whole house does.
func TestCompletionsMatchTransformers(t *testing.T) {
	for folder, values := range map[string]string{
		"tiny-a/hf-mxfp4":              "mxfp4",
		"tiny-a/openai-original":       "mxfp4",
		"tiny-a/hf-bf16":               "mxfp4",
		"tiny-a/per-expert-bf16":       "mxfp4",
		"tiny-a/gguf-ollama-v0.12.6":   "mxfp4",
		"tiny-a/unsloth-nf4-dq":        "unsloth-nf4-dq",
		"tiny-a/unsloth-nf4-dq-attn":   "unsloth-nf4-dq-attn",
		"tiny-a/unsloth-fp4-dq":        "unsloth-fp4-dq",
		"tiny-square/fused-nf4":        "fused-nf4",
		"tiny-square/unsloth-nf4-dq":   "unsloth-nf4-dq",
		"tiny-a/per-expert-split-bf16": "mxfp4",
	} {
		t.Run(folder, func(t *testing.T) {
			if testmodel.Race && folder != "tiny-a/unsloth-nf4-dq" {
				t.Skip("the race detector is on: one folder runs")
			}
			t.Parallel()
			kind, _, _ := strings.Cut(folder, "/")
			var want struct {
				Prompts []struct {
					Name      string
					IDs       []int32
					Positions []int
					Next      []*float64 `json:"next_logprobs"`
					Greedy    struct{ IDs []int32 }
				}
			}
			if err := json.Unmarshal(testmodel.Expected(t, kind+"/"+values+".json"), &want); err != nil {
				t.Fatal(err)
			}
			url := startServer(t, testmodel.Dir(t, folder)) + "/v1/completions"
			for _, p := range want.Prompts {
				if len(p.IDs) > 1000 || len(p.IDs) > 100 && testmodel.Race {
					continue
				}
				c := post(t, url, map[string]any{"prompt": p.IDs, "echo": true, "logprobs": 0, "max_tokens": 0})
				if c.Error != nil || len(c.Choices) != 1 {
					t.Fatalf("%s: %+v", p.Name, c)
				}
				got := c.Choices[0].Logprobs.TokenLogprobs
				var worst, sum, n float64
				for i, at := range p.Positions {
					if p.Next[i] == nil {
						continue
					}
					if got[at+1] == nil {
						t.Fatalf("%s: no log-probability at position %d", p.Name, at+1)
					}
					d := math.Abs(*got[at+1] - *p.Next[i])
					worst, sum, n = max(worst, d), sum+d, n+1
				}
				if worst > worstTolerance || n > 0 && sum/n > meanTolerance {
					t.Errorf("%s: off by up to %.2g, %.2g in the mean of %v", p.Name, worst, sum/max(n, 1), n)
				}
				c = post(t, url, map[string]any{"prompt": p.IDs, "max_tokens": len(p.Greedy.IDs), "temperature": 0, "ignore_eos": true, "return_token_ids": true})
				if !slices.Equal(c.Choices[0].TokenIDs, p.Greedy.IDs) {
					t.Errorf("%s: greedy %v, want %v", p.Name, c.Choices[0].TokenIDs, p.Greedy.IDs)
				}
			}
		})
	}
}

// A folder without a tokenizer gets o200k_harmony, whose ids may lie past a smaller model's vocabulary: text is then a
// clear 400, token ids work, and --tokenizer takes another.
func TestTextPastTheVocabulary(t *testing.T) {
	dir := testmodel.Dir(t, "tiny-a/openai-original")
	url := startServer(t, dir)
	c := post(t, url+"/v1/completions", map[string]any{"prompt": "hello world"})
	if c.Error == nil || !strings.Contains(c.Error.Message, "--tokenizer") || !strings.Contains(c.Error.Message, "640") {
		t.Errorf("text past the vocabulary: %+v", c.Error)
	}
	c = post(t, url+"/v1/chat/completions", map[string]any{"messages": []any{map[string]any{"role": "user", "content": "hello"}}})
	if c.Error == nil || !strings.Contains(c.Error.Message, "--tokenizer") {
		t.Errorf("chat past the vocabulary: %+v", c.Error)
	}
}
