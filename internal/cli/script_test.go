package cli

import (
	"context"
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
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("MODELS", models)
			return nil
		},
	})
}
