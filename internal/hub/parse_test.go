package hub

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var sortStrings = cmpopts.SortSlices(func(a, b string) bool { return a < b })

func paths(files []File) (out []string) {
	for _, f := range files {
		out = append(out, f.Path)
	}
	return out
}

func TestParseRef(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Ref
		ok   bool
	}{
		{"openai/gpt-oss-20b", Ref{"openai/gpt-oss-20b", ""}, true},
		{"openai/gpt-oss-20b@main", Ref{"openai/gpt-oss-20b", "main"}, true},
		{"a/b@refs/pr/1", Ref{"a/b", "refs/pr/1"}, true},
		{in: "gpt-oss-20b"}, {in: "./gpt/oss"}, {in: "../a/b"}, {in: "a/b/c"}, {in: "/a/b"}, {in: `C:\a/b`}, {in: "a/b@"}, {in: "a/b@../x"},
		{in: "a/b@x y:z"}, {in: "a--b/c"}, {in: "a/b..c"}, {in: "a/b.git"}, {in: "a/.b"}, {in: "./b"}, {in: "../b"}, {in: ""}, {in: "a/"},
	} {
		if got, ok := ParseRef(tc.in); got != tc.want || ok != tc.ok {
			t.Errorf("%q: %+v %v, want %+v %v", tc.in, got, ok, tc.want, tc.ok)
		}
	}
}

func TestPaths(t *testing.T) {
	for _, p := range []string{"", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", `a\b`, `..\x`, "a\x00b", "a\nb", "\xff", strings.Repeat("a", 1025)} {
		if checkPath(p) == nil {
			t.Errorf("%q is accepted", p)
		}
	}
	for _, p := range []string{"a", "a/b.json", "a..b", "...", "ü/模型.json", "a b"} {
		if err := checkPath(p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, p := range []string{"CON", "a/nul.json", "com1.txt", "lpt¹", "aux .txt", "c:x", "a?", "a.", "a /b"} {
		if checkPortable(p) == nil {
			t.Errorf("%q is accepted as portable", p)
		}
	}
	for _, p := range []string{"console.json", "com10", "nulls", "a.json", ".hidden"} {
		if err := checkPortable(p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestListingsThatAreRefused(t *testing.T) {
	const sha = `"sha":"0123456789abcdef0123456789abcdef01234567"`
	for _, tc := range []struct{ in, says string }{
		{`not JSON`, "invalid character"},
		{`{}`, "is no commit"},
		{`{"sha":"../../../../etc"}`, "is no commit"},
		{`{` + sha + `,"siblings":[{"rfilename":"../evil.safetensors"}]}`, `holds ".."`},
		{`{` + sha + `,"siblings":[{"rfilename":"/etc/passwd"}]}`, "absolute"},
		{`{` + sha + `,"siblings":[{"rfilename":"a\\b"}]}`, "backslash"},
		{`{` + sha + `,"siblings":[{"rfilename":"a\u0000b"}]}`, "control character"},
		{`{` + sha + `,"siblings":[{"rfilename":"a","size":-5}]}`, "size -5"},
		{`{` + sha + `,"siblings":[{"rfilename":"a","size":9223372036854775807}]}`, "size 9223372036854775807"},
		{`{` + sha + `,"siblings":[{"rfilename":"a"},{"rfilename":"a"}]}`, "twice"},
		{`{` + sha + `,"siblings":[{"rfilename":"a","lfs":{"sha256":"../x"}}]}`, "no SHA-256"},
		{`{` + sha + `,"siblings":[{"rfilename":"a","blobId":"../../x"}]}`, "no SHA-1"},
	} {
		if _, err := parseListing([]byte(tc.in)); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q", tc.in, err, tc.says)
		}
	}
}

func TestChoose(t *testing.T) {
	official := append(append([]string{}, rootFiles...), "README.md", "pytorch_model.bin", "original/config.json", "original/model.safetensors", "metal/model.bin", "LICENSE")
	quants := []string{"README.md", "config.json", "x-Q4_K_M.gguf", "x-Q8_0.gguf", "imatrix.gguf", "Q2/x-Q2-00001-of-00002.gguf", "Q2/x-Q2-00002-of-00002.gguf"}
	for _, tc := range []struct {
		name string
		sel  Selection
		repo []string
		want []string
		open string
		says string
	}{
		{name: "root", repo: official, want: rootFiles, open: "."},
		{name: "root by name", sel: Selection{Layout: "root"}, repo: official, want: rootFiles, open: "."},
		{name: "original", sel: Selection{Layout: "original"}, repo: official, want: []string{"original/config.json", "original/model.safetensors"}, open: "original"},
		{name: "metal", sel: Selection{Layout: "metal"}, repo: official, says: `--layout "metal": want root or original`},
		{name: "exclude", sel: Selection{Exclude: []string{"tokenizer*", "*.jinja", "model-00001*"}}, repo: official,
			want: []string{"config.json", "model-00000-of-00001.safetensors", "model.safetensors.index.json"}, open: "."},
		{name: "include crosses folders", sel: Selection{Include: []string{"*.safetensors"}}, repo: official,
			want: []string{"model-00000-of-00001.safetensors", "model-00001-of-00001.safetensors", "original/model.safetensors"}, open: "."},
		{name: "include a folder", sel: Selection{Include: []string{"original/"}}, repo: official, want: []string{"original/config.json", "original/model.safetensors"}, open: "."},
		{name: "include classes", sel: Selection{Include: []string{"model-0000[!1]-*", "config.jso?"}}, repo: official,
			want: []string{"config.json", "model-00000-of-00001.safetensors", "original/config.json"}, open: "."},
		{name: "include pickles", sel: Selection{Include: []string{"*.bin"}}, repo: official, says: "can run code"},
		{name: "include nothing", sel: Selection{Include: []string{"*.gguf"}}, repo: official, says: "no file matches --include *.gguf"},
		{name: "include a broken pattern", sel: Selection{Include: []string{"[z-a]"}}, repo: official, says: `pattern "[z-a]"`},
		{name: "include and layout", sel: Selection{Include: []string{"*"}, Layout: "root"}, repo: official, says: "replaces --layout"},
		{name: "file and layout", sel: Selection{File: "a", Layout: "root"}, repo: official, says: "exclude each other"},
		{name: "no original", sel: Selection{Layout: "original"}, repo: rootFiles, says: "leave --layout out"},
		{name: "only original", repo: []string{"original/config.json", "original/model.safetensors"}, says: "add --layout original"},
		{name: "quantisations", repo: quants, says: "holds 3 GGUF files: choose one with --file: Q2/x-Q2-00001-of-00002.gguf (0.0 MB), x-Q4_K_M.gguf (0.0 MB), x-Q8_0.gguf"},
		{name: "one quantisation", sel: Selection{File: "x-Q8_0.gguf"}, repo: quants, want: []string{"x-Q8_0.gguf"}, open: "x-Q8_0.gguf"},
		{name: "split quantisation", sel: Selection{File: "x-Q2-00001-of-00002.gguf"}, repo: quants,
			want: []string{"Q2/x-Q2-00001-of-00002.gguf", "Q2/x-Q2-00002-of-00002.gguf"}, open: "Q2/x-Q2-00001-of-00002.gguf"},
		{name: "no such quantisation", sel: Selection{File: "y.gguf"}, repo: quants, says: "it holds Q2/x-Q2"},
		{name: "file without GGUF", sel: Selection{File: "y.gguf"}, repo: official, says: "holds no GGUF file"},
		{name: "same name twice", sel: Selection{File: "x.gguf"}, repo: []string{"a/x.gguf", "b/x.gguf"}, says: "give its path: a/x.gguf, b/x.gguf"},
		{name: "a single GGUF", repo: []string{"x.gguf", "config.json"}, want: []string{"x.gguf"}, open: "x.gguf"},
		{name: "adapter", repo: []string{"adapter_config.json", "adapter_model.safetensors"}, says: "is an adapter"},
		{name: "pickles", repo: []string{"config.json", "pytorch_model.bin"}, says: "only PyTorch files"},
		{name: "nothing", repo: []string{"README.md"}, says: "holds no safetensors and no GGUF"},
		{name: "device name", repo: []string{"config.json", "nul.safetensors"}, says: "name of a device"},
		{name: "names that differ in case", repo: []string{"config.json", "A.safetensors", "a.safetensors"}, says: `two files are named "a.safetensors"`},
		{name: "device name elsewhere", repo: []string{"config.json", "model.safetensors", "runs/12:30/events"}, want: []string{"config.json", "model.safetensors"}, open: "."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var files []File
			for i, p := range tc.repo {
				files = append(files, File{Path: p, Size: int64(i)})
			}
			got, err := tc.sel.choose("a/b", files)
			if tc.says != "" {
				if err == nil || !strings.Contains(err.Error(), tc.says) {
					t.Fatalf("error %v, want %q", err, tc.says)
				}
				return
			}
			if err != nil || got.open != tc.open {
				t.Fatalf("open %q, %v; want %q", got.open, err, tc.open)
			}
			if diff := cmp.Diff(tc.want, paths(got.files), sortStrings); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	home := t.TempDir()
	tokenDir := filepath.Join(home, ".cache", "huggingface")
	if err := os.MkdirAll(tokenDir, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{filepath.Join(tokenDir, "token"): "hf_file\n", filepath.Join(home, "other"): " hf_other "} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name string
		env  map[string]string
		want Options
	}{
		{"nothing", nil, Options{CacheDir: filepath.Join(tokenDir, "hub"), Token: "hf_file"}},
		{"HF_HOME", map[string]string{"HF_HOME": "/data/hf"}, Options{CacheDir: "/data/hf/hub"}},
		{"HF_HOME with ~ and a variable", map[string]string{"HF_HOME": "~/$SUB", "SUB": "x"}, Options{CacheDir: filepath.Join(home, "x", "hub")}},
		{"XDG_CACHE_HOME", map[string]string{"XDG_CACHE_HOME": "/xdg"}, Options{CacheDir: "/xdg/huggingface/hub"}},
		{"HF_HUB_CACHE", map[string]string{"HF_HUB_CACHE": "/c", "HF_HOME": "/data/hf"}, Options{CacheDir: "/c"}},
		{"old name", map[string]string{"HUGGINGFACE_HUB_CACHE": "/c"}, Options{CacheDir: "/c", Token: "hf_file"}},
		{"HF_TOKEN wins", map[string]string{"HF_TOKEN": "hf_env"}, Options{CacheDir: filepath.Join(tokenDir, "hub"), Token: "hf_env"}},
		{"HF_TOKEN_PATH", map[string]string{"HF_TOKEN_PATH": "~/other"}, Options{CacheDir: filepath.Join(tokenDir, "hub"), Token: "hf_other"}},
		{"no implicit token", map[string]string{"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}, Options{CacheDir: filepath.Join(tokenDir, "hub")}},
		{"offline, mirror, no links", map[string]string{"HF_HUB_OFFLINE": "on", "HF_ENDPOINT": "https://mirror/", "HF_HUB_DISABLE_SYMLINKS": "TRUE", "HF_HOME": "/h"},
			Options{CacheDir: "/h/hub", Offline: true, Endpoint: "https://mirror/", NoSymlinks: true}},
		{"not offline", map[string]string{"HF_HUB_OFFLINE": "0", "HF_HOME": "/h"}, Options{CacheDir: "/h/hub"}},
	} {
		got, err := FromEnvironment(func(k string) string { return tc.env[k] }, home)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	if _, err := FromEnvironment(func(string) string { return "" }, ""); err == nil {
		t.Error("no home folder is accepted")
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	for _, o := range []Options{
		{}, {CacheDir: "c", Endpoint: "ftp://x"}, {CacheDir: "c", Endpoint: "huggingface.co"}, {CacheDir: "c", Endpoint: "https://u:p@x"}, {CacheDir: "c", Token: "a\nb"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func FuzzRevisionInfo(f *testing.F) {
	f.Add([]byte(`{"sha":"0123456789abcdef0123456789abcdef01234567","siblings":[{"rfilename":"config.json","size":3,"blobId":"0123456789abcdef0123456789abcdef01234567"},{"rfilename":"model.safetensors","size":5,"lfs":{"sha256":"` + strings.Repeat("0a", 32) + `","size":5,"pointerSize":134}}]}`))
	f.Add([]byte(`{"sha":"0123456789abcdef0123456789abcdef01234567","siblings":[{"rfilename":"../x.safetensors"},{"rfilename":"a/b.gguf","size":-1}]}`))
	f.Add([]byte(`{"sha":null,"siblings":[{"size":1e99}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := parseListing(body)
		if err != nil {
			return
		}
		if !json.Valid(body) || !commitHash.MatchString(l.Commit) {
			t.Fatalf("accepted commit %q", l.Commit)
		}
		var total int64
		for _, s := range []Selection{{}, {Layout: "original"}, {Include: []string{"*"}}} {
			pick, err := s.choose("a/b", l.Files)
			if err != nil {
				continue
			}
			for _, file := range pick.files {
				if !filepath.IsLocal(filepath.FromSlash(file.Path)) || file.Size < -1 {
					t.Errorf("chose %+v", file)
				}
				if tag := file.etag(); tag != "" && !sha256Hex.MatchString(tag) && !commitHash.MatchString(tag) {
					t.Errorf("chose the blob name %q", tag)
				}
			}
			total += sizeOf(pick.files)
		}
		if total < 0 {
			t.Error("sizes overflow")
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-0/1", "bytes 5-9/10", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes 0-10/10", "Bytes 0-9223372036854775807/*", "bytes -1-2/3", "bytes +1-2/3", "", "bytes "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseContentRange(s)
		if err != nil {
			if r != (contentRange{}) && r.total >= 0 && r.first >= 0 && r.last >= r.first && r.last < r.total {
				t.Errorf("%q: %v beside a good range %+v", s, err, r)
			}
			return
		}
		if r.first < 0 || r.last < r.first || r.total >= 0 && r.last >= r.total {
			t.Errorf("%q: %+v", s, r)
		}
		total := "*"
		if r.total >= 0 {
			total = fmt.Sprint(r.total)
		}
		if again, err := parseContentRange(fmt.Sprintf("bytes %d-%d/%s", r.first, r.last, total)); err != nil || again != r {
			t.Errorf("%q: %+v does not come back: %+v %v", s, r, again, err)
		}
	})
}
