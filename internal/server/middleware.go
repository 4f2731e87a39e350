package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// methods is the handler of one path: a function for each method.
type methods map[string]http.HandlerFunc

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, ok := m[r.Method]
	if !ok && r.Method == http.MethodHead {
		h, ok = m[http.MethodGet]
	}
	if !ok {
		allow := strings.Join(slices.Sorted(maps.Keys(m)), ", ")
		w.Header().Set("Allow", allow)
		writeError(w, r, errMethod(r, allow))
		return
	}
	h(w, r)
}

// exchange is what is known of one request for its log line. It travels in the request's context; only the request's
// own goroutine writes to it.
type exchange struct {
	id     string
	status int
	usage  usage
	first  time.Duration // until the first token; 0: none came
	stream bool
	err    *apiError
}

type exchangeKey struct{}

// statusGone is nginx's number for a client that went away before its answer. It is logged, never sent.
const statusGone = 499

// exchangeOf returns the request's record. Every request that came through observe has one.
func exchangeOf(r *http.Request) *exchange {
	if x, ok := r.Context().Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{}
}

// observe gives every request an id, writes one log line for it and counts it.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		x := &exchange{id: requestID(r)}
		w.Header().Set("X-Request-Id", x.id)
		r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
		defer func() { // also when the answer is cut by a panic
			took := time.Since(start)
			s.logExchange(r, x, took)
			if s.o.Metrics != nil {
				s.o.Metrics.answered(r.Pattern, r.Method, x.status, took)
			}
		}()
		next.ServeHTTP(&recorder{ResponseWriter: w, x: x, timeout: s.o.IOTimeout}, r)
	})
}

func (s *Server) logExchange(r *http.Request, x *exchange, took time.Duration) {
	level := slog.LevelInfo
	if x.status == http.StatusOK && slices.Contains([]string{"/health", "/ping", "/metrics"}, r.URL.Path) {
		level = slog.LevelDebug // probes would drown everything else
	}
	attrs := []slog.Attr{
		slog.String("id", x.id), slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", x.status), slog.Duration("took", took.Round(time.Microsecond)),
	}
	if x.usage.Prompt > 0 {
		attrs = append(attrs, slog.Bool("stream", x.stream),
			slog.Int("prompt_tokens", x.usage.Prompt), slog.Int("cached_tokens", x.usage.cached()),
			slog.Int("completion_tokens", x.usage.Completion), slog.Duration("first_token", x.first.Round(time.Microsecond)))
	}
	if x.err != nil {
		attrs = append(attrs, slog.String("error", x.err.message))
	}
	s.log.LogAttrs(context.WithoutCancel(r.Context()), level, "request", attrs...)
}

// requestID is the client's X-Request-Id if it is fit for a log line, else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return newID("req_")
	}
	return id
}

func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

// recorder notes the status of an answer, and bounds the time of each write: a client that does not read must not hold its
// request for ever.
type recorder struct {
	http.ResponseWriter
	x       *exchange
	timeout time.Duration
}

// limit begins the time of the next write. net/http lifts it before the connection's next request.
func (w *recorder) limit() {
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.timeout)) // not every ResponseWriter can
}

func (w *recorder) WriteHeader(status int) {
	if w.x.status == 0 {
		w.x.status = status
	}
	w.limit()
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.x.status == 0 {
		w.x.status = http.StatusOK
	}
	w.limit()
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recoverPanic turns a bug into a 500 and a logged stack instead of a dropped connection.
func (s *Server) recoverPanic(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			x := exchangeOf(r)
			s.log.Error("panic in a request", "id", x.id, "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			if x.status != 0 {
				panic(http.ErrAbortHandler) // the answer has begun: cut it, so that nobody takes it for whole
			}
			writeError(w, r, errServer("internal error, see the server's log for request %s", x.id))
		}()
		next.ServeHTTP(w, r)
	})
}

// cors lets web pages of any origin call the server, if that was asked for.
func (s *Server) cors(next http.Handler) http.Handler {
	if !s.o.CORS {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
			h.Set("Access-Control-Allow-Headers", requestedHeaders(r))
			h.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// requestedHeaders allows what the browser asks for: a wildcard does not cover Authorization.
func requestedHeaders(r *http.Request) string {
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		return asked
	}
	return "Authorization, Content-Type"
}

// authorize asks for one of the keys. Hashes are compared, all of them, so the time tells nothing about a key.
func (s *Server) authorize(next http.Handler) http.Handler {
	if len(s.keys) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		sum := sha256.Sum256([]byte(strings.TrimSpace(key)))
		match := 0
		for i := range s.keys {
			match |= subtle.ConstantTimeCompare(sum[:], s.keys[i][:])
		}
		if match != 1 || !strings.EqualFold(scheme, "bearer") {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, r, &apiError{
				status: http.StatusUnauthorized, kind: "authentication_error", code: "invalid_api_key",
				message: "the API key is missing or wrong: send it as \"Authorization: Bearer KEY\"",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// readBody reads a request's JSON object.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (*object, *apiError) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.o.MaxBody))
	if err != nil {
		w.Header().Set("Connection", "close") // the rest of the body is still on its way
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, errorOf(err, "")
		}
		return nil, &apiError{
			status: http.StatusRequestTimeout, kind: kindInvalid, code: "body_unreadable",
			message: fmt.Sprintf("the request body could not be read: %v", err),
		}
	}
	return parseBody(body)
}

// writeError answers with an error.
func writeError(w http.ResponseWriter, r *http.Request, err *apiError) {
	exchangeOf(r).err = err
	w.Header().Set("Content-Type", "application/json")
	if err.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(err.retry))
	}
	w.WriteHeader(err.status)
	_ = writeJSON(w, err) // a client that is gone is no news
}

// reply answers with JSON.
func reply(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return writeJSON(w, v)
}
