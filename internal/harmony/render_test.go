package harmony

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// renderCase is a line of render.jsonl.
type renderCase struct {
	Name    string
	Options struct {
		Render           string
		AutoDropAnalysis bool `json:"auto_drop_analysis"`
	}
	Conversation struct{ Messages []libraryMessage }
	IDs          []int32
	ChosenIDs    []int32 `json:"chosen_ids"`
}

// libraryMessage is a message in the JSON form of openai-harmony.
type libraryMessage struct {
	Role        string
	Content     json.RawMessage
	Name        string
	Channel     string
	Recipient   string
	ContentType *string `json:"content_type"`
}

type libraryNamespace struct {
	Name, Description string
	Tools             []struct {
		Name, Description string
		Parameters        json.RawMessage
	}
}

type libraryContent struct {
	Type                  string
	Text                  string
	ModelIdentity         *string `json:"model_identity"`
	ReasoningEffort       string  `json:"reasoning_effort"`
	ConversationStartDate *string `json:"conversation_start_date"`
	KnowledgeCutoff       *string `json:"knowledge_cutoff"`
	ChannelConfig         struct {
		ValidChannels   []string `json:"valid_channels"`
		ChannelRequired bool     `json:"channel_required"`
	} `json:"channel_config"`
	Instructions *string
	Tools        map[string]libraryNamespace
}

func (m libraryMessage) message(t *testing.T) Message {
	t.Helper()
	out := Message{Role: m.Role, Name: m.Name, Channel: m.Channel, Recipient: m.Recipient, ContentType: m.ContentType}
	var text string
	if json.Unmarshal(m.Content, &text) == nil {
		out.Content = []Content{TextContent(text)}
		return out
	}
	var parts []libraryContent
	if err := json.Unmarshal(m.Content, &parts); err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		out.Content = append(out.Content, p.content(t))
	}
	return out
}

func (p libraryContent) content(t *testing.T) Content {
	t.Helper()
	var tools map[string]Namespace
	if p.Tools != nil {
		tools = make(map[string]Namespace)
	}
	for key, n := range p.Tools {
		out := Namespace{Name: n.Name, Description: n.Description}
		for _, f := range n.Tools {
			out.Tools = append(out.Tools, Tool{Name: f.Name, Description: f.Description, Parameters: f.Parameters})
		}
		tools[key] = out
	}
	switch p.Type {
	case "text":
		return TextContent(p.Text)
	case "system_content":
		return &SystemContent{
			Identity:        p.ModelIdentity,
			KnowledgeCutoff: p.KnowledgeCutoff,
			Date:            p.ConversationStartDate,
			Effort:          strings.ToLower(p.ReasoningEffort),
			Tools:           tools,
			Channels:        p.ChannelConfig.ValidChannels,
			ChannelRequired: p.ChannelConfig.ChannelRequired,
		}
	case "developer_content":
		return &DeveloperContent{Instructions: p.Instructions, Tools: tools}
	}
	t.Fatalf("content of type %q", p.Type)
	return nil
}

func TestRender(t *testing.T) {
	enc := o200k(t)
	cases := readLines[renderCase](t, "render.jsonl.gz")
	if len(cases) != 224 {
		t.Fatalf("%d cases, want 224", len(cases))
	}
	modes := map[string]RenderMode{"completion": ForCompletion, "conversation": AsHistory, "training": ForTraining}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			mode, ok := modes[c.Options.Render]
			if !ok {
				t.Fatalf("render mode %q", c.Options.Render)
			}
			var messages []Message
			for _, m := range c.Conversation.Messages {
				messages = append(messages, m.message(t))
			}
			got, err := enc.Render(messages, RenderOptions{Mode: mode, KeepAnalysis: !c.Options.AutoDropAnalysis})
			if err != nil {
				t.Fatal(err)
			}
			want := c.IDs
			if c.ChosenIDs != nil {
				want = c.ChosenIDs
			}
			compareIDs(t, enc, want, got)
		})
	}
}

// compareIDs shows differing tokens as text: ids say little to a reader.
func compareIDs(t *testing.T, enc *Encoding, want, got []int32) {
	t.Helper()
	if len(want) == 0 && len(got) == 0 || cmp.Equal(want, got) {
		return
	}
	words := func(ids []int32) (out []string) {
		for _, id := range ids {
			out = append(out, fmt.Sprintf("%d %q", id, enc.tok.Decode([]int32{id}, true)))
		}
		return out
	}
	t.Errorf("tokens (-want +got):\n%s", cmp.Diff(words(want), words(got)))
}

func TestRenderToolWithoutName(t *testing.T) {
	_, err := tiny(t).Render([]Message{{Role: RoleUser}, {Role: RoleTool}}, RenderOptions{})
	const want = "message 1: a tool message needs the name of the tool"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestRenderSchemaError(t *testing.T) {
	bad := Tool{Name: "f", Parameters: json.RawMessage(`{`)}
	for _, c := range []struct {
		content Content
		want    string
	}{
		{&DeveloperContent{Tools: map[string]Namespace{"functions": {Name: "functions", Tools: []Tool{{Name: "g"}, bad}}}},
			`message 0: tool 1 of namespace "functions": parameters: invalid JSON: unexpected EOF`},
		{&SystemContent{Tools: map[string]Namespace{"browser": {Name: "browser", Tools: []Tool{bad}}}},
			`message 0: tool 0 of namespace "browser": parameters: invalid JSON: unexpected EOF`},
		{&DeveloperContent{Format: &ResponseFormat{Name: "a", Schema: json.RawMessage(`{`)}},
			`message 0: schema of the response format: invalid JSON: unexpected EOF`},
	} {
		_, err := tiny(t).Render([]Message{{Role: RoleDeveloper, Content: []Content{c.content}}}, RenderOptions{})
		if err == nil || err.Error() != c.want || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}
