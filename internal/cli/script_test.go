package cli

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hearth/internal/testmodel"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"hearth": func() {
			os.Exit(Main(context.Background(), os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// TestScripts runs the commands as a user types them. $MODELS holds tiny checkpoints.
func TestScripts(t *testing.T) {
	models := t.TempDir()
	for _, name := range []string{"hf-mxfp4", "openai-original", "unsloth-nf4-dq", "hf-bf16"} {
		if err := os.Symlink(testmodel.Dir(t, "tiny-a/"+name), filepath.Join(models, name)); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"spoil": spoil},
		Setup: func(e *testscript.Env) error {
			e.Setenv("MODELS", models)
			return nil
		},
	})
}

// spoil FILE TENSOR overwrites the first value of a BF16 tensor with NaN.
func spoil(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	n := binary.LittleEndian.Uint64(b)
	var header map[string]struct {
		Offsets [2]int `json:"data_offsets"`
	}
	ts.Check(json.Unmarshal(b[8:8+n], &header))
	at := 8 + int(n) + header[args[1]].Offsets[0]
	binary.LittleEndian.PutUint16(b[at:], 0x7fc0)
	ts.Check(os.WriteFile(path, b, 0o644))
}
