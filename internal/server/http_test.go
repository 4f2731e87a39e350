package server

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHealthAndInfo(t *testing.T) {
	r := newRig(t, "x")
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/health", ""},
		{"HEAD", "/health", ""},
		{"GET", "/ping", ""},
		{"POST", "/ping", ""},
		{"GET", "/version", `{"version":"test"}` + "\n"},
		{"GET", "/", `{"api":"/v1","model":"tiny","server":"hearth","version":"test"}` + "\n"},
	} {
		w := r.do(c.method, c.path, "")
		if w.Code != http.StatusOK || w.Body.String() != c.want {
			t.Errorf("%s %s: status %d, body %q", c.method, c.path, w.Code, w.Body)
		}
	}
}

func TestModels(t *testing.T) {
	r := newRig(t, "x", func(o *Options) { o.Aliases = []string{"hearth/tiny", "tiny", "tiny:640"} })
	type list struct {
		Object string
		Data   []modelInfo
	}
	got := decode[list](t, r.do("GET", "/v1/models", ""))
	var ids []string
	for _, m := range got.Data {
		ids = append(ids, m.ID)
		if m.Object != "model" || m.Root != "tiny" || m.MaxModelLen != fakeContext || m.Created == 0 {
			t.Errorf("%+v", m)
		}
	}
	if diff := cmp.Diff([]string{"tiny", "hearth/tiny", "tiny:640"}, ids); diff != "" || got.Object != "list" {
		t.Errorf("object %q, ids (-want +got):\n%s", got.Object, diff)
	}
	for _, path := range []string{"tiny", "hearth/tiny", "hearth%2Ftiny", "tiny:640"} {
		if m := decode[modelInfo](t, r.do("GET", "/v1/models/"+path, "")); !strings.HasSuffix(path, m.ID) && m.ID != "hearth/tiny" {
			t.Errorf("%s: %+v", path, m)
		}
	}
}

func TestRequestID(t *testing.T) {
	r := newRig(t, "x")
	for sent, kept := range map[string]bool{
		"abc-123":                true,
		"":                       false,
		"with space":             false,
		strings.Repeat("x", 129): false,
		"é":                      false,
	} {
		got := r.do("GET", "/health", "", "X-Request-Id", sent).Header().Get("X-Request-Id")
		if kept != (got == sent) || !kept && !strings.HasPrefix(got, "req_") {
			t.Errorf("sent %q, got %q", sent, got)
		}
	}
}

func TestCORS(t *testing.T) {
	preflight := func(r *rig) *httptest.ResponseRecorder {
		return r.do("OPTIONS", "/v1/chat/completions", "", "Origin", "http://page", "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "authorization,x-stainless-os")
	}
	closed := newRig(t, "x")
	if w := preflight(closed); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without CORS: status %d, %v", w.Code, w.Header())
	}
	open := newRig(t, "x", func(o *Options) { o.CORS, o.APIKeys = true, []string{"k"} })
	if w := preflight(open); w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Headers") != "authorization,x-stainless-os" {
		t.Errorf("preflight: status %d, %v", w.Code, w.Header())
	}
	if w := open.do("GET", "/v1/models", "", "Origin", "http://page"); w.Code != http.StatusUnauthorized || w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("a page must be able to read the refusal: status %d, %v", w.Code, w.Header())
	}
}

// TestLogLine: one line a request, with what an operator asks for.
func TestLogLine(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, "<|channel|>final<|message|>Hi<|return|>", func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	line := func() string {
		defer log.Reset()
		if strings.Count(log.String(), "\n") != 1 {
			t.Fatalf("not one line:\n%s", log.String())
		}
		return log.String()
	}
	has := func(line string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(line, want) {
				t.Errorf("no %s in %s", want, line)
			}
		}
	}
	r.do("POST", "/v1/completions", `{"prompt":[1,2,3],"max_tokens":2}`, "X-Request-Id", "me")
	has(line(), "level=INFO", "id=me", "path=/v1/completions", "status=200", "prompt_tokens=3", "cached_tokens=0", "completion_tokens=2", "took=", "first_token=")
	r.post("/v1/completions", `{"prompt":[]}`)
	has(line(), "status=400", `error="prompt is an empty array"`)
	if r.do("GET", "/health", ""); log.Len() != 0 {
		t.Errorf("a probe was logged: %s", log.String())
	}
}

// TestWarnOnce: what a request asks for and does not get is said, but not for each request.
func TestWarnOnce(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, "<|channel|>final<|message|>{}<|return|>", func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	for range 2 {
		r.post("/v1/chat/completions", `{"messages":[{"role":"user","content":"Hi"}],"response_format":{"type":"json_object"}}`)
	}
	if n := strings.Count(log.String(), "response_format"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
}
