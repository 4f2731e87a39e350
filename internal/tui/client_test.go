package tui

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustClient(t *testing.T, o Options) *client {
	t.Helper()
	c, err := newClient(o.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBaseURL(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", "http://127.0.0.1:8000"},
		{"localhost:8000", "http://localhost:8000"},
		{"http://h:1/", "http://h:1"},
		{"http://h:1/v1", "http://h:1"},
		{"http://h:1/v1/", "http://h:1"},
		{"https://h/proxy/v1", "https://h/proxy"},
		{"http://[::1]:8000", "http://[::1]:8000"},
	} {
		if got := mustClient(t, Options{BaseURL: tc.in}).base; got != tc.want {
			t.Errorf("%q: %q, want %q", tc.in, got, tc.want)
		}
	}
	for _, bad := range []string{"ftp://h", "http://", "http://h:port", "http://h/?a=b", "http://h#a", "http:// h"} {
		if _, err := newClient(Options{BaseURL: bad}); err == nil || !strings.Contains(err.Error(), "base URL") {
			t.Errorf("%q: %v, want an error that names the base URL", bad, err)
		}
	}
}

func TestPickModel(t *testing.T) {
	const two = `{"data":[{"id":"a","max_model_len":100},{"id":"b","max_model_len":200}]}`
	for _, tc := range []struct {
		name, body, want string
		model            modelInfo
		err              string
	}{
		{"first", two, "", modelInfo{"a", 100}, ""},
		{"named", two, "b", modelInfo{"b", 200}, ""},
		{"alias of one of two", two, "c", modelInfo{"c", 0}, ""},
		{"alias of the only one", `{"data":[{"id":"a","max_model_len":100}]}`, "c", modelInfo{"c", 100}, ""},
		{"none", `{"data":[]}`, "", modelInfo{}, "lists no models"},
		{"not JSON", `<html>`, "", modelInfo{}, "list of models"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v1/models" || r.Method != http.MethodGet {
					t.Errorf("%s %s", r.Method, r.URL.Path)
				}
				io.WriteString(w, tc.body)
			}))
			defer s.Close()
			got, err := mustClient(t, Options{BaseURL: s.URL}).pickModel(t.Context(), tc.want)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || got != tc.model {
				t.Errorf("%v, %v, want %v", got, err, tc.model)
			}
		})
	}
}

// TestRequest compares the whole wire form of a request.
func TestRequest(t *testing.T) {
	f := newFakeServer(t)
	temperature, seed := 0.0, int64(7)
	o := Options{BaseURL: f.URL, APIKey: "secret", Temperature: &temperature, Seed: &seed, MaxTokens: 9}
	conv := &conversation{System: "be brief", Effort: "low", Turns: []turn{{"1+1?", "easy", "2"}, {Prompt: "plain"}}}
	s, err := mustClient(t, o).chat(t.Context(), o.request("m", conv))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	got, err := json.MarshalIndent(<-f.requests, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
 "model": "m",
 "messages": [
  {
   "role": "system",
   "content": "be brief"
  },
  {
   "role": "user",
   "content": "1+1?"
  },
  {
   "role": "assistant",
   "content": "2"
  },
  {
   "role": "user",
   "content": "plain"
  }
 ],
 "stream": true,
 "stream_options": {
  "include_usage": true
 },
 "reasoning_effort": "low",
 "temperature": 0,
 "seed": 7,
 "max_tokens": 9
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if h := <-f.headers; h.Get("Authorization") != "Bearer secret" || h.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", h)
	}
}

func TestAPIErrors(t *testing.T) {
	for _, tc := range []struct {
		status     int
		body, want string
	}{
		{400, `{"error":{"message":"too long","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}}`,
			"the server refused: too long (400 Bad Request, context_length_exceeded)"},
		{400, `{"object":"error","message":"vLLM\nsays","type":"BadRequestError","code":400}`,
			"the server refused: vLLM says (400 Bad Request, 400)"},
		{401, `{"error":{"message":"no key","code":"invalid_api_key"}}`,
			"the server refused: no key (401 Unauthorized, invalid_api_key); check the API key"},
		{404, `{"error":"model not found"}`, "the server refused: model not found (404 Not Found)"},
		{422, `{"detail":"field required"}`, "the server refused: field required (422 Unprocessable Entity)"},
		{422, `{"detail":[{"msg":"m"}]}`, `the server refused: [{"msg":"m"}] (422 Unprocessable Entity)`},
		{500, "", "the server refused: no explanation given (500 Internal Server Error)"},
		{502, "Bad\n gateway\x1b[31m", "the server refused: Bad gateway␛[31m (502 Bad Gateway)"},
		{0, `{"error":{"message":"no memory","type":"server_error"}}`, "the server stopped the answer: no memory (server_error)"},
	} {
		if got := parseAPIError(tc.status, []byte(tc.body)).Error(); got != tc.want {
			t.Errorf("%d %s:\n got %q\nwant %q", tc.status, tc.body, got, tc.want)
		}
	}
	long := parseAPIError(500, []byte(strings.Repeat("x", 10_000)))
	if n := len(long.Message); n > 210 {
		t.Errorf("a long body gives a message of %d bytes", n)
	}
}

func FuzzAPIError(f *testing.F) {
	for _, s := range []string{`{"error":{"message":"m","type":"t","code":"c"}}`, `{"error":"m"}`, `{"detail":[1]}`, `{"message":null}`, "<html>", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := parseAPIError(400, []byte(s)).Error()
		if strings.ContainsAny(got, "\n\r\x1b") || !strings.HasPrefix(got, "the server refused: ") {
			t.Errorf("message %q", got)
		}
	})
}

func TestChatErrors(t *testing.T) {
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, "<html>")
	}))
	defer html.Close()
	_, err := mustClient(t, Options{BaseURL: html.URL}).chat(t.Context(), chatRequest{})
	if err == nil || !strings.Contains(err.Error(), "text/html") {
		t.Errorf("a web page gives %v", err)
	}

	const gone = "http://127.0.0.1:1" // below the ephemeral range: no other test's server gets it
	_, err = mustClient(t, Options{BaseURL: gone}).chat(t.Context(), chatRequest{})
	if want := "no connection to " + gone + ": connection refused"; errText(err) != want {
		t.Errorf("a closed port gives %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = mustClient(t, Options{BaseURL: gone}).chat(ctx, chatRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled request gives %v", err)
	}
}

// TestChatWhole reads an answer of a server that does not stream.
func TestChatWhole(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"choices":[{"message":{"role":"assistant","content":"42"},"finish_reason":"stop"}]}`)
	}))
	defer s.Close()
	stream, err := mustClient(t, Options{BaseURL: s.URL}).chat(t.Context(), chatRequest{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := stream.next(t.Context())
	if err != nil || d.Content != "42" || d.Finish != "stop" {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := stream.next(t.Context()); err != io.EOF {
		t.Errorf("then %v, want io.EOF", err)
	}
}

// TestStopFreesServer checks that leaving an answer ends the request on the server.
func TestStopFreesServer(t *testing.T) {
	f := newFakeServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := mustClient(t, Options{BaseURL: f.URL}).chat(ctx, chatRequest{Messages: []message{{"user", "block"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for {
		d, err := s.next(ctx)
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if d.Content != "" {
			cancel()
		}
	}
	f.Close() // waits for open requests; a leaked one would block until the test times out
}
