// Package tui is the terminal chat. It talks to any OpenAI-compatible server over HTTP
// (POST /v1/chat/completions with stream: true, GET /v1/models) and never imports another
// package of this module, so it works the same against a local and a foreign host.
//
// It has two modes. In pipe mode the whole input is one user message and the answer is
// streamed as plain text. In interactive mode it is an inline bubbletea program: finished
// text is printed once into the terminal's scrollback, and only the block that is still
// growing, the status line and the input are redrawn.
//
// Text from the server is untrusted: control characters never reach the terminal.
package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// DefaultBaseURL is where `hearth serve` listens unless told otherwise.
const DefaultBaseURL = "http://127.0.0.1:8000"

// Options configures a chat. The zero value talks to DefaultBaseURL in pipe mode.
type Options struct {
	BaseURL string // scheme://host[:port][/path][/v1]; "" is DefaultBaseURL; no scheme means http
	Model   string // "" takes the first entry of GET /v1/models
	APIKey  string // sent as a bearer token when not empty

	Effort string // reasoning effort: low, medium or high; "" leaves the server's default
	System string // system message; "" sends none

	Temperature *float64 // nil leaves the server's default, as for the next two
	TopP        *float64
	Seed        *int64
	MaxTokens   int // limit of generated tokens, reasoning included; 0 leaves the server's default

	// ShowReasoning writes the model's reasoning to Err in pipe mode. Interactive mode
	// always shows it, and folds it with a key.
	ShowReasoning bool

	// Interactive starts the terminal program. In and Out must then be a terminal.
	Interactive bool

	In       io.Reader // nil is os.Stdin
	Out, Err io.Writer // nil is os.Stdout, os.Stderr

	Env    []string     // "KEY=value"; nil is os.Environ(). Read: NO_COLOR, TERM
	Client *http.Client // nil is a client without a total timeout, since answers may take minutes
}

// Run chats until the user leaves (interactive) or the one answer is complete (pipe). Errors
// of the server are *APIError; a cancelled ctx ends both modes with its error.
func Run(ctx context.Context, o Options) error {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return err
	}
	c, err := newClient(o)
	if err != nil {
		return err
	}
	if o.Interactive {
		return runInteractive(ctx, o, c)
	}
	return runPipe(ctx, o, c)
}

func (o Options) withDefaults() Options {
	if o.BaseURL == "" {
		o.BaseURL = DefaultBaseURL
	}
	if o.In == nil {
		o.In = os.Stdin
	}
	if o.Out == nil {
		o.Out = os.Stdout
	}
	if o.Err == nil {
		o.Err = os.Stderr
	}
	if o.Env == nil {
		o.Env = os.Environ()
	}
	if o.Client == nil {
		o.Client = &http.Client{}
	}
	return o
}

func (o Options) check() error {
	var errs []error
	if err := checkEffort(o.Effort); o.Effort != "" && err != nil {
		errs = append(errs, err)
	}
	if o.MaxTokens < 0 {
		errs = append(errs, fmt.Errorf("max tokens %d: must not be negative", o.MaxTokens))
	}
	if o.Interactive && getenv(o.Env, "TERM") == "dumb" {
		errs = append(errs, errors.New("TERM=dumb: this terminal cannot show the chat; send a message through a pipe instead"))
	}
	return errors.Join(errs...)
}

// checkEffort accepts the three reasoning efforts of GPT-OSS.
func checkEffort(s string) error {
	switch s {
	case "low", "medium", "high":
		return nil
	}
	return fmt.Errorf("effort %q: must be low, medium or high", s)
}

// getenv finds the last setting of a variable in an environment list.
func getenv(env []string, key string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(env[i], key+"="); ok {
			return v
		}
	}
	return ""
}
