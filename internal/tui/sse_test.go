package tui

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// readEvents collects all events and the error that ends them.
func readEvents(r io.Reader) ([]event, error) {
	e := newEventReader(r)
	var out []event
	for {
		ev, err := e.next()
		if err != nil {
			return out, err
		}
		out = append(out, ev)
	}
}

func TestEventReader(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, tc := range []struct {
		name, in string
		want     []event
	}{
		{"empty", "", nil},
		{"one", "data: a\n\n", []event{{data: "a"}}},
		{"only one space is removed", "data:  a\n\ndata:b\n\n", []event{{data: " a"}, {data: "b"}}},
		{"several lines", "data: a\ndata:\ndata: b\n\n", []event{{data: "a\n\nb"}}},
		{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", []event{{data: "a"}, {data: "b"}}},
		{"CR", "data: a\r\rdata: b\r\r", []event{{data: "a"}, {data: "b"}}},
		{"mixed ends", "data: a\r\n\rdata: b\n\r\n", []event{{data: "a"}, {data: "b"}}},
		{"comments", ": keep-alive\n\n:\ndata: a\n: b\n\n", []event{{data: "a"}}},
		{"names", "event: error\ndata: a\n\ndata: b\n\n", []event{{"error", "a"}, {"", "b"}}},
		{"a name without data is no event", "event: ping\n\ndata: a\n\n", []event{{data: "a"}}},
		{"other fields", "id: 1\nretry: 5\nnonsense\ndata: a\n\n", []event{{data: "a"}}},
		{"field without colon", "data\n\n", []event{{data: ""}}},
		{"cut off", "data: a\n\ndata: b", []event{{data: "a"}, {data: "b"}}},
		{"byte order mark", "\ufeffdata: a\n\n", []event{{data: "a"}}},
		{"a later mark is text", "data: a\n\n\ufeffdata: b\n\n", []event{{data: "a"}}},
		{"long line", "data: " + long + "\n\n", []event{{data: long}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"whole":   strings.NewReader(tc.in),
				"bytes":   iotest.OneByteReader(strings.NewReader(tc.in)),
				"dataEOF": iotest.DataErrReader(strings.NewReader(tc.in)),
			} {
				got, err := readEvents(r)
				if err != io.EOF {
					t.Errorf("%s: ended with %v", name, err)
				}
				if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(event{})); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

func TestEventReaderErrors(t *testing.T) {
	_, err := readEvents(io.MultiReader(strings.NewReader("data: a"), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a failing connection gives %v", err)
	}
	line := "data: " + strings.Repeat("x", maxEvent/4) + "\n"
	for name, in := range map[string]string{
		"one line":      "data: " + strings.Repeat("x", maxEvent+1),
		"several lines": strings.Repeat(line, 5),
	} {
		if _, err := readEvents(strings.NewReader(in)); err != errEventTooLong {
			t.Errorf("%s: %v, want %v", name, err, errEventTooLong)
		}
	}
}

// naiveEvents is the specification applied to a whole text.
func naiveEvents(s string) []event {
	s = strings.TrimPrefix(s, "\ufeff")
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s)
	var out []event
	for _, text := range strings.Split(s, "\n\n") {
		var ev event
		var data []string
		for _, line := range strings.Split(text, "\n") {
			field, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch field {
			case "":
				if line == "" && data == nil { // more than two line ends in a row, not a last one after data
					ev.name = ""
				}
			case "data":
				data = append(data, value)
			case "event":
				ev.name = value
			}
		}
		if data != nil {
			ev.data = strings.Join(data, "\n")
			out = append(out, ev)
		}
	}
	return out
}

func FuzzSSE(f *testing.F) {
	for _, s := range []string{
		"data: {\"choices\":[]}\n\ndata: [DONE]\n\n", "event: error\r\ndata: x\r\n\r\n", ": c\n\n\n\ndata\n", "event: e\ndata: cut\n",
		"\ufeff:\rdata:\r\r", "data: a\ndata: b", "\ndata: a\n\n\n\nevent: b\n\n\ndata: c",
		`data: {"choices":[{"delta":{"content":"a","tool_calls":[{"index":-1}]},"finish_reason":"stop"}]}` + "\n\n",
		`data: {"error":{"message":"m","code":7}}` + "\n\n", `data: {"error":"m"}` + "\n\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := naiveEvents(s)
		for _, r := range []io.Reader{strings.NewReader(s), iotest.OneByteReader(strings.NewReader(s)), iotest.HalfReader(strings.NewReader(s))} {
			got, err := readEvents(r)
			if err != io.EOF {
				t.Fatalf("ended with %v", err)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(event{})); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
		}
		// The decoder on top ends, and gives either text or an error.
		stream := &chatStream{events: newEventReader(strings.NewReader(s))}
		var calls []toolCall
		for {
			d, err := stream.next(t.Context())
			if err != nil {
				break
			}
			calls = addCalls(calls, d.Calls)
		}
	})
}
