package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

type chatAnswer struct {
	Choices []struct {
		Message struct {
			Content   *string
			Reasoning string
			ToolCalls []toolCall `json:"tool_calls"`
		}
		Finish string `json:"finish_reason"`
	}
}

type toolCall struct {
	ID       string
	Type     string
	Function struct{ Name, Arguments string }
}

func chatOnce(t *testing.T, url string, body map[string]any) chatAnswer {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(url+"/v1/chat/completions", "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a chatAnswer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || len(a.Choices) != 1 {
		t.Fatalf("status %d, %v, %+v", resp.StatusCode, err, a)
	}
	return a
}

func userSays(text string) map[string]any { return map[string]any{"role": "user", "content": text} }

// The embedded model holds a conversation through the API: an answer with its reasoning apart, a tool call with the
// right arguments, the call's result in the answer.
func TestDemoModel(t *testing.T) {
	dir, err := unpackDemo()
	if err != nil {
		t.Fatal(err)
	}
	url := startServer(t, dir)
	a := chatOnce(t, url, map[string]any{"messages": []any{userSays("What is the capital of Norway?")}, "temperature": 0})
	m := a.Choices[0].Message
	if m.Content == nil || !strings.Contains(*m.Content, "Oslo") || m.Reasoning == "" || a.Choices[0].Finish != "stop" {
		t.Errorf("a question: %+v", a)
	}

	tools := []any{map[string]any{"type": "function", "function": map[string]any{
		"name": "get_weather", "description": "Get the current weather in a given location",
		"parameters": json.RawMessage(`{"type":"object","properties":{"location":{"type":"string","description":"The city and state, e.g. San Francisco, CA"}},"required":["location"]}`),
	}}}
	messages := []any{userSays("What is the weather in Paris?")}
	a = chatOnce(t, url, map[string]any{"messages": messages, "tools": tools, "temperature": 0})
	m = a.Choices[0].Message
	if m.Content != nil || len(m.ToolCalls) != 1 || a.Choices[0].Finish != "tool_calls" {
		t.Fatalf("no call: %+v", a)
	}
	call := m.ToolCalls[0]
	var args any
	if err := json.Unmarshal([]byte(call.Function.Arguments), &args); err != nil || call.Function.Name != "get_weather" ||
		!reflect.DeepEqual(args, map[string]any{"location": "Paris"}) {
		t.Fatalf("the call is %+v (%v)", call, err)
	}
	messages = append(messages,
		map[string]any{"role": "assistant", "reasoning": m.Reasoning, "tool_calls": []any{map[string]any{"id": call.ID, "type": "function",
			"function": map[string]any{"name": call.Function.Name, "arguments": call.Function.Arguments}}}},
		map[string]any{"role": "tool", "tool_call_id": call.ID, "content": `{"temperature":18,"condition":"cloudy"}`})
	a = chatOnce(t, url, map[string]any{"messages": messages, "tools": tools, "temperature": 0})
	m = a.Choices[0].Message
	if m.Content == nil || !strings.Contains(*m.Content, "18") || !strings.Contains(*m.Content, "cloudy") || a.Choices[0].Finish != "stop" {
		t.Errorf("the answer after the result: %+v", a)
	}
}

// Streaming and plain give the same text and the same reasoning.
func TestDemoStreamEqualsPlain(t *testing.T) {
	dir, err := unpackDemo()
	if err != nil {
		t.Fatal(err)
	}
	url := startServer(t, dir)
	for _, question := range []string{"Spell hearth.", "Sort pear, apple, fig.", "What is 17 * 23?", "Explain quantum chromodynamics."} {
		body := map[string]any{"messages": []any{userSays(question)}, "temperature": 0, "reasoning_effort": "high"}
		plain := chatOnce(t, url, body).Choices[0].Message
		body["stream"] = true
		content, reasoning := streamed(t, url, body)
		if plain.Content == nil || content != *plain.Content || reasoning != plain.Reasoning || content == "" || reasoning == "" {
			t.Errorf("%s: streamed %q and %q, plain %+v", question, content, reasoning, plain)
		}
	}
}

func streamed(t *testing.T, url string, body map[string]any) (content, reasoning string) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(url+"/v1/chat/completions", "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	done := false
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		data, ok := strings.CutPrefix(sc.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			done = true
			continue
		}
		var c struct {
			Choices []struct {
				Delta struct{ Content, Reasoning string }
			}
		}
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			t.Fatal(err)
		}
		for _, x := range c.Choices {
			content += x.Delta.Content
			reasoning += x.Delta.Reasoning
		}
	}
	if !done {
		t.Error("the stream did not end with [DONE]")
	}
	return content, reasoning
}
