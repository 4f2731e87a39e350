package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hearth/internal/tui"
)

// chatFlags are the flags of chat beyond those of the model.
type chatFlags struct {
	model       modelFlags
	url         string
	apiKey      string
	effort      string
	system      string
	temperature float64
	topP        float64
	seed        int64
	maxTokens   int
	reasoning   bool
}

func newChat(s Streams) *cobra.Command {
	var f chatFlags
	c := &cobra.Command{
		Use:   "chat [MODEL]",
		Short: "Talk to a model in the terminal",
		Long: `Chat loads a model and talks to it in the terminal, reasoning apart from the answer. In a pipe the whole input is one
message and the answer is plain text. Without MODEL it talks to the small demo model that is embedded in the program, with
--url to a server that runs already.`,
		Example: `  hearth chat
  hearth chat ./gpt-oss-20b
  echo "What is a sink?" | hearth chat ./gpt-oss-20b
  hearth chat --url http://127.0.0.1:8000`,
		Args: func(c *cobra.Command, args []string) error {
			if f.url != "" {
				return exactly(0, "no model beside --url")(c, args)
			}
			return atMost(1, "a model (a folder, a file or ORG/NAME), or --url")(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			o := f.options(s, c.Flags().Changed)
			if f.url != "" {
				return tui.Run(c.Context(), o)
			}
			return chat(c.Context(), modelArg(args), &f, o)
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.url, "url", "", "talk to this server instead of loading a model")
	fs.StringVar(&f.apiKey, "api-key", "", "key for --url (default: HEARTH_API_KEY)")
	fs.StringVar(&f.effort, "effort", "", "reasoning effort: low, medium or high")
	fs.StringVar(&f.system, "system", "", "instructions for the model")
	fs.Float64Var(&f.temperature, "temperature", 1, "0 always takes the most likely token (default: the model's)")
	fs.Float64Var(&f.topP, "top-p", 1, "draw from the most likely tokens that have this share together")
	fs.Int64Var(&f.seed, "seed", 0, "the same seed gives the same answer")
	fs.IntVar(&f.maxTokens, "max-tokens", 0, "longest answer, reasoning included (default: what the context leaves)")
	fs.BoolVar(&f.reasoning, "reasoning", false, "in a pipe, print the reasoning to standard error")
	f.model.add(fs, s)
	return c
}

func (f *chatFlags) options(s Streams, changed func(string) bool) tui.Options {
	o := tui.Options{
		BaseURL: f.url, APIKey: f.apiKey, Effort: f.effort, System: f.system, MaxTokens: f.maxTokens, ShowReasoning: f.reasoning,
		Interactive: isTerminal(s.In) && isTerminal(s.Out), In: s.In, Out: s.Out, Err: s.Err,
	}
	if o.APIKey == "" {
		o.APIKey = os.Getenv("HEARTH_API_KEY")
	}
	if changed("temperature") {
		o.Temperature = &f.temperature
	}
	if changed("top-p") {
		o.TopP = &f.topP
	}
	if changed("seed") {
		o.Seed = &f.seed
	}
	return o
}

// chat starts a server on a free port of this machine and talks to it, so that there is one way through the house.
func chat(ctx context.Context, arg string, f *chatFlags, o tui.Options) (err error) {
	log := slog.New(slog.DiscardHandler)
	path, name, err := resolveModel(ctx, o.Err, arg, &f.model.hub)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f.model.progress = o.Err
	r, err := load(path, &f.model, log, nil)
	if err != nil {
		l.Close()
		return err
	}
	defer r.Close()
	p := &printer{w: o.Err, width: 10}
	r.describeChanges(p)
	r.describeNotes(p)
	r.warm(o.Err, io.Discard, log) // once it has begun, the terminal is the conversation's
	date, err := dateMode("today", time.Now)
	if err != nil {
		return err
	}
	// The key keeps other users of this machine from talking to the model behind this terminal.
	key := rand.Text()
	h, err := r.newServer(name, &serveFlags{apiKeys: []string{key}}, date, nil, log)
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- h.Serve(serving, l) }()
	defer func() {
		stop()
		err = errors.Join(err, <-served)
	}()
	o.BaseURL, o.APIKey, o.Model = "http://"+l.Addr().String(), key, servedName(name, nil)
	// A proxy of the environment must not see a loopback connection.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	o.Client = &http.Client{Transport: transport}
	defer transport.CloseIdleConnections()
	err = tui.Run(ctx, o)
	if err != nil && strings.Contains(err.Error(), context.Canceled.Error()) && ctx.Err() != nil {
		return context.Canceled
	}
	return err
}
