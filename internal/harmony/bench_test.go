package harmony

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// answerIDs is a long answer, as the model writes it.
func answerIDs(enc *Encoding) []int32 {
	text := "<|channel|>analysis<|message|>" + strings.Repeat("The user asks for a sum, which is simple. ", 200) +
		"<|end|><|start|>assistant<|channel|>final<|message|>" + strings.Repeat("It is 4; naïvely 2 + 2. ", 200) + "<|return|>"
	return enc.tok.EncodeSpecial(nil, text)
}

// Text that is valid UTF-8 token by token costs no allocation.
func TestParserAllocations(t *testing.T) {
	enc := o200k(t)
	p := enc.NewParser(ParserOptions{Prefill: PrefillFinal})
	ids := enc.tok.Encode(nil, strings.Repeat("plain words, naïve ones and 中文 ", 50))
	n := 0
	emit := func(e Event) { n += len(e.Text) }
	p.Push(ids[0], emit)
	if got := testing.AllocsPerRun(10, func() {
		for _, id := range ids {
			p.Push(id, emit)
		}
	}); got != 0 {
		t.Errorf("%v allocations for %d tokens", got, len(ids))
	}
	if n == 0 {
		t.Error("no text")
	}
}

func BenchmarkParser(b *testing.B) {
	enc := o200k(b)
	ids := answerIDs(enc)
	emit := func(Event) {}
	b.ReportAllocs()
	for b.Loop() {
		p := enc.NewParser(ParserOptions{})
		for _, id := range ids {
			p.Push(id, emit)
		}
		p.Finish(emit)
	}
	b.ReportMetric(float64(len(ids))*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}

func BenchmarkAssembler(b *testing.B) {
	enc := o200k(b)
	ids := answerIDs(enc)
	b.ReportAllocs()
	for b.Loop() {
		a := NewChatAssembler(enc, ParserOptions{})
		for _, id := range ids {
			a.Push(id)
		}
		a.Finish(false)
	}
	b.ReportMetric(float64(len(ids))*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}

// chatBody is a chat of 20 messages with 20 tools.
func chatBody() []byte {
	var messages, tools []string
	for i := range 10 {
		messages = append(messages,
			fmt.Sprintf(`{"role":"user","content":"Question %d: %s"}`, i, strings.Repeat("what is the weather like in the city of Tokyo today? ", 10)),
			fmt.Sprintf(`{"role":"assistant","content":"Answer %d: %s"}`, i, strings.Repeat("It is twenty degrees and sunny, with light winds. ", 20)))
	}
	for i := range 20 {
		tools = append(tools, fmt.Sprintf(`{"type":"function","function":{"name":"tool_%d","description":"Does a thing.\nAnd another.",`+
			`"parameters":{"type":"object","properties":{"location":{"type":"string","description":"City and state"},`+
			`"unit":{"type":"string","enum":["c","f"],"default":"c"},"options":{"type":"object","properties":{"days":{"type":"integer","default":3},`+
			`"tags":{"type":"array","items":{"type":"string"}}}},"when":{"anyOf":[{"type":"string"},{"type":"null"}]}},"required":["location"]}}}`, i))
	}
	return []byte(`{"messages":[` + strings.Join(messages, ",") + `],"tools":[` + strings.Join(tools, ",") + `]}`)
}

func BenchmarkRenderChat(b *testing.B) {
	enc := o200k(b)
	body := chatBody()
	b.ReportAllocs()
	tokens := 0
	for b.Loop() {
		var r ChatRequest
		if err := json.Unmarshal(body, &r); err != nil {
			b.Fatal(err)
		}
		p, err := enc.RenderChat(&r, PromptOptions{})
		if err != nil {
			b.Fatal(err)
		}
		tokens = len(p.IDs)
	}
	b.ReportMetric(float64(tokens), "tokens")
}
