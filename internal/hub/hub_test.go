package hub

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hearth/internal/testhub"
)

const repoName = "acme/gpt-oss-tiny"

// noise is content that no compression or accident repeats.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	r.Read(b)
	return b
}

// threeCopies is a repository as GPT-OSS's own: the model at the root, in original/ and in metal/.
func threeCopies() map[string][]byte {
	return map[string][]byte{
		"config.json":                      []byte(`{"architectures":["GptOssForCausalLM"]}`),
		"model.safetensors.index.json":     []byte(`{"weight_map":{"a":"model-00000-of-00001.safetensors","b":"model-00001-of-00001.safetensors"}}`),
		"model-00000-of-00001.safetensors": noise(1, 300_000),
		"model-00001-of-00001.safetensors": noise(2, 120_000),
		"tokenizer.json":                   noise(3, 40_000),
		"chat_template.jinja":              []byte("{{ messages }}"),
		"README.md":                        []byte("# tiny"),
		"pytorch_model.bin":                noise(4, 1000),
		"original/config.json":             []byte(`{"num_experts":8}`),
		"original/model.safetensors":       noise(5, 200_000),
		"metal/model.bin":                  noise(6, 150_000),
	}
}

var rootFiles = []string{
	"chat_template.jinja", "config.json", "model-00000-of-00001.safetensors", "model-00001-of-00001.safetensors",
	"model.safetensors.index.json", "tokenizer.json",
}

func startHub(t testing.TB) *testhub.Hub {
	h := testhub.New()
	h.Start()
	t.Cleanup(h.Close)
	return h
}

// testClient is a client whose pauses take no time and are recorded.
type testClient struct {
	*Client
	mu     sync.Mutex
	pauses []time.Duration
	notes  []string
	total  int64
	done   int64
}

func newClient(t testing.TB, h *testhub.Hub, cache string, change ...func(*Options)) *testClient {
	t.Helper()
	o := Options{Endpoint: h.URL(), CacheDir: cache, Transport: newTransport(t)}
	for _, f := range change {
		f(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	tc := &testClient{Client: c}
	c.jitter = func() float64 { return 1 }
	c.sleep = func(ctx context.Context, d time.Duration) error {
		tc.mu.Lock()
		defer tc.mu.Unlock()
		tc.pauses = append(tc.pauses, d)
		return ctx.Err()
	}
	return tc
}

func (c *testClient) Begin(_ int, total int64) {
	c.mu.Lock()
	c.total = total
	c.done = 0
	c.mu.Unlock()
}
func (c *testClient) Add(n int64)   { c.mu.Lock(); c.done += n; c.mu.Unlock() }
func (c *testClient) Note(s string) { c.mu.Lock(); c.notes = append(c.notes, s); c.mu.Unlock() }

func (c *testClient) noted(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Contains(strings.Join(c.notes, "\n"), text)
}

// checkCache fails when a file has a final name and not the content of it.
func checkCache(t interface{ Errorf(string, ...any) }, cache string) {
	filepath.WalkDir(cache, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			t.Errorf("%v", err)
			return nil
		}
		if filepath.Base(filepath.Dir(name)) == "blobs" && !strings.HasSuffix(name, ".incomplete") {
			b, err := os.ReadFile(name)
			if sum := filepath.Base(name); err != nil || testhub.SHA256(b) != sum && testhub.Git(b) != sum {
				t.Errorf("blob %s holds something else (%v)", sum, err)
			}
		}
		if d.Type()&fs.ModeSymlink != 0 {
			if _, err := os.Stat(name); err != nil {
				t.Errorf("dangling link: %v", err)
			}
		}
		return nil
	})
}

// readDir gives all files below a folder.
func readDir(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		out[filepath.ToSlash(rel)] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func only(files map[string][]byte, names ...string) map[string][]byte {
	out := map[string][]byte{}
	for _, n := range names {
		out[n] = files[n]
	}
	return out
}

func mustPull(t testing.TB, c *testClient, ref Ref, s Selection) Result {
	t.Helper()
	r, err := c.Pull(t.Context(), ref, s, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPullWritesTheOfficialLayout(t *testing.T) {
	h := startHub(t)
	h.Token = "hf_secret"
	files := threeCopies()
	commit := h.Commit(repoName, "main", files)
	cache := t.TempDir()
	c := newClient(t, h, cache, func(o *Options) { o.Token = "hf_secret" })
	r := mustPull(t, c, Ref{Repo: repoName}, Selection{})

	repo := filepath.Join(cache, "models--acme--gpt-oss-tiny")
	if want := filepath.Join(repo, "snapshots", commit); r.Path != want || r.Commit != commit || r.Fetched != len(rootFiles) {
		t.Errorf("result %+v, want path %s", r, want)
	}
	if diff := cmp.Diff(only(files, rootFiles...), readDir(t, r.Dir)); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
	if b, _ := os.ReadFile(filepath.Join(repo, "refs", "main")); string(b) != commit {
		t.Errorf("refs/main is %q", b)
	}
	link, err := os.Readlink(filepath.Join(r.Dir, "config.json"))
	if want := filepath.Join("..", "..", "blobs", testhub.Git(files["config.json"])); err != nil || link != want {
		t.Errorf("link %q (%v), want %q", link, err, want)
	}
	if got := len(readDir(t, filepath.Join(repo, "blobs"))); got != len(rootFiles) {
		t.Errorf("%d blobs, want %d and nothing unfinished", got, len(rootFiles))
	}
	checkCache(t, cache)
	if c.done != c.total || c.total != sizeOf(r.Files) {
		t.Errorf("progress ended at %d of %d", c.done, c.total)
	}
	for _, q := range h.Log() {
		if q.Host == "storage" && q.Auth != "" {
			t.Errorf("the token went to the storage: %s", q.URL)
		}
		if q.Host == "hub" && q.Auth != "Bearer hf_secret" {
			t.Errorf("no token for %s", q.URL)
		}
	}

	// A second pull asks once and fetches nothing; another layout shares nothing but the folder.
	before := len(h.Log())
	if again := mustPull(t, c, Ref{Repo: repoName}, Selection{}); again.Fetched != 0 || len(h.Log()) != before+1 {
		t.Errorf("second pull fetched %d files in %d requests", again.Fetched, len(h.Log())-before)
	}
	original := mustPull(t, c, Ref{Repo: repoName}, Selection{Layout: "original"})
	if diff := cmp.Diff([]string{"original/config.json", "original/model.safetensors"}, paths(original.Files), sortStrings); diff != "" {
		t.Errorf("original (-want +got):\n%s", diff)
	}
	if want := filepath.Join(r.Dir, "original"); original.Path != want {
		t.Errorf("path %s, want %s", original.Path, want)
	}
}

func TestResumeAsksOnlyForWhatIsMissing(t *testing.T) {
	h := startHub(t)
	files := threeCopies()
	const shard = "model-00000-of-00001.safetensors"
	h.Commit(repoName, "main", files)
	cuts := []int64{1, 70_000, 0, 0, 100_000} // of each answer; bytes in all: 170 001
	h.Fault = func(q testhub.Request) (f testhub.Fault) {
		if q.Host == "storage" && q.Path == shard && q.Count < len(cuts) {
			f.Break, f.After = true, cuts[q.Count]
		}
		return f
	}
	c := newClient(t, h, t.TempDir())
	r := mustPull(t, c, Ref{Repo: repoName}, Selection{})
	if got := readDir(t, r.Dir)[shard]; !bytes.Equal(got, files[shard]) {
		t.Error("the file differs")
	}
	if got, want := h.Sent(shard), int64(len(files[shard])); got != want {
		t.Errorf("%d bytes sent, want each of %d once", got, want)
	}
	var from []int64
	for _, q := range h.Log() {
		if q.Host == "storage" && q.Path == shard {
			from = append(from, q.From)
		}
	}
	if diff := cmp.Diff([]int64{0, 1, 70_001, 70_001, 70_001, 170_001}, from); diff != "" {
		t.Errorf("first bytes asked for (-want +got):\n%s", diff)
	}
	// Progress starts the back-off again; failures without progress double it.
	if diff := cmp.Diff([]time.Duration{time.Second, time.Second, 2 * time.Second, 4 * time.Second, time.Second}, c.pauses); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
}

// A pull that was stopped goes on in another process, even from a partial file with a wrong byte in it.
func TestResumeInAnotherProcess(t *testing.T) {
	const shard = "model-00000-of-00001.safetensors"
	for _, tc := range []struct {
		name   string
		damage bool
		sent   int64
	}{{"kept", false, 300_000}, {"damaged", true, 300_000 + 300_000}} {
		t.Run(tc.name, func(t *testing.T) {
			h := startHub(t)
			files := threeCopies()
			h.Commit(repoName, "main", files)
			cache := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			hang := make(chan struct{})
			h.Fault = func(q testhub.Request) (f testhub.Fault) {
				if q.Host == "storage" && q.Path == shard && q.Count == 0 {
					f.Hang, f.After = hang, 150_000
				}
				return f
			}
			first := newClient(t, h, cache)
			watch := &until{Report: first, n: 150_000 + 120_000, stop: cancel}
			_, err := first.Pull(ctx, Ref{Repo: repoName}, Selection{Include: []string{"*.safetensors"}, Exclude: []string{"original/*"}}, watch)
			close(hang)
			if err != context.Canceled {
				t.Fatalf("a stopped pull gives %v", err)
			}
			if _, ok := first.Snapshot(Ref{Repo: repoName}, Selection{}); ok {
				t.Error("an unfinished snapshot counts as complete")
			}
			partial := filepath.Join(cache, "models--acme--gpt-oss-tiny", "blobs", testhub.SHA256(files[shard])+".incomplete")
			b, err := os.ReadFile(partial)
			if err != nil || len(b) != 150_000 {
				t.Fatalf("partial file of %d bytes: %v", len(b), err)
			}
			if tc.damage {
				b[77] ^= 1
				if err := os.WriteFile(partial, b, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			second := newClient(t, h, cache)
			r := mustPull(t, second, Ref{Repo: repoName}, Selection{})
			if diff := cmp.Diff(only(files, rootFiles...), readDir(t, r.Dir)); diff != "" {
				t.Errorf("snapshot (-want +got):\n%s", diff)
			}
			if got := h.Sent(shard); got != tc.sent {
				t.Errorf("%d bytes sent, want %d", got, tc.sent)
			}
			if second.done != second.total {
				t.Errorf("progress ended at %d of %d", second.done, second.total)
			}
		})
	}
}

// until stops a pull once so many bytes are there.
type until struct {
	Report
	mu   sync.Mutex
	n    int64
	stop func()
}

func (u *until) Add(n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n -= n; u.n <= 0 {
		u.stop()
	}
}

func TestRefMoves(t *testing.T) {
	h := startHub(t)
	files := threeCopies()
	old := h.Commit(repoName, "main", files)
	cache := t.TempDir()
	c := newClient(t, h, cache)
	mustPull(t, c, Ref{Repo: repoName}, Selection{})

	next := threeCopies()
	next["model-00001-of-00001.safetensors"] = noise(9, 90_000)
	moved := h.Commit(repoName, "main", next)
	h.Fault = func(q testhub.Request) testhub.Fault { return testhub.Fault{Flip: q.Host == "storage"} }
	if _, err := c.Pull(t.Context(), Ref{Repo: repoName}, Selection{}, c); err == nil {
		t.Fatal("corrupt bytes were accepted")
	}
	if r, ok := c.Snapshot(Ref{Repo: repoName}, Selection{}); !ok || r.Commit != old {
		t.Errorf("after a failed update the cache names %q, want the old commit", r.Commit)
	}
	checkCache(t, cache)

	h.Fault = nil
	r, err := c.Resolve(t.Context(), Ref{Repo: repoName}, Selection{}, c)
	if err != nil || r.Commit != moved || r.Fetched != 1 {
		t.Fatalf("after the ref moved: %+v, %v", r, err)
	}
	if h.Sent("model-00000-of-00001.safetensors") != 300_000 {
		t.Error("an unchanged file was sent again")
	}
	if _, ok := c.Snapshot(Ref{Repo: repoName, Revision: old}, Selection{}); !ok {
		t.Error("the old commit is gone")
	}
}

// Two pulls of one repository send every byte once: one works, the other waits for its lock.
func TestTwoPullsAtOnce(t *testing.T) {
	h := startHub(t)
	files := threeCopies()
	h.Commit(repoName, "main", files)
	cache := t.TempDir()
	a, b := newClient(t, h, cache), newClient(t, h, cache)
	waiting, once := make(chan struct{}), sync.Once{}
	for _, c := range []*testClient{a, b} {
		c.sleep = func(ctx context.Context, d time.Duration) error {
			once.Do(func() { close(waiting) })
			return sleep(ctx, time.Millisecond)
		}
	}
	// The first answer of the storage is held back until somebody waits for a lock.
	h.Fault = func(q testhub.Request) testhub.Fault {
		if q.Host == "storage" {
			<-waiting
		}
		return testhub.Fault{}
	}
	var wg sync.WaitGroup
	for _, c := range []*testClient{a, b} {
		wg.Go(func() {
			if _, err := c.Pull(t.Context(), Ref{Repo: repoName}, Selection{}, c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, f := range rootFiles {
		if got, want := h.Sent(f), int64(len(files[f])); got != want {
			t.Errorf("%s: %d bytes sent, want %d", f, got, want)
		}
	}
	if !a.noted("another process is downloading it") && !b.noted("another process is downloading it") {
		t.Error("nobody said that it waits")
	}
	if a.done != a.total || b.done != b.total {
		t.Errorf("progress %d/%d and %d/%d", a.done, a.total, b.done, b.total)
	}
	checkCache(t, cache)
}

func TestWithoutSymbolicLinks(t *testing.T) {
	h := startHub(t)
	files := threeCopies()
	h.Commit(repoName, "main", files)
	c := newClient(t, h, t.TempDir(), func(o *Options) { o.NoSymlinks = true })
	r := mustPull(t, c, Ref{Repo: repoName}, Selection{})
	if diff := cmp.Diff(only(files, rootFiles...), readDir(t, r.Dir)); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
	if st, err := os.Lstat(filepath.Join(r.Dir, "config.json")); err != nil || !st.Mode().IsRegular() {
		t.Errorf("config.json: %v %v", st, err)
	}
	if got, ok := c.Snapshot(Ref{Repo: repoName}, Selection{}); !ok || got.Dir != r.Dir {
		t.Error("the snapshot is not found again")
	}
}

// Without locks every pull writes a partial file of its own, and leaves none behind.
func TestWithoutLocks(t *testing.T) {
	h := startHub(t)
	files := threeCopies()
	h.Commit(repoName, "main", files)
	cache := t.TempDir()
	c := newClient(t, h, cache)
	c.lockFile = func(*os.File) error { return errNoLocks }
	h.Fault = func(q testhub.Request) testhub.Fault {
		return testhub.Fault{Break: q.Host == "storage" && q.Count == 0, After: 50_000}
	}
	r := mustPull(t, c, Ref{Repo: repoName}, Selection{})
	if diff := cmp.Diff(only(files, rootFiles...), readDir(t, r.Dir)); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
	if n := len(readDir(t, filepath.Join(cache, "models--acme--gpt-oss-tiny", "blobs"))); n != len(rootFiles) || !c.noted("has no locks") {
		t.Errorf("%d files in blobs, notes %q", n, c.notes)
	}
	checkCache(t, cache)

	h.Commit(repoName, "main", map[string][]byte{"config.json": []byte("{}"), "model.safetensors": noise(8, 1000)})
	h.Fault = func(q testhub.Request) testhub.Fault { return testhub.Fault{Break: q.Host == "storage"} }
	if _, err := c.Pull(t.Context(), Ref{Repo: repoName}, Selection{}, c); !errors.Is(err, Unreachable) {
		t.Errorf("a server that always breaks: %v", err)
	}
	if n := len(readDir(t, filepath.Join(cache, "models--acme--gpt-oss-tiny", "blobs"))); n > len(rootFiles)+1 {
		t.Errorf("a partial file was left behind: %d files", n)
	}
}

func TestCopyWhereNothingLinks(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := os.WriteFile(from, noise(1, 100_000), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := copyFile(to, from); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(to); !bytes.Equal(b, noise(1, 100_000)) {
		t.Error("the copy differs")
	}
	if err := copyFile(to, from); err == nil {
		t.Error("a copy overwrote a file")
	}
}
