// Package internal holds no code, only the rules between the packages below it.
package internal

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rules says what each package may import of ours, and why not more. Data flows one way through the house:
// bytes on disk -> tensors -> device -> tokens -> Harmony -> HTTP.
func rules() map[string]rule {
	return map[string]rule{
		"dtype":      {nil, "codecs are a leaf: anything may decode a block"},
		"tokenizer":  {nil, "text and ids, nothing of models"},
		"kvcache":    {nil, "bookkeeping of pages, no tensors and no device"},
		"tui":        {nil, "a client of any server, over HTTP alone"},
		"hub":        {nil, "files from the network, not what is in them"},
		"device":     {[]string{"dtype"}, "a contract holds no implementation"},
		"checkpoint": {[]string{"dtype"}, "files are described without looking at the machine"},
		"convert":    {[]string{"checkpoint", "dtype"}, "files to files and planes to planes, without a device"},
		"cpu":        {[]string{"device", "dtype"}, "a device knows nothing of files or requests"},
		"cuda":       {[]string{"device", "dtype"}, "a device knows nothing of files or requests"},
		"model":      {[]string{"checkpoint", "device", "dtype"}, "the forward pass is written against the contract, never against one device"},
		"engine":     {[]string{"kvcache", "model"}, "the scheduler sees ids and pages only"},
		"harmony":    {[]string{"tokenizer"}, "conversations and ids"},
		"eval":       {[]string{"engine", "harmony"}, "asks as the server does, over tokens"},
		"server":     {[]string{"engine", "harmony", "tokenizer"}, "HTTP reaches the model through the engine alone"},
		"cli":        {[]string{"checkpoint", "convert", "cpu", "cuda", "device", "dtype", "engine", "eval", "harmony", "hub", "model", "server", "tokenizer", "tui"}, "the only place that wires"},
		"testmodel":  {nil, "tiny checkpoints for tests"},
		"testgpu":    {nil, "a GPU for tests: it knows PTX and nothing of ours"},
		"testhub":    {nil, "a hub with faults on demand, for tests"},
	}
}

type rule struct {
	allow []string
	why   string
}

// forbidden names packages outside the house that only some of ours may import.
func forbidden() []struct{ prefix, only, why string } {
	return []struct{ prefix, only, why string }{
		{"net/http", "cli hub server testhub tui", "readers, devices and the engine must not reach the network"},
		{"github.com/prometheus/", "server", "metrics belong to the server"},
		{"charm.land/", "tui", "terminal libraries belong to the terminal chat"},
		{"github.com/ebitengine/purego", "cuda", "the driver is reached from one package alone"},
		{"github.com/spf13/", "cli", "flags belong to the commands"},
		{"os/exec", "", "nothing here starts programs"},
	}
}

type goPackage struct {
	ImportPath string
	Doc        string
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Imports", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportRules(t *testing.T) {
	table := rules()
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, "hearth/internal"), "/")
		if name == "" {
			continue
		}
		r, ok := table[name]
		if !ok {
			t.Errorf("package %s has no row in the table of rules", name)
			continue
		}
		for _, imported := range p.Imports {
			ours, is := strings.CutPrefix(imported, "hearth/internal/")
			if is && !slices.Contains(r.allow, ours) {
				t.Errorf("%s imports %s: %s", name, ours, r.why)
			}
			for _, f := range forbidden() {
				if strings.HasPrefix(imported, f.prefix) && !slices.Contains(strings.Fields(f.only), name) && name != "testmodel" {
					t.Errorf("%s imports %s: %s", name, imported, f.why)
				}
			}
		}
	}
}

// A package says in its first comment what it is and what it never does.
func TestPackageComments(t *testing.T) {
	for _, p := range listPackages(t) {
		if p.ImportPath != "hearth/internal" && len(strings.Fields(p.Doc)) < 5 { // which is this file alone
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// Past 800 lines a reader would ask for a split.
func TestFileLength(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := os.ReadFile(path)
		if n := bytes.Count(b, []byte("\n")); n > 800 {
			t.Errorf("%s has %d lines", path, n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
