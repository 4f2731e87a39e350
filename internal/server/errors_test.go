package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"

	"hearth/internal/engine"
)

// TestBadRequests runs the lists in testdata/bad: one body a line, and for each the status, param, code and message.
func TestBadRequests(t *testing.T) {
	datadriven.Walk(t, "testdata/bad", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			r := newRig(t, "<|channel|>final<|message|>x<|return|>", func(o *Options) {
				switch d.Cmd {
				case "ids-only": // no tokenizer at all
					o.Harmony, o.Tokenizer, o.EOS = nil, nil, []int32{604}
				case "small-vocabulary": // the tokenizer is bigger than the model
					o.Vocab = 300
				case "short-context":
					o.MaxContext = 120
				}
			})
			var out strings.Builder
			for body := range strings.Lines(d.Input) {
				w := r.post(d.CmdArgs[0].Key, strings.TrimSuffix(body, "\n"))
				out.WriteString(errorLine(t, w))
			}
			return out.String()
		})
	})
}

// errorLine checks the shape of an error and gives it in one line.
func errorLine(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	if w.Code == http.StatusOK {
		return "200\n"
	}
	var shape map[string]map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &shape); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	e := shape["error"]
	for _, key := range []string{"message", "type", "param", "code"} {
		if _, ok := e[key]; !ok || len(e) != 4 || len(shape) != 1 {
			t.Fatalf("not OpenAI's error shape: %s", w.Body)
		}
	}
	return fmt.Sprintf("%d %v %v: %v\n", w.Code, e["param"], e["code"], e["message"])
}

func TestErrorBodies(t *testing.T) {
	const body = `{"messages":[{"role":"user","content":"Hi"}]}`
	withKey := func(o *Options) { o.APIKeys = []string{"first", "second"} }
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		change                   func(*Options)
		status                   int
		want                     string
		wantHeader               [2]string
	}{
		{name: "unknown URL", method: "GET", path: "/v2/x", status: 404,
			want: `{"error":{"message":"unknown request URL: GET /v2/x","type":"invalid_request_error","param":null,"code":"unknown_url"}}`},
		{name: "wrong method", method: "GET", path: "/v1/chat/completions", status: 405,
			want:       `{"error":{"message":"GET is not allowed on /v1/chat/completions, use POST","type":"invalid_request_error","param":null,"code":"method_not_allowed"}}`,
			wantHeader: [2]string{"Allow", "POST"}},
		{name: "unknown model", method: "GET", path: "/v1/models/no/such", status: 404,
			want: `{"error":{"message":"the model \"no/such\" does not exist, this server has \"tiny\"","type":"invalid_request_error","param":"model","code":"model_not_found"}}`},
		{name: "no key", method: "POST", path: "/v1/chat/completions", body: body, change: withKey, status: 401,
			want:       `{"error":{"message":"the API key is missing or wrong: send it as \"Authorization: Bearer KEY\"","type":"authentication_error","param":null,"code":"invalid_api_key"}}`,
			wantHeader: [2]string{"WWW-Authenticate", "Bearer"}},
		{name: "wrong key", method: "GET", path: "/v1/models", header: []string{"Authorization", "Bearer third"}, change: withKey, status: 401,
			want: `{"error":{"message":"the API key is missing or wrong: send it as \"Authorization: Bearer KEY\"","type":"authentication_error","param":null,"code":"invalid_api_key"}}`},
		{name: "too large", method: "POST", path: "/v1/chat/completions", body: body, change: func(o *Options) { o.MaxBody = 10 }, status: 413,
			want: `{"error":{"message":"the request body is larger than 10 bytes","type":"invalid_request_error","param":null,"code":"request_too_large"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, "x", append([]func(*Options){}, orNothing(c.change))...)
			w := r.do(c.method, c.path, c.body, c.header...)
			if diff := cmp.Diff(c.want+"\n", w.Body.String()); diff != "" || w.Code != c.status {
				t.Errorf("status %d, body (-want +got):\n%s", w.Code, diff)
			}
			if got := w.Header().Get(c.wantHeader[0]); c.wantHeader[0] != "" && got != c.wantHeader[1] {
				t.Errorf("%s: %q, want %q", c.wantHeader[0], got, c.wantHeader[1])
			}
		})
	}
}

func orNothing(f func(*Options)) func(*Options) {
	if f == nil {
		return func(*Options) {}
	}
	return f
}

func TestKeys(t *testing.T) {
	r := newRig(t, "x", func(o *Options) { o.APIKeys = []string{"first", "second"} })
	for _, c := range []struct {
		path, header string
		status       int
	}{
		{"/v1/models", "Bearer first", 200},
		{"/v1/models", "bearer second", 200},
		{"/v1/models", "Basic first", 401},
		{"/v1/models", "Bearer ", 401},
		{"/v1/models", "Bearer firs", 401},
		{"/health", "", 200},
		{"/version", "", 200},
	} {
		if w := r.do(http.MethodGet, c.path, "", "Authorization", c.header); w.Code != c.status {
			t.Errorf("%s with %q: status %d, want %d", c.path, c.header, w.Code, c.status)
		}
	}
}

func TestQueueFull(t *testing.T) {
	gate := make(chan struct{})
	defer close(gate)
	m := &fakeModel{
		answer: func([]int32, uint64) []int32 { return nil },
		step:   func() error { <-gate; return nil },
	}
	r := newRigOf(t, m, engine.Options{MaxQueue: 1})
	// More answers than the model runs at once and the queue holds, so the request is refused as a whole.
	w := r.post("/v1/completions", `{"prompt":[1],"n":64,"max_tokens":1}`)
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" {
		t.Fatalf("status %d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
	if e := *decodeError(t, w).Error.Code; e != "rate_limit_exceeded" {
		t.Errorf("code %s", e)
	}
}

func TestClosedEngine(t *testing.T) {
	r := newRig(t, "x")
	if err := r.engine.Close(); err != nil {
		t.Fatal(err)
	}
	w := r.post("/v1/completions", `{"prompt":[1]}`)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
}

// TestEngineFailure: before the first chunk an error has a status of its own, after it the error is an event.
func TestEngineFailure(t *testing.T) {
	steps := 0
	m := &fakeModel{answer: func([]int32, uint64) []int32 { return nil }}
	m.step = func() error {
		if steps++; steps > 2 {
			m.broken = errBroken
		}
		return nil
	}
	r := newRigOf(t, m, engine.Options{})
	first := r.post("/v1/completions", `{"prompt":[1],"stream":true}`)
	list := events(t, first.Body)
	if n := len(list); first.Code != http.StatusOK || n < 3 || list[n-1] != "[DONE]" || !strings.Contains(list[n-2], `"code":"server_error"`) {
		t.Fatalf("status %d, events %q", first.Code, list)
	}
	for _, stream := range []bool{false, true} {
		w := r.post("/v1/completions", fmt.Sprintf(`{"prompt":[1],"stream":%t}`, stream))
		if e := decodeError(t, w); w.Code != http.StatusInternalServerError || !strings.Contains(e.Error.Message, errBroken.Error()) {
			t.Errorf("stream %t: status %d: %s", stream, w.Code, w.Body)
		}
	}
}

func decodeError(t testing.TB, w *httptest.ResponseRecorder) errorBody {
	t.Helper()
	var e errorBody
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error.Message == "" {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return e
}

// TestPanic: a bug in a handler is a 500 and a logged stack, not a dropped connection.
func TestPanic(t *testing.T) {
	r := newRig(t, "x", func(o *Options) { o.Date = func() string { panic("boom") } })
	w := r.post("/v1/chat/completions", `{"messages":[{"role":"user","content":"Hi"}]}`)
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "boom") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

func TestOptions(t *testing.T) {
	r := newRig(t, "x")
	good := r.server.o
	for name, change := range map[string]func(*Options){
		"no engine":  func(o *Options) { o.Engine = nil },
		"no name":    func(o *Options) { o.ModelID = "" },
		"no context": func(o *Options) { o.MaxContext = 0 },
		"no vocab":   func(o *Options) { o.Vocab = 0 },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if !slices.Equal(r.server.o.EOS, r.enc.StopTokens()) {
		t.Errorf("end ids %v", r.server.o.EOS)
	}
}
