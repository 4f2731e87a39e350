package tui

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// fakeServer is an OpenAI-compatible server with prepared answers. The answer is chosen by the
// first word of the last user message; see fakeAnswers.
type fakeServer struct {
	*httptest.Server
	pause    time.Duration    // between chunks
	requests chan chatRequest // what was asked, if not nil
	headers  chan http.Header // the same for headers
}

func newFakeServer(t *testing.T) *fakeServer {
	f := &fakeServer{requests: make(chan chatRequest, 16), headers: make(chan http.Header, 16)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"object":"list","data":[{"id":"openai/gpt-oss-20b","object":"model","max_model_len":131072}]}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", f.chat)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeServer) chat(w http.ResponseWriter, r *http.Request) {
	var req chatRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case f.requests <- req:
		f.headers <- r.Header
	default:
	}
	last := req.Messages[len(req.Messages)-1].Content
	word, _, _ := strings.Cut(last, " ")
	a, ok := fakeAnswers[word]
	if !ok {
		a = fakeAnswers["hello"]
	}
	if a.status != 0 {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.status)
		fmt.Fprint(w, a.body)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	f.stream(w, r, a)
}

func (f *fakeServer) stream(w http.ResponseWriter, r *http.Request, a fakeAnswer) {
	send := func(data string) {
		fmt.Fprintf(w, "data: %s\n\n", data)
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(f.pause):
		}
	}
	fmt.Fprint(w, ": keep-alive\n\n")
	send(`{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}`)
	n := 0
	for _, p := range pieces(a.reasoning) {
		send(fmt.Sprintf(`{"choices":[{"index":0,"delta":{"reasoning":%[1]s,"reasoning_content":%[1]s}}]}`, quoteJSON(p)))
		n++
	}
	for _, p := range pieces(a.content) {
		send(fmt.Sprintf(`{"choices":[{"index":0,"delta":{"content":%s}}]}`, quoteJSON(p)))
		n++
	}
	if a.block {
		<-r.Context().Done()
		return
	}
	for _, raw := range a.raw {
		send(raw)
	}
	if a.cut {
		panic(http.ErrAbortHandler)
	}
	reason := a.finish
	if reason == "" {
		reason = "stop"
	}
	send(fmt.Sprintf(`{"choices":[{"index":0,"delta":{},"finish_reason":%q}]}`, reason))
	send(fmt.Sprintf(`{"choices":[],"usage":{"prompt_tokens":1200,"completion_tokens":%d,"total_tokens":%d}}`, n, 1200+n))
	send("[DONE]")
}

// pieces cuts text about as a tokenizer would.
func pieces(s string) []string {
	var out []string
	for s != "" {
		n := min(len(s), 4)
		for n < len(s) && s[n]&0xC0 == 0x80 {
			n++
		}
		out = append(out, s[:n])
		s = s[n:]
	}
	return out
}

func quoteJSON(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

type fakeAnswer struct {
	reasoning, content string
	raw                []string // further chunks
	finish             string   // "" is stop
	cut                bool     // drop the connection instead of ending
	block              bool     // wait until the client leaves
	status             int      // not 0: refuse with this body
	body               string
}

var fakeAnswers = map[string]fakeAnswer{
	"hello": {
		reasoning: "The user greets me. I should greet back, and be short.\nLet me also think about a second line that is long enough to be wrapped on most screens.",
		content:   "Hello! How can I **help** you today?",
	},
	"plain": {content: "Hello!"},
	"tour":  {reasoning: "A tour of *everything*.\n", content: tourText},
	"long":  {content: strings.Repeat("This is one of the many lines of a long paragraph that goes on and on. ", 60)},
	"poem":  {content: "Roses are red,\nviolets are blue,\n日本語のテキストもここにあります。\n"},
	"tool": {
		reasoning: "I need the weather.",
		raw: []string{
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"get_weather","arguments":""}}]}}]}`,
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]}}]}`,
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Paris\"}"}}]}}]}`,
		},
		finish: "tool_calls",
	},
	"think":   {reasoning: "Hm, let me see.\nThis will take a while, and it goes on", block: true},
	"limit":   {content: "An answer that is cut", finish: "length"},
	"limited": {reasoning: "Only thoughts.", finish: "length"},
	"empty":   {},
	"cut":     {content: "Half an answ", cut: true},
	"broken":  {content: "Half", raw: []string{`{"error":{"message":"the engine stopped","type":"server_error","code":null}}`}, cut: true},
	"escape":  {content: "red \x1b[31malert\x1b]0;title\a and \u009b2J"},
	"block":   {content: "This goes on ", block: true},
	"toolong": {status: 400, body: `{"error":{"message":"the prompt has 140000 tokens, the model takes 131072","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`},
	"denied":  {status: 401, body: `{"error":{"message":"incorrect API key","type":"authentication_error","param":null,"code":"invalid_api_key"}}`},
	"detail":  {status: 422, body: `{"detail":[{"loc":["body"],"msg":"field required"}]}`},
	"gateway": {status: 502, body: "<html>\n<body>Bad gateway</body></html>"},
}

const tourText = `# A tour

Some **bold**, *italic*, ~~struck~~ text with ` + "`code`" + ` and a [link](https://example.com/a/long/path/to/a/page). The mass is \(m_0 \cdot \gamma_1\).

## Lists

1. First item, which is long enough to be wrapped on a screen of eighty columns, I think.
   - nested bullet
     - deeper
   - another
2. Second item with code:

   ` + "```go" + `
   func main() { fmt.Println("hello") }
   ` + "```" + `
3. Third

- [x] done
- [ ] open

| Model | Parameters | Active | Notes |
|:------|-----------:|:------:|-------|
| gpt-oss-20b | 20.9 B | 3.6 B | fits in 16 GB |
| gpt-oss-120b | 116.8 B | 5.1 B | needs 80 GB, or several cards, or patience |
| 日本 | 1 | 2 | wide |

> A quote that says something deep.
> - with a list

` + "```python" + `
def fib(n):
    a, b = 0, 1
    while a < n:  # a very long comment that will not fit into eighty columns, so the terminal has to wrap it
        print(a)
        a, b = b, a + b

# 長いコメント、全角文字が八十桁を超えるまで続きます。全角文字が八十桁を超えるまで続きます。全角文字
` + "```" + `

\[
E = mc^2 - \frac{a}{b}
\]

---

The end.
`

// TestTerminal is for people: it runs the interactive chat on the terminal of the test, against
// a fake server. go test -c ./internal/tui && HEARTH_TUI_TERMINAL=20ms ./tui.test -test.run TestTerminal
func TestTerminal(t *testing.T) {
	pause := os.Getenv("HEARTH_TUI_TERMINAL")
	if pause == "" {
		t.Skip("needs a terminal and a person; set HEARTH_TUI_TERMINAL to the pause between chunks")
	}
	f := newFakeServer(t)
	var err error
	if f.pause, err = time.ParseDuration(pause); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), Options{BaseURL: f.URL, Interactive: true, Effort: "medium"}); err != nil {
		t.Fatal(err)
	}
}
