package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkChatStream is the server's own cost of a token: the model and its engine cost next to nothing here.
func BenchmarkChatStream(b *testing.B) {
	r := newRig(b, "<|channel|>final<|message|>"+strings.Repeat(" the string", 1000))
	for _, extra := range []string{"", `,"stop":["never said","nor this"]`, `,"logprobs":true,"top_logprobs":5`} {
		b.Run(strings.SplitN(extra+`,"none"`, `"`, 3)[1], func(b *testing.B) {
			const tokens = 1000
			body := fmt.Sprintf(`{"messages":[%s],"stream":true,"max_tokens":%d%s}`, hello, tokens, extra)
			b.ReportAllocs()
			for b.Loop() {
				req := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(body))
				r.server.Handler().ServeHTTP(&discard{header: http.Header{}}, req)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*tokens), "ns/token")
		})
	}
}

// discard is a client that throws everything away.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Flush()                      {}
