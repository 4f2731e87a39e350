package harmony

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
)

// TestAssembler runs scripts of what a model may write and what becomes of it.
//
//	answer [tools=(NAME, ...)] [prefill=final|analysis|nothing] [length]
//	TEXT
//
// reads the tokens of TEXT, in which names of special tokens are those tokens, \n is
// a line break, \xHH the token of one byte and {N} the id N. Line breaks of the
// script are left out. "length" ends sampling for want of room. The result: the
// deltas, neighbours of one kind joined; the answer; the finish reason; tokens of
// reasoning and all.
func TestAssembler(t *testing.T) {
	enc := o200k(t)
	datadriven.Walk(t, "testdata/assembler", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "answer" {
				d.Fatalf(t, "unknown command")
			}
			o, length := scriptOptions(t, d)
			return runScript(t, enc, o, scriptIDs(t, enc, d.Input), length)
		})
	})
}

func scriptOptions(t *testing.T, d *datadriven.TestData) (o ParserOptions, length bool) {
	t.Helper()
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "tools":
			o.Tools = arg.Vals
		case "prefill":
			prefills := map[string]Prefill{"final": PrefillFinal, "analysis": PrefillAnalysis, "nothing": PrefillNothing}
			o.Prefill = prefills[arg.Vals[0]]
		case "length":
			length = true
		default:
			d.Fatalf(t, "unknown argument %s", arg.Key)
		}
	}
	return o, length
}

var scriptEscapes = regexp.MustCompile(`\\x[0-9a-f]{2}|\{-?\d+\}`)

func scriptIDs(t *testing.T, enc *Encoding, input string) []int32 {
	t.Helper()
	text := strings.ReplaceAll(strings.ReplaceAll(input, "\n", ""), `\n`, "\n")
	var ids []int32
	for text != "" {
		at := scriptEscapes.FindStringIndex(text)
		if at == nil {
			at = []int{len(text), len(text)}
		}
		ids = enc.tok.EncodeSpecial(ids, text[:at[0]])
		switch escape := text[at[0]:at[1]]; {
		case strings.HasPrefix(escape, `\x`):
			b, err := strconv.ParseUint(escape[2:], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, byteToken(t, enc, byte(b)))
		case escape != "":
			id, err := strconv.ParseInt(strings.Trim(escape, "{}"), 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, int32(id))
		}
		text = text[at[1]:]
	}
	return ids
}

// byteToken is the token of a single byte.
func byteToken(t *testing.T, enc *Encoding, b byte) int32 {
	t.Helper()
	for id := range int32(256) {
		if text, special, ok := enc.tok.Token(id); ok && !special && len(text) == 1 && text[0] == b {
			return id
		}
	}
	t.Fatalf("no token for byte %#x", b)
	return 0
}

// transcript joins deltas, as a client would.
type transcript struct {
	lines     []string
	kind      string
	reasoning string
	content   string
	calls     []Call
}

func (s *transcript) add(t *testing.T, deltas []ChatDelta) {
	t.Helper()
	for _, d := range deltas {
		switch {
		case d.Reasoning != "":
			s.reasoning += d.Reasoning
			s.text("reasoning", d.Reasoning)
		case d.Content != "":
			s.content += d.Content
			s.text("content", d.Content)
		case d.Call == nil:
			t.Fatal("an empty delta")
		case d.Call.Start:
			if d.Call.Index != len(s.calls) || d.Call.Arguments != "" {
				t.Fatalf("call begins with %+v after %d calls", *d.Call, len(s.calls))
			}
			s.calls = append(s.calls, Call{Name: d.Call.Name})
			s.lines = append(s.lines, fmt.Sprintf("call %d: %s", d.Call.Index, d.Call.Name))
			s.kind = ""
		default:
			if d.Call.Index != len(s.calls)-1 || d.Call.Name != "" || d.Call.Arguments == "" {
				t.Fatalf("fragment %+v after %d calls", *d.Call, len(s.calls))
			}
			s.calls[d.Call.Index].Arguments += d.Call.Arguments
			s.text("arguments", d.Call.Arguments)
		}
	}
}

func (s *transcript) text(kind, text string) {
	if s.kind != kind {
		s.lines = append(s.lines, kind+":")
	}
	s.kind = kind
	s.lines[len(s.lines)-1] += " " + strconv.Quote(text)
}

// matches fails the test if the deltas do not make the same answer as Message.
func (s *transcript) matches(t *testing.T, m ChatAnswer) {
	t.Helper()
	reasoning := s.reasoning
	if len(s.calls) > 0 && s.content != "" {
		if reasoning != "" {
			reasoning += "\n"
		}
		reasoning += s.content
	}
	if m.Reasoning != reasoning || !slices.Equal(m.Calls, s.calls) || (m.Content == nil) != (len(s.calls) > 0) {
		t.Fatalf("the answer is %+v, the deltas say %+v", m, *s)
	}
	if m.Content != nil && *m.Content != s.content {
		t.Fatalf("the content is %q, the deltas say %q", *m.Content, s.content)
	}
}

func runScript(t *testing.T, enc *Encoding, o ParserOptions, ids []int32, length bool) string {
	t.Helper()
	a := NewChatAssembler(enc, o)
	var s transcript
	for _, id := range ids {
		s.add(t, a.Push(id))
		s.matches(t, a.Message())
	}
	s.add(t, a.Finish(length))
	m := a.Message()
	s.matches(t, m)
	if m.Reasoning != "" {
		s.lines = append(s.lines, fmt.Sprintf("= reasoning %q", m.Reasoning))
	}
	if m.Content != nil {
		s.lines = append(s.lines, fmt.Sprintf("= content %q", *m.Content))
	}
	for _, c := range m.Calls {
		s.lines = append(s.lines, fmt.Sprintf("= call %s %q", c.Name, c.Arguments))
	}
	reasoning, total := a.Counts()
	s.lines = append(s.lines, fmt.Sprintf("= %s, %d of %d tokens reasoning", a.FinishReason(), reasoning, total))
	return strings.Join(s.lines, "\n") + "\n"
}

// Log-probabilities and stop strings are for content: each token says whether it is.
func TestAssemblerChannel(t *testing.T) {
	enc := o200k(t)
	type step struct{ Token, Channel string }
	for _, c := range []struct {
		name  string
		tools []string
		text  string
		want  []step
	}{
		{"answer", nil, "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>4<|message|>!<|return|>", []step{
			{"<|channel|>", ""}, {"analysis", ""}, {"<|message|>", ""}, {"Hm", "analysis"}, {"<|end|>", ""},
			{"<|start|>", ""}, {"assistant", ""}, {"<|channel|>", ""}, {"final", ""}, {"<|message|>", ""}, {"4", "final"},
			{"<|message|>", ""}, {"!", "final"}, {"<|return|>", ""},
		}},
		{"call on final", []string{"f"}, "<|channel|>final to=f<|message|>{}<|call|>", []step{
			{"<|channel|>", ""}, {"final", ""}, {" to", ""}, {"=f", ""}, {"<|message|>", ""}, {"{}", "commentary"}, {"<|call|>", ""},
		}},
		{"remark with tools", []string{"f"}, "<|channel|>commentary<|message|>x", []step{
			{"<|channel|>", ""}, {"comment", ""}, {"ary", ""}, {"<|message|>", ""}, {"x", "analysis"},
		}},
		{"remark without tools", nil, "<|channel|>commentary<|message|>x", []step{
			{"<|channel|>", ""}, {"comment", ""}, {"ary", ""}, {"<|message|>", ""}, {"x", "final"},
		}},
	} {
		a := NewChatAssembler(enc, ParserOptions{Tools: c.tools})
		var got []step
		for _, id := range enc.tok.EncodeSpecial(nil, c.text) {
			a.Push(id)
			got = append(got, step{enc.tok.Decode([]int32{id}, true), a.Channel()})
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// A token whose character is incomplete adds no text, but belongs to the content.
func TestAssemblerChannelOfHeldBytes(t *testing.T) {
	a := NewChatAssembler(tiny(t), ParserOptions{Prefill: PrefillFinal})
	for i, b := range []byte("é") {
		deltas := a.Push(int32(b))
		if a.Channel() != ChannelFinal || len(deltas) != i {
			t.Errorf("byte %d: channel %q, %d deltas", i, a.Channel(), len(deltas))
		}
	}
}
