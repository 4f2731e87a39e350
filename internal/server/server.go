package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hearth/internal/engine"
	"hearth/internal/harmony"
	"hearth/internal/tokenizer"
)

// Options configure a Server. Engine, ModelID, MaxContext and Vocab are needed; the zero value of the rest works.
type Options struct {
	Engine    *engine.Engine
	Harmony   *harmony.Encoding    // nil: no chat
	Tokenizer *tokenizer.Tokenizer // nil: prompts and answers are token ids only

	ModelID    string
	Aliases    []string // further names under which the model answers
	MaxContext int      // tokens of prompt and answer together
	Vocab      int      // rows of the model's head; larger ids are refused
	EOS        []int32  // ids that end an answer; nil: those of Harmony

	Defaults Defaults
	Prompt   harmony.PromptOptions // identity and knowledge cutoff of the system message
	Date     func() string         // current date of the system message; nil or "": the line is left out

	APIKeys []string // any of them opens /v1, /tokenize and /detokenize; empty: no key is asked for
	CORS    bool     // let any web page call the server
	MaxBody int64    // bytes of a request body; 0: 32 MiB

	KeepAlive time.Duration // silence after which a stream gets a comment line; 0: 10 s
	IOTimeout time.Duration // for reading a request and for each write to a client; 0: 60 s
	Drain     time.Duration // for open requests after Serve's context ended; 0: 30 s

	Version string
	Metrics *Metrics     // also the engine's observer; nil: no /metrics
	Log     *slog.Logger // nil: discard
}

// Defaults are the sampling parameters of a request that names none. The zero value is OpenAI's: temperature 1,
// top_p 1, everything else off.
type Defaults struct {
	Temperature *float32 // nil: 1
	TopP        *float32 // nil: 1
	TopK        int
	MinP        float32
	Repetition  float32 // 0: 1
}

// Server answers the API for one engine. It may serve any number of listeners.
type Server struct {
	o        Options
	keys     [][sha256.Size]byte
	log      *slog.Logger
	started  time.Time
	handler  http.Handler
	draining atomic.Bool
	warnOnce sync.Map // message -> nil
}

// New makes a server.
func New(o Options) (*Server, error) {
	switch {
	case o.Engine == nil:
		return nil, errors.New("server needs an engine")
	case o.ModelID == "":
		return nil, errors.New("server needs a model name")
	case o.MaxContext < 1 || o.Vocab < 1:
		return nil, errors.New("server needs the model's context length and vocabulary size")
	case o.Harmony != nil && o.Tokenizer == nil:
		o.Tokenizer = o.Harmony.Tokenizer()
	}
	if o.EOS == nil && o.Harmony != nil {
		// A tokenizer that is bigger than the model is reported with the first prompt.
		o.EOS = slices.DeleteFunc(o.Harmony.StopTokens(), func(id int32) bool { return int(id) >= o.Vocab })
	}
	o.MaxBody = or(o.MaxBody, 32<<20)
	o.KeepAlive = or(o.KeepAlive, 10*time.Second)
	o.IOTimeout = or(o.IOTimeout, time.Minute)
	o.Drain = or(o.Drain, 30*time.Second)
	o.Aliases = otherNames(o.ModelID, o.Aliases)
	s := &Server{o: o, log: o.Log, started: time.Now()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, k := range o.APIKeys {
		s.keys = append(s.keys, sha256.Sum256([]byte(k)))
	}
	mux := s.routes()
	if o.Metrics != nil {
		h, err := o.Metrics.handler(o.Engine)
		if err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
		mux.Handle("/metrics", methods{http.MethodGet: h.ServeHTTP})
	}
	s.handler = s.observe(s.recoverPanic(s.cors(mux)))
	return s, nil
}

// otherNames are the aliases, each once, in their order.
func otherNames(model string, aliases []string) []string {
	var names []string
	for _, a := range aliases {
		if a != "" && a != model && !slices.Contains(names, a) {
			names = append(names, a)
		}
	}
	return names
}

func or[T ~int64](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Handler is the whole API.
func (s *Server) Handler() http.Handler { return s.handler }

// routes lists every path. The open ones answer without a key.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	open := func(path string, m methods) { mux.Handle(path, m) }
	keyed := func(path string, m methods) { mux.Handle(path, s.authorize(m)) }

	open("/{$}", methods{http.MethodGet: s.getRoot})
	open("/health", methods{http.MethodGet: s.getHealth})
	open("/ping", methods{http.MethodGet: s.getHealth, http.MethodPost: s.getHealth})
	open("/version", methods{http.MethodGet: s.getVersion})
	keyed("/v1/models", methods{http.MethodGet: s.getModels})
	keyed("/v1/models/{id...}", methods{http.MethodGet: s.getModel})
	keyed("/v1/chat/completions", methods{http.MethodPost: s.generate(s.readChat)})
	keyed("/v1/completions", methods{http.MethodPost: s.generate(s.readCompletion)})
	keyed("/tokenize", methods{http.MethodPost: s.compute(s.tokenize)})
	keyed("/detokenize", methods{http.MethodPost: s.compute(s.detokenize)})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { writeError(w, r, errNotFound(r)) })
	return mux
}

// generate makes the handler of requests that the engine answers.
func (s *Server) generate(read func(*object) (*job, *apiError)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o, err := s.readBody(w, r)
		if err != nil {
			writeError(w, r, err)
			return
		}
		j, err := read(o)
		if err != nil {
			writeError(w, r, err)
			return
		}
		s.respond(w, r, j)
	}
}

// compute makes the handler of requests that need no engine.
func (s *Server) compute(answer func(*object) (any, *apiError)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o, err := s.readBody(w, r)
		if err != nil {
			writeError(w, r, err)
			return
		}
		v, err := answer(o)
		if err != nil {
			writeError(w, r, err)
			return
		}
		_ = reply(w, v) // a client that is gone is no news
	}
}

// warn logs a message the first time it is given.
func (s *Server) warn(msg string) {
	if _, seen := s.warnOnce.LoadOrStore(msg, nil); !seen {
		s.log.Warn(msg)
	}
}
