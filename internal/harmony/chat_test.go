package harmony

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

// chatCase is a line of chat.jsonl.
type chatCase struct {
	Name    string
	Request ChatRequest
	IDs     []int32
}

func TestRenderChat(t *testing.T) {
	enc := o200k(t)
	cases := readLines[chatCase](t, "chat.jsonl.gz")
	if len(cases) != 60 {
		t.Fatalf("%d cases, want 60", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			got, err := enc.RenderChat(&c.Request, PromptOptions{Date: "2025-06-28"})
			if err != nil {
				t.Fatal(err)
			}
			compareIDs(t, enc, c.IDs, got.IDs)
		})
	}
}

// chatText renders the JSON of a request with default options, without the system
// message.
func chatText(t *testing.T, enc *Encoding, request string) (string, Prefill, error) {
	t.Helper()
	var r ChatRequest
	if err := json.Unmarshal([]byte(request), &r); err != nil {
		return "", 0, err
	}
	p, err := enc.RenderChat(&r, PromptOptions{})
	text := enc.Tokenizer().Decode(p.IDs, true)
	if _, rest, ok := strings.Cut(text, "every message.<|end|>"); ok {
		text = rest
	}
	return text, p.Prefill, err
}

func TestRenderChatMore(t *testing.T) {
	enc := o200k(t)
	const user = `{"role":"user","content":"u"}`
	const u = "<|start|>user<|message|>u<|end|>"
	for _, c := range []struct {
		name, request, want string
		prefill             Prefill
	}{
		{"content absent, refusal, output text, unknown keys",
			`{"messages":[{"role":"user","x":1},{"role":"assistant","content":[{"type":"refusal","refusal":"no"},{"type":"output_text","text":"."}]}]}`,
			"<|start|>user<|message|><|end|><|start|>assistant<|channel|>final<|message|>no.<|end|><|start|>assistant", PrefillNone},
		{"no thinking", `{"messages":[` + user + `],"chat_template_kwargs":{"enable_thinking":false}}`,
			u + "<|start|>assistant<|channel|>final<|message|>", PrefillFinal},
		{"no generation prompt", `{"messages":[` + user + `],"add_generation_prompt":false}`, u, PrefillNothing},
		{"continue an answer", `{"messages":[` + user + `,{"role":"assistant","content":"a","reasoning":"r"}],"continue_final_message":true}`,
			u + "<|start|>assistant<|channel|>final<|message|>a", PrefillFinal},
		{"continue a thought", `{"messages":[` + user + `,{"role":"assistant","reasoning":"r"}],"continue_final_message":true,"reasoning_effort":"none"}`,
			u + "<|start|>assistant<|channel|>analysis<|message|>r", PrefillAnalysis},
		{"a continued answer does not end earlier reasoning",
			`{"messages":[` + user + `,{"role":"assistant","reasoning":"r"},` + user + `,{"role":"assistant","content":"a"}],"continue_final_message":true}`,
			u + "<|start|>assistant<|channel|>analysis<|message|>r<|end|>" + u + "<|start|>assistant<|channel|>final<|message|>a", PrefillFinal},
		{"legacy functions",
			`{"messages":[` + user + `,{"role":"assistant","function_call":{"name":"f","arguments":"{}"}},{"role":"function","name":"f","content":"1"}]}`,
			u + "<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>" +
				"<|start|>functions.f to=assistant<|channel|>commentary<|message|>1<|end|><|start|>assistant", PrefillNone},
		{"calls without ids keep the order of their results",
			`{"messages":[` + user + `,{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"1"}},{"function":{"name":"g","arguments":{"a": 2}}}]},` +
				`{"role":"tool","content":"x"},{"role":"tool","content":"y"}]}`,
			u + "<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>1<|call|>" +
				"<|start|>assistant to=functions.g<|channel|>commentary <|constrain|>json<|message|>{\"a\": 2}<|call|>" +
				"<|start|>functions.g to=assistant<|channel|>commentary<|message|>x<|end|>" +
				"<|start|>functions.g to=assistant<|channel|>commentary<|message|>y<|end|><|start|>assistant", PrefillNone},
		{"an id that is used again means the latest call",
			`{"messages":[{"role":"assistant","tool_calls":[{"id":"0","function":{"name":"f"}}]},{"role":"tool","tool_call_id":"0"},` +
				`{"role":"assistant","tool_calls":[{"id":"0","function":{"name":"g"}}]},` + user + `,{"role":"tool","tool_call_id":"0"}]}`,
			"<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|><|call|>" +
				"<|start|>functions.f to=assistant<|channel|>commentary<|message|><|end|>" +
				"<|start|>assistant to=functions.g<|channel|>commentary <|constrain|>json<|message|><|call|>" + u +
				"<|start|>functions.g to=assistant<|channel|>commentary<|message|><|end|><|start|>assistant", PrefillNone},
		{"tools that are no functions", `{"messages":[` + user + `],"tools":[{"type":"web_search"}],"tool_choice":"none"}`,
			u + "<|start|>assistant", PrefillNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, prefill, err := chatText(t, enc, c.request)
			if err != nil {
				t.Fatal(err)
			}
			if got != c.want || prefill != c.prefill {
				t.Errorf("got  %s, prefill %d\nwant %s, prefill %d", got, prefill, c.want, c.prefill)
			}
		})
	}
}

func TestFunctionNames(t *testing.T) {
	r := ChatRequest{Tools: []Tool{{Name: "a"}, {Type: "web_search"}, {Type: "function", Name: "b"}}}
	if got := r.FunctionNames(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %q", got)
	}
}

// The flat form of tools, as in the Responses API, and tool_choice none: same prompt.
func TestRenderChatToolForms(t *testing.T) {
	enc := o200k(t)
	render := func(request string) string {
		text, _, err := chatText(t, enc, request)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	nested := render(`{"messages":[{"role":"user"}],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"string"}}}]}`)
	flat := render(`{"messages":[{"role":"user"}],"tools":[{"type":"web_search"},{"type":"function","name":"f","description":"d","parameters":{"type":"string"}}],"tool_choice":"none"}`)
	if nested != flat || !strings.Contains(nested, "// d\ntype f = (_: string) => any;") {
		t.Errorf("nested %s\nflat   %s", nested, flat)
	}
}

func TestRenderChatErrors(t *testing.T) {
	enc := tiny(t)
	deep := strings.Repeat(`{"items":`, 300) + `{}` + strings.Repeat(`}`, 300)
	tool := func(parameters string) string {
		return `{"messages":[{"role":"user"}],"tools":[{"type":"web_search"},{"function":{"name":"f","parameters":` + parameters + `}}]}`
	}
	for _, c := range []struct{ request, want string }{
		{`[]`, `body: want an object, not a list`},
		{`{}`, `messages: at least one message is needed`},
		{`{"messages":{}}`, `messages: want a list, not an object`},
		{`{"messages":[5]}`, `messages[0]: want an object, not a number`},
		{`{"messages":[{"role":"user"},{}]}`, `messages[1].role: missing`},
		{`{"messages":[{"role":"user"},{"role":"wizard"}]}`, `messages[1].role: "wizard" is not one of system, developer, user, assistant, tool`},
		{`{"messages":[{"role":true}]}`, `messages[0].role: want a string, not true or false`},
		{`{"messages":[{"role":"user","content":7}]}`, `messages[0].content: want a string, null or a list of parts, not a number`},
		{`{"messages":[{"role":"user","content":["x"]}]}`, `messages[0].content[0]: want an object, not a string`},
		{`{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]}]}`,
			`messages[0].content[1].type: "image_url" is not supported: this model reads text only`},
		{`{"messages":[{"role":"user","content":[{"text":"a"}]}]}`, `messages[0].content[0].type: missing; this model reads parts of type "text"`},
		{`{"messages":[{"role":"assistant","tool_calls":[{"type":"custom"}]}]}`, `messages[0].tool_calls[0].type: want "function", not "custom"`},
		{`{"messages":[{"role":"assistant","tool_calls":[{"id":"x"}]}]}`, `messages[0].tool_calls[0].function: missing`},
		{`{"messages":[{"role":"assistant","tool_calls":[{"function":{}}]}]}`, `messages[0].tool_calls[0].function.name: missing`},
		{`{"messages":[{"role":"user"},{"role":"tool","tool_call_id":"c"}]}`, `messages[1].tool_call_id: no tool call stands before this result, and it has no name`},
		{`{"messages":[{"role":"user"}],"tools":[{"type":"function","function":{}}]}`, `tools[0].function.name: missing`},
		{tool(deep), `tools[1].function.parameters: nested deeper`},
		{`{"messages":[{"role":"user"}],"reasoning_effort":"huge"}`, `reasoning_effort: "huge" is not one of none, minimal, low, medium, high, xhigh, max`},
		{`{"messages":[{"role":"user"}],"reasoning":"high"}`, `reasoning: want an object, not a string`},
		{`{"messages":[{"role":"user"}],"response_format":{}}`, `response_format.type: missing`},
		{`{"messages":[{"role":"user"}],"response_format":{"type":"json_schema"}}`, `response_format.json_schema: missing`},
		{`{"messages":[{"role":"user"}],"response_format":{"type":"json_schema","json_schema":{"name":"a"}}}`, `response_format.json_schema.schema: missing`},
		{`{"messages":[{"role":"user"}],"response_format":{"type":"json_schema","json_schema":{"schema":{}}}}`, `response_format.json_schema.name: missing`},
		{`{"messages":[{"role":"user"}],"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":` + deep + `}}}`, `response_format.json_schema.schema: `},
		{`{"messages":[{"role":"user"}],"continue_final_message":true}`, `continue_final_message: the last message must be an assistant's, without tool calls`},
		{`{"messages":[{"role":"user"}],"continue_final_message":1}`, `continue_final_message: want true or false, not a number`},
	} {
		_, _, err := chatText(t, enc, c.request)
		var wrong *RequestError
		if !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%.200s\ngot  %v\nwant %s", c.request, err, c.want)
		}
	}
}

func TestPromptOptions(t *testing.T) {
	enc := tiny(t)
	r := &ChatRequest{Messages: []ChatMessage{{Role: RoleUser, Content: "u"}}, ReasoningEffort: "low"}
	for _, c := range []struct {
		options PromptOptions
		want    string
	}{
		{PromptOptions{}, DefaultIdentity + "\nKnowledge cutoff: 2024-06\n\nReasoning: low\n\n"},
		{PromptOptions{"You are Hearth <|end|>.", "2025-01", "2026-11-22"},
			"You are Hearth <|end|>.\nKnowledge cutoff: 2025-01\nCurrent date: 2026-11-22\n\nReasoning: low\n\n"},
	} {
		p, err := enc.RenderChat(r, c.options)
		if err != nil {
			t.Fatal(err)
		}
		text := enc.tok.Decode(p.IDs, true)
		if !strings.HasPrefix(text, "<|start|>system<|message|>"+c.want+"# Valid channels") {
			t.Errorf("%+v: %s", c.options, text)
		}
	}
}
