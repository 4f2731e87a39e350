package tui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// maxSaved bounds the file that load reads.
const maxSaved = 64 << 20

// turn is one user message and its answer.
type turn struct {
	Prompt    string `json:"prompt"`
	Reasoning string `json:"reasoning,omitempty"` // shown and saved, never sent back
	Content   string `json:"content"`             // empty only while the answer is on its way
}

// conversation is what a chat remembers.
type conversation struct {
	System string `json:"system,omitempty"`
	Effort string `json:"effort,omitempty"`
	Turns  []turn `json:"turns"`
}

// messages returns the history as the API takes it, without the reasoning of earlier answers,
// which the model does not expect to see again.
func (c *conversation) messages() []message {
	var out []message
	if c.System != "" {
		out = append(out, message{"system", c.System})
	}
	for _, t := range c.Turns {
		out = append(out, message{"user", t.Prompt})
		if t.Content != "" {
			out = append(out, message{"assistant", t.Content})
		}
	}
	return out
}

func (o Options) request(model string, c *conversation) chatRequest {
	return chatRequest{
		Model: model, Messages: c.messages(), ReasoningEffort: c.Effort,
		Temperature: o.Temperature, TopP: o.TopP, Seed: o.Seed, MaxTokens: o.MaxTokens,
	}
}

// savedFormat marks our files, so that save never replaces another file.
const savedFormat = "hearth chat 1"

type savedConversation struct {
	Format string `json:"format"`
	conversation
}

// save writes the conversation to a new file, or over one that save has written.
func (c *conversation) save(path string) error {
	old, err := os.ReadFile(path)
	switch {
	case err == nil:
		if _, err := parseConversation(old); err != nil {
			return fmt.Errorf("%s exists and is not a saved chat; choose another name", path)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	data, err := json.MarshalIndent(savedConversation{savedFormat, *c}, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".hearth-chat-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(data, '\n'))
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}

// loadConversation reads a file that save has written.
func loadConversation(path string) (*conversation, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSaved+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSaved {
		return nil, fmt.Errorf("%s: more than %d MiB is no saved chat", path, maxSaved>>20)
	}
	c, err := parseConversation(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// parseConversation is strict: an unknown or missing field means that the file is not ours.
func parseConversation(data []byte) (*conversation, error) {
	var s savedConversation
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return nil, fmt.Errorf("not a saved chat: %w", err)
	}
	if s.Format != savedFormat {
		return nil, fmt.Errorf("not a saved chat: format is %q, want %q", s.Format, savedFormat)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("not a saved chat: text after the end")
	}
	if err := checkEffort(s.Effort); s.Effort != "" && err != nil {
		return nil, err
	}
	if slices.ContainsFunc(s.Turns, func(t turn) bool { return t.Prompt == "" || t.Content == "" }) {
		return nil, errors.New("not a saved chat: a turn lacks its prompt or content")
	}
	return &s.conversation, nil
}
