package tui

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSaveLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "chat.json")
	want := conversation{System: "s", Effort: "low", Turns: []turn{{"1+1?", "easy", "2\n<b>"}, {"日本?", "", "\tはい"}}}
	for range 2 { // the second time over the first file
		if err := want.save(path); err != nil {
			t.Fatal(err)
		}
	}
	got, err := loadConversation(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("(-saved +loaded):\n%s", diff)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files in the folder, want 1", len(files))
	}
}

func TestSaveErrors(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other.json")
	if err := os.WriteFile(other, []byte(`{"precious":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var c conversation
	for path, want := range map[string]string{
		other:                            "is not a saved chat; choose another name",
		filepath.Join(dir, "no", "file"): "no such file or directory",
		dir:                              "is a directory",
	} {
		if err := c.save(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if b, _ := os.ReadFile(other); string(b) != `{"precious":1}` {
		t.Errorf("another file has become %q", b)
	}
}

func TestParseConversation(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"empty", "", "not a saved chat: EOF"},
		{"other JSON", `{"a":1}`, `not a saved chat: json: unknown field "a"`},
		{"no format", `{"turns":[]}`, `not a saved chat: format is "", want "hearth chat 1"`},
		{"later format", `{"format":"hearth chat 2","turns":[]}`, `not a saved chat: format is "hearth chat 2", want "hearth chat 1"`},
		{"two values", `{"format":"hearth chat 1","turns":[]}{}`, "not a saved chat: text after the end"},
		{"effort", `{"format":"hearth chat 1","effort":"max"}`, `effort "max": must be low, medium or high`},
		{"half a turn", `{"format":"hearth chat 1","turns":[{"prompt":"p"}]}`, "not a saved chat: a turn lacks its prompt or content"},
		{"good", `{"format":"hearth chat 1","turns":[{"prompt":"p","content":"c"}]}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := parseConversation([]byte(tc.in)); errText(err) != tc.want {
				t.Errorf("%q, want %q", errText(err), tc.want)
			}
		})
	}
}

func FuzzConversation(f *testing.F) {
	f.Add([]byte(`{"format":"hearth chat 1","system":"s","effort":"high","turns":[{"prompt":"p","reasoning":"r","content":"c"}]}`))
	f.Add([]byte(`{"format":"hearth chat 1"} `))
	f.Add([]byte(`[1]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConversation(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(savedConversation{savedFormat, *c})
		if err != nil {
			t.Fatal(err)
		}
		d, err := parseConversation(again)
		if err != nil {
			t.Fatalf("what has been read is refused when written: %v", err)
		}
		if diff := cmp.Diff(c, d); diff != "" || bytes.Contains(again, []byte("\n")) {
			t.Fatalf("(-first +second):\n%s", diff)
		}
	})
}
