package harmony

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "rewrite testdata/parse-malformed.golden")

// parsed is a message as golden files write it.
type parsed struct {
	Role        string `json:"role"`
	Name        string `json:"name,omitempty"`
	Channel     string `json:"channel,omitempty"`
	Recipient   string `json:"recipient,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Content     string `json:"content"`
	Terminator  string `json:"terminator,omitempty"`
}

// parse runs a parser over ids. It fails the test if the events do not make whole
// messages, one after another.
func parse(t *testing.T, enc *Encoding, o ParserOptions, ids []int32) []parsed {
	t.Helper()
	var messages []parsed
	var open *Event
	emit := func(e Event) {
		switch {
		case e.Kind == MessageStart && open == nil && e.Message == len(messages):
			open = &e
			messages = append(messages, parsed{
				Role: e.Role, Name: e.Name, Channel: e.Channel, Recipient: e.Recipient, ContentType: e.ContentType,
			})
			return
		case e.Kind == Text && open != nil && e.Text != "":
			messages[len(messages)-1].Content += e.Text
		case e.Kind == MessageEnd && open != nil:
			messages[len(messages)-1].Terminator = e.Terminator
		default:
			t.Fatalf("event out of order: %+v", e)
		}
		want := *open
		want.Kind, want.Text, want.Terminator = e.Kind, e.Text, e.Terminator
		if e != want {
			t.Fatalf("event %+v in the message of %+v", e, *open)
		}
		if e.Kind == MessageEnd {
			open = nil
		}
	}
	p := enc.NewParser(o)
	for _, id := range ids {
		p.Push(id, emit)
		channel := ""
		if open != nil {
			channel = open.Channel
		}
		if p.Channel() != channel {
			t.Fatalf("channel %q while the open message is on %q", p.Channel(), channel)
		}
	}
	p.Finish(emit)
	p.Finish(emit) // ends nothing twice
	if open != nil {
		t.Fatalf("message left open: %+v", *open)
	}
	return messages
}

type parseCase struct {
	Name     string
	Role     *string
	IDs      []int32
	Messages []parsed
	Text     string
	Deltas   []struct{ Delta string }
}

func (c *parseCase) options() ParserOptions {
	if c.Role == nil {
		return ParserOptions{Prefill: PrefillNothing}
	}
	return ParserOptions{}
}

func TestParse(t *testing.T) {
	enc := o200k(t)
	cases := readLines[parseCase](t, "parse.jsonl.gz")
	if len(cases) != 113 {
		t.Fatalf("%d cases, want 113", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			got := parse(t, enc, c.options(), c.IDs)
			for i := range got {
				got[i].Terminator = "" // not in the file
			}
			if diff := cmp.Diff(c.Messages, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s\nmessages (-want +got):\n%s", c.Text, diff)
			}
			compareDeltas(t, enc, c)
		})
	}
}

// compareDeltas compares the text after each token.
func compareDeltas(t *testing.T, enc *Encoding, c parseCase) {
	p := enc.NewParser(c.options())
	for i, id := range c.IDs {
		text := ""
		p.Push(id, func(e Event) { text += e.Text })
		// An incomplete character at a stop token is flushed by it here, and after
		// the last token there.
		if want := c.Deltas[i].Delta; text != want {
			t.Errorf("token %d (%d): text %q, want %q", i, id, text, want)
		}
	}
}

// What ours makes of malformed streams is in a golden file, one line a message.
// Run with -update to rewrite it, and compare the result with serving.md b.10.
func TestParseMalformed(t *testing.T) {
	enc := o200k(t)
	cases := readLines[parseCase](t, "parse-malformed.jsonl.gz")
	if len(cases) != 54 {
		t.Fatalf("%d cases, want 54", len(cases))
	}
	var got bytes.Buffer
	for _, c := range cases {
		got.WriteString(c.Name + ": " + oneLine(c.Text) + "\n")
		w := json.NewEncoder(&got)
		w.SetEscapeHTML(false)
		for _, m := range parse(t, enc, c.options(), c.IDs) {
			got.WriteString("    ")
			if err := w.Encode(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	compareGolden(t, "parse-malformed.golden", got.String())
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", `\n`) }

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// A header may be as long as its names; what is longer than that is content. In the
// tiny vocabulary a byte is a token.
func TestHeaderLimits(t *testing.T) {
	enc := tiny(t)
	name := strings.Repeat("n", 200)
	long := strings.Repeat("n", 300)
	for _, c := range []struct {
		name, text string
		want       []parsed
	}{
		{"a long recipient", "<|channel|>commentary to=" + name + " <|constrain|>json<|message|>{}<|call|>",
			[]parsed{{Role: "assistant", Channel: "commentary", Recipient: name, ContentType: "<|constrain|>json", Content: "{}", Terminator: markerCall}}},
		{"a tool with a long name", "<|start|>" + name + " to=assistant<|message|>x<|end|>",
			[]parsed{{Role: "tool", Name: name, Recipient: "assistant", Content: "x", Terminator: markerEnd}}},
		{"a recipient without end", "<|channel|>commentary to=" + long,
			[]parsed{{Role: "assistant", Channel: "commentary", Recipient: long[:256-len("commentary to=")], Content: long[256-len("commentary to="):]}}},
		{"white space without end", "<|channel|>" + strings.Repeat(" ", 50) + "final<|message|>x<|return|>",
			[]parsed{{Role: "assistant", Channel: "final", Content: "x", Terminator: markerReturn}}},
		{"markers without end", strings.Repeat("<|channel|>analysis", 80) + "<|message|>x<|end|>",
			[]parsed{
				{Role: "assistant", Channel: "analysis", Content: "s"}, // of the word that was cut
				{Role: "assistant", Channel: "analysis", Content: "x", Terminator: markerEnd},
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := parse(t, enc, ParserOptions{}, enc.tok.EncodeSpecial(nil, c.text))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
