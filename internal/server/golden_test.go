package server

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestTranscripts runs the scripts in testdata: "model" says what the model will answer, "post" sends a body and
// shows the status and the answer as the client reads it. Rewrite with -rewrite and review the difference.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/transcripts", func(t *testing.T, path string) {
		says := ""
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "model":
				says = strings.ReplaceAll(d.Input, "\n", "")
				return ""
			case "post", "get":
				r := newRig(t, says)
				if d.Cmd == "get" {
					return transcript(r, http.MethodGet, d.CmdArgs[0].Key, "")
				}
				return transcript(r, http.MethodPost, d.CmdArgs[0].Key, d.Input)
			}
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		})
	})
}

var (
	volatile = regexp.MustCompile(`"created":\d+`)
	randomID = regexp.MustCompile(`(chatcmpl-|cmpl-|call_)[a-z0-9]{26}`)
)

// transcript is an answer with what is different each time replaced: ids are numbered in their order.
func transcript(r *rig, method, path, body string) string {
	w := r.do(method, path, body)
	text := volatile.ReplaceAllString(w.Body.String(), `"created":0`)
	seen := map[string]string{}
	text = randomID.ReplaceAllStringFunc(text, func(id string) string {
		if _, ok := seen[id]; !ok {
			prefix := id[:len(id)-26]
			seen[id] = fmt.Sprintf("%sID%d", prefix, len(seen)+1)
		}
		return seen[id]
	})
	// One event a line: the blank lines between events would hide in a script.
	text = strings.ReplaceAll(text, "\n\n", "\n")
	return fmt.Sprintf("%d %s\n%s", w.Code, w.Header().Get("Content-Type"), text)
}
