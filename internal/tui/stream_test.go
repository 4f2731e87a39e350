package tui

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeChunk(t *testing.T) {
	call := func(index int, id, name, args string) callDelta {
		c := callDelta{Index: index, ID: id}
		c.Function.Name, c.Function.Arguments = name, args
		return c
	}
	for _, tc := range []struct {
		name, in string
		want     delta
	}{
		{"first", `{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}`, delta{}},
		{"content", `{"choices":[{"delta":{"content":"a"}}]}`, delta{Content: "a"}},
		{"null content", `{"choices":[{"delta":{"content":null,"reasoning":"r"}}]}`, delta{Reasoning: "r"}},
		{"both names of the reasoning", `{"choices":[{"delta":{"reasoning":"r","reasoning_content":"r"}}]}`, delta{Reasoning: "r"}},
		{"reasoning_content", `{"choices":[{"delta":{"reasoning_content":"r"}}]}`, delta{Reasoning: "r"}},
		{"thinking", `{"choices":[{"delta":{"thinking":"r"}}]}`, delta{Reasoning: "r"}},
		{"finish", `{"choices":[{"delta":{},"finish_reason":"length"}]}`, delta{Finish: "length"}},
		{"usage", `{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}`, delta{Usage: &usage{3, 5}}},
		{"call", `{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"c","function":{"name":"f","arguments":"{"}}]}}]}`,
			delta{Calls: []callDelta{call(1, "c", "f", "{")}}},
		{"whole message", `{"choices":[{"message":{"content":"a","reasoning":"r"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`,
			delta{Content: "a", Reasoning: "r", Finish: "stop", Usage: &usage{1, 2}}},
		{"no choices", `{}`, delta{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := decodeChunk([]byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestChatStreamEnd(t *testing.T) {
	const text = `data: {"choices":[{"delta":{"content":"a"}}]}` + "\n\n"
	const stop = `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	for _, tc := range []struct{ name, in, want string }{
		{"done", text + stop + "data: [DONE]\n\n", io.EOF.Error()},
		{"done without a reason", text + "data: [DONE]\n\n", io.EOF.Error()},
		{"a reason without done", text + stop, io.EOF.Error()},
		{"empty events", text + "data:\n\n" + stop, io.EOF.Error()},
		{"cut", text, errCut.Error()},
		{"nothing", "", errCut.Error()},
		{"error object", text + `data: {"error":{"message":"no memory","type":"server_error","code":null}}` + "\n\n",
			"the server stopped the answer: no memory (server_error)"},
		{"error event", text + "event: error\n" + `data: {"message":"no memory"}` + "\n\n", "the server stopped the answer: no memory"},
		{"cut chunk", text + `data: {"choices":[{"del`, "the server sent a chunk that is not valid: unexpected end of JSON input"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &chatStream{events: newEventReader(strings.NewReader(tc.in))}
			var err error
			for err == nil {
				_, err = s.next(t.Context())
			}
			if err.Error() != tc.want {
				t.Errorf("ended with %q, want %q", err, tc.want)
			}
		})
	}
}

func TestAddCalls(t *testing.T) {
	piece := func(index int, name, args string) (c callDelta) {
		c.Index, c.Function.Name, c.Function.Arguments = index, name, args
		return c
	}
	var calls []toolCall
	for _, p := range []callDelta{piece(0, "f", ""), piece(0, "", `{"a":`), piece(1<<40, "g", "{}"), piece(0, "", "1}"), piece(-1, "h", "")} {
		calls = addCalls(calls, []callDelta{p})
	}
	want := []toolCall{{0, "f", `{"a":1}`}, {1 << 40, "g", "{}"}, {-1, "h", ""}}
	if diff := cmp.Diff(want, calls, cmp.AllowUnexported(toolCall{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
