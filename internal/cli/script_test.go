package cli

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hearth/internal/testhub"
	"hearth/internal/testmodel"
)

func TestMain(m *testing.M) {
	testscript.Main(alone{m}, map[string]func(){
		"hearth": func() {
			os.Exit(Main(context.Background(), os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// alone runs the tests without the user's settings, except for those that choose what is tested, and with a cache of their own.
type alone struct{ *testing.M }

func (m alone) Run() int {
	cache, err := os.MkdirTemp("", "hearth-cli-cache")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(cache)
	for _, name := range known() {
		if name != "HEARTH_CPU" && name != "CUDA_VISIBLE_DEVICES" {
			os.Unsetenv(name)
		}
	}
	os.Setenv("XDG_CACHE_HOME", cache)
	return m.M.Run()
}

// TestScripts runs the commands as a user types them. $MODELS holds tiny checkpoints, $HF_ENDPOINT is a hub with some
// of them, $HF_HOME an empty folder for what is fetched from it.
func TestScripts(t *testing.T) {
	if testmodel.Race {
		t.Skip("the race detector is on: every command is a process of its own, and the packages have tests that share one")
	}
	models := t.TempDir()
	for _, name := range []string{"hf-mxfp4", "openai-original", "unsloth-nf4-dq", "hf-bf16"} {
		if err := os.Symlink(testmodel.Dir(t, "tiny-a/"+name), filepath.Join(models, name)); err != nil {
			t.Fatal(err)
		}
	}
	h := tinyHub(t)
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"spoil": spoil},
		Setup: func(e *testscript.Env) error {
			e.Setenv("MODELS", models)
			e.Setenv("HF_ENDPOINT", h.URL())
			e.Setenv("HF_HOME", filepath.Join(e.WorkDir, "hf"))
			return nil
		},
	})
}

// tinyHub offers acme/tiny, with its model at the root and in original/, and acme/tiny-GGUF with two files.
func tinyHub(t *testing.T) *testhub.Hub {
	files := map[string][]byte{"README.md": []byte("# tiny"), "metal/model.bin": []byte("GPT-OSS v1.0")}
	for prefix, layout := range map[string]string{"": "hf-mxfp4", "original/": "openai-original"} {
		dir := os.DirFS(testmodel.Dir(t, "tiny-a/"+layout))
		names, err := fs.Glob(dir, "*")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if files[prefix+name], err = fs.ReadFile(dir, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	h := testhub.New()
	h.Commit("acme/tiny", "main", files)
	h.Commit("acme/tiny-GGUF", "main", map[string][]byte{"tiny-Q4.gguf": []byte("GGUF four"), "tiny-Q8.gguf": []byte("GGUF eight")})
	h.Start()
	t.Cleanup(h.Close)
	return h
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
