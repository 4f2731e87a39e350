package tui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

const (
	maxErrorBody  = 64 << 10
	maxModelsBody = 4 << 20
	maxWholeBody  = 64 << 20 // an answer from a server that ignores stream: true
)

// APIError is a refusal by the server, before or during an answer.
type APIError struct {
	Status  int    // HTTP status; 0 if the error arrived inside the stream
	Type    string // "invalid_request_error", ...
	Code    string // "context_length_exceeded", ...
	Message string
}

func (e *APIError) Error() string {
	var b strings.Builder
	b.WriteString("the server refused: ")
	if e.Status == 0 {
		b.Reset()
		b.WriteString("the server stopped the answer: ")
	}
	b.WriteString(oneLine(e.Message))
	var notes []string
	if e.Status != 0 {
		notes = append(notes, fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)))
	}
	if e.Code != "" {
		notes = append(notes, oneLine(e.Code))
	} else if e.Type != "" {
		notes = append(notes, oneLine(e.Type))
	}
	if len(notes) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(notes, ", "))
	}
	if e.Status == http.StatusUnauthorized {
		b.WriteString("; check the API key")
	}
	return b.String()
}

// errCut means that the connection ended before the answer did.
var errCut = errors.New("the server closed the connection before the answer was complete")

// message is one turn as the API takes it.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// chatRequest is the body of POST /v1/chat/completions.
type chatRequest struct {
	Model           string         `json:"model"`
	Messages        []message      `json:"messages"`
	Stream          bool           `json:"stream"`
	StreamOptions   *streamOptions `json:"stream_options,omitempty"`
	ReasoningEffort string         `json:"reasoning_effort,omitempty"`
	Temperature     *float64       `json:"temperature,omitempty"`
	TopP            *float64       `json:"top_p,omitempty"`
	Seed            *int64         `json:"seed,omitempty"`
	MaxTokens       int            `json:"max_tokens,omitempty"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// usage counts the tokens of one answer.
type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
}

// modelInfo is one entry of GET /v1/models. MaxLen is the context length in tokens, 0 if the
// server does not tell.
type modelInfo struct {
	ID     string `json:"id"`
	MaxLen int    `json:"max_model_len"`
}

// client talks to one server.
type client struct {
	base string // scheme://host[:port][/path], without /v1
	key  string
	http *http.Client
}

func newClient(o Options) (*client, error) {
	raw := o.BaseURL
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("base URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("base URL %q: want http://host:port or https://host/path", o.BaseURL)
	}
	base := strings.TrimSuffix(strings.TrimRight(u.String(), "/"), "/v1")
	return &client{base: base, key: o.APIKey, http: o.Client}, nil
}

// models lists the models of the server.
func (c *client) models(ctx context.Context) ([]modelInfo, error) {
	resp, err := c.do(ctx, http.MethodGet, "/v1/models", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := readAtMost(resp.Body, maxModelsBody)
	if err != nil {
		return nil, fmt.Errorf("list of models: %w", err)
	}
	var list struct {
		Data []modelInfo `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("list of models: %w", err)
	}
	return list.Data, nil
}

// pickModel resolves the model name: want, or the first that the server lists. An unlisted
// want is passed on as it is, since servers accept aliases.
func (c *client) pickModel(ctx context.Context, want string) (modelInfo, error) {
	list, err := c.models(ctx)
	if err != nil {
		return modelInfo{}, err
	}
	for _, m := range list {
		if m.ID == want || (want == "" && m.ID != "") {
			return m, nil
		}
	}
	if want == "" {
		return modelInfo{}, fmt.Errorf("%s lists no models; name one", c.base)
	}
	if len(list) == 1 { // an alias of the only model
		return modelInfo{ID: want, MaxLen: list[0].MaxLen}, nil
	}
	return modelInfo{ID: want}, nil
}

// chat asks for an answer. The stream must be closed.
func (c *client) chat(ctx context.Context, r chatRequest) (*chatStream, error) {
	r.Stream = true
	r.StreamOptions = &streamOptions{IncludeUsage: true}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	resp, err := c.do(ctx, http.MethodPost, "/v1/chat/completions", body)
	if err != nil {
		return nil, err
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch kind {
	case "text/event-stream", "":
		return &chatStream{body: resp.Body, events: newEventReader(resp.Body)}, nil
	case "application/json":
		defer resp.Body.Close()
		whole, err := readAtMost(resp.Body, maxWholeBody)
		if err != nil {
			return nil, cutError(ctx, err)
		}
		return &chatStream{whole: whole}, nil
	}
	resp.Body.Close()
	return nil, fmt.Errorf("%s answered with %s, not with an event stream; is this an OpenAI-compatible server?", c.base, kind)
}

// do sends a request and turns every status but 2xx into an *APIError.
func (c *client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "text/event-stream")
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("no connection to %s: %w", c.base, rootCause(err))
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, parseAPIError(resp.StatusCode, text)
}

// rootCause takes off what repeats the request and the address.
func rootCause(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	var oe *net.OpError
	if errors.As(err, &oe) && oe.Op == "dial" {
		err = oe.Err
	}
	var se *os.SyscallError
	if errors.As(err, &se) {
		err = se.Err
	}
	return err
}

// parseAPIError reads the error shapes in use: {"error":{"message","type","code"}} with a
// string or number as code, {"error":"text"}, {"message":"text"} and {"detail":...}. Anything
// else is quoted, cut to one line.
func parseAPIError(status int, body []byte) *APIError {
	e := &APIError{Status: status}
	var top struct {
		Error, Detail, Message, Code, Type json.RawMessage
	}
	if json.Unmarshal(body, &top) == nil {
		var inner struct{ Message, Code, Type json.RawMessage }
		if json.Unmarshal(top.Error, &inner) != nil {
			inner.Message, inner.Code, inner.Type = top.Error, top.Code, top.Type
		}
		for _, m := range []json.RawMessage{inner.Message, top.Message, top.Detail} {
			if e.Message == "" {
				e.Message = scalar(m)
			}
		}
		e.Code, e.Type = scalar(inner.Code), scalar(inner.Type)
	}
	if e.Message == "" {
		e.Message = shorten(oneLine(string(body)), 200)
	}
	if e.Message == "" {
		e.Message = "no explanation given"
	}
	return e
}

// scalar is a JSON string without its quotes, or any other value as it is written.
func scalar(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s // also for null
	}
	return string(raw)
}

// readAtMost reads all of r and fails rather than truncates past limit bytes.
func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("more than %d MiB", limit>>20)
	}
	return b, err
}

// cutError explains a read that failed in the middle of an answer.
func cutError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errEventTooLong):
		return err
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return errCut
	}
	return fmt.Errorf("%w: %w", errCut, err)
}
