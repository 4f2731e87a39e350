package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"hearth/internal/harmony"
	"hearth/internal/server"
)

// serveFlags are the flags of serve beyond those of the model.
type serveFlags struct {
	model    modelFlags
	host     string
	port     int
	portFile string
	names    []string
	apiKeys  []string
	date     string
	logLevel string
	cors     bool
}

func newServe(s Streams) *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve [MODEL]",
		Short: "Serve a model over OpenAI's API",
		Long: `Serve loads a checkpoint and answers OpenAI's API: chat completions, completions, models, tokenize. Without MODEL it
serves the small demo model that is embedded in the program. Requests that name no sampling parameters take those of the
model's generation_config.json, else OpenAI's (temperature 1).
Flags have vLLM's names where vLLM has them.`,
		Example: `  hearth serve ./gpt-oss-20b
  hearth serve openai/gpt-oss-20b --max-model-len 32768
  hearth serve ./gpt-oss-20b --host 0.0.0.0 --port 8080 --api-key secret --max-model-len 32768
  curl http://127.0.0.1:8000/v1/chat/completions -d '{"messages":[{"role":"user","content":"Hello"}]}'`,
		Args: atMost(1, "a model: a folder, a file or ORG/NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			return serve(c.Context(), s, modelArg(args), &f)
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.host, "host", "127.0.0.1", "address to listen on; 0.0.0.0 for every network")
	fs.IntVar(&f.port, "port", 8000, "port to listen on; 0 picks a free one")
	fs.StringVar(&f.portFile, "port-file", "", "write the port to this file once the server answers")
	fs.StringSliceVar(&f.names, "served-model-name", nil, "name in the API; more names, separated by commas, are aliases (default: the folder's name)")
	fs.StringSliceVar(&f.apiKeys, "api-key", nil, "key that clients must send; may be repeated (default: HEARTH_API_KEY, else none)")
	fs.StringVar(&f.date, "system-date", "today", "date in the system message: today (UTC), none, or YYYY-MM-DD, which keeps prompts cached past midnight")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.BoolVar(&f.cors, "cors", false, "let any web page call this server")
	f.model.add(fs, s)
	return c
}

func serve(ctx context.Context, s Streams, arg string, f *serveFlags) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	date, err := dateMode(f.date, time.Now)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(s.Err, &slog.HandlerOptions{Level: level}))
	// The port is taken before the model is read: a busy port is known at once.
	l, err := listen(f.host, f.port)
	if err != nil {
		return err
	}
	defer l.Close()
	path, name, err := resolveModel(ctx, s.Err, arg, &f.model.hub)
	if err != nil {
		return err
	}
	start := time.Now()
	metrics := server.NewMetrics(servedName(name, f.names))
	f.model.progress = s.Err
	r, err := load(path, &f.model, log, metrics)
	if err != nil {
		return err
	}
	defer r.Close()
	h, err := r.newServer(name, f, date, metrics, log)
	if err != nil {
		return err
	}
	p := &printer{w: s.Err, width: 10}
	r.describe(p)
	r.warm(s.Err, s.Err, log)
	p.line("ready", "http://%s/v1 after %.2f s (Ctrl-C stops)", l.Addr(), time.Since(start).Seconds())
	if f.portFile != "" {
		if err := writePort(f.portFile, l.Addr().(*net.TCPAddr).Port); err != nil {
			return err
		}
		defer os.Remove(f.portFile)
	}
	return h.Serve(ctx, l)
}

func listen(host string, port int) (net.Listener, error) {
	if port < 0 || port > 65535 {
		return nil, fmt.Errorf("--port %d: want 1 to 65535, or 0 for a free one", port)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("port %d on %s is taken by another program: choose one with --port, or 0 for a free one", port, host)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("port %d needs more rights than this user has: choose one above 1023 with --port", port)
	case err != nil:
		return nil, fmt.Errorf("--host %s --port %d: %w", host, port, err)
	}
	return l, nil
}

// writePort writes the file under another name first, so that a reader never sees half of it.
func writePort(path string, port int) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(port)+"\n"), 0o644); err != nil {
		return fmt.Errorf("--port-file: %w", err)
	}
	return os.Rename(tmp, path)
}

// newServer wires a loaded model to the API.
func (r *loaded) newServer(path string, f *serveFlags, date func() string, m *server.Metrics, log *slog.Logger) (*server.Server, error) {
	keys := f.apiKeys
	if env := os.Getenv("HEARTH_API_KEY"); len(keys) == 0 && env != "" {
		keys = []string{env}
	}
	defaults, err := samplingDefaults(r.checkpoint.Path())
	if err != nil {
		return nil, err
	}
	names := r.names(path, f.names)
	return server.New(server.Options{
		Engine: r.engine, Harmony: r.harmony, Tokenizer: r.tokenizer,
		ModelID: names[0], Aliases: names[1:], MaxContext: r.plan.MaxContext, Vocab: r.checkpoint.Config().Vocab, EOS: r.eos(),
		Prompt: harmony.PromptOptions{Identity: harmony.DefaultIdentity, KnowledgeCutoff: harmony.DefaultKnowledgeCutoff},
		Date:   date, Defaults: defaults,
		APIKeys: keys, CORS: f.cors, Version: Version, Metrics: m, Log: log,
	})
}

// servedName is the model's name in the API: the flag's first, or the folder's name.
func servedName(path string, flag []string) string {
	if len(flag) > 0 {
		return flag[0]
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return filepath.Base(path)
}

// names are the model's name and its aliases. The path itself and the names under which other servers offer the
// published sizes are aliases in any case.
func (r *loaded) names(path string, flag []string) []string {
	names := []string{servedName(path, flag)}
	if len(flag) > 1 {
		names = append(names, flag[1:]...)
	}
	names = append(names, path)
	switch k := r.checkpoint.Config(); {
	case k.Hidden == 2880 && k.Layers == 24:
		names = append(names, "gpt-oss-20b", "openai/gpt-oss-20b", "gpt-oss:20b")
	case k.Hidden == 2880 && k.Layers == 36:
		names = append(names, "gpt-oss-120b", "openai/gpt-oss-120b", "gpt-oss:120b")
	}
	return names
}

// eos are the ids that end an answer: Harmony's and the configuration's, as far as the model has rows for them.
func (r *loaded) eos() []int32 {
	ids := slices.Concat(r.harmony.StopTokens(), r.checkpoint.Config().EOS)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return slices.DeleteFunc(ids, func(id int32) bool { return id < 0 || int(id) >= r.checkpoint.Config().Vocab })
}

// dateMode turns --system-date into a function of the moment; "" leaves the line out.
func dateMode(mode string, now func() time.Time) (func() string, error) {
	switch mode {
	case "today":
		return func() string { return now().UTC().Format(time.DateOnly) }, nil
	case "none":
		return func() string { return "" }, nil
	}
	if _, err := time.Parse(time.DateOnly, mode); err != nil {
		return nil, fmt.Errorf("--system-date %q: want today, none, or a date such as 2025-06-28", mode)
	}
	return func() string { return mode }, nil
}
