package hub

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hearth/internal/testhub"
)

func TestRefusals(t *testing.T) {
	// A port below the ephemeral range: one that a closed test server left may be another test's by now.
	const gone = "http://127.0.0.1:1"
	tlsServer := httptest.NewUnstartedServer(nil)
	tlsServer.Config.ErrorLog = log.New(io.Discard, "", 0) // it would report what the test provokes
	tlsServer.StartTLS()
	defer tlsServer.Close()
	for _, tc := range []struct {
		name   string
		ref    Ref
		hub    func(*testhub.Hub)
		client func(*testClient)
		option func(*Options)
		kind   Kind
		says   []string
	}{
		{name: "no such repository", ref: Ref{Repo: "acme/nothing"}, kind: RepositoryNotFound, says: []string{"acme/nothing: no such model repository", "check the spelling", "HF_TOKEN"}},
		{name: "no such revision", ref: Ref{Repo: repoName, Revision: "v9"}, kind: RevisionNotFound, says: []string{`has no revision "v9"`, "/acme/gpt-oss-tiny/tree/main"}},
		{name: "file gone", hub: func(h *testhub.Hub) {
			h.Tweak = func(l *testhub.Listing) {
				l.Siblings = append(l.Siblings, testhub.Sibling{Path: "ghost.json", Size: new(int64), Blob: strings.Repeat("0", 40)})
				*l.Siblings[len(l.Siblings)-1].Size = 5
			}
		}, kind: FileNotFound, says: []string{"ghost.json: no such file in this revision"}},
		{name: "private, no token", hub: func(h *testhub.Hub) { h.Token = "x" }, kind: RepositoryNotFound, says: []string{"private", "set HF_TOKEN to a token made at"}},
		{name: "private, wrong token", hub: func(h *testhub.Hub) { h.Token = "x" }, option: func(o *Options) { o.Token = "y" }, kind: RepositoryNotFound, says: []string{"the token in use"}},
		{name: "gated", hub: func(h *testhub.Hub) {
			h.Fault = func(q testhub.Request) (f testhub.Fault) {
				if q.Path == "tokenizer.json" {
					f.Status, f.Header = 403, http.Header{"X-Error-Code": {"GatedRepo"}}
				}
				return f
			}
		}, kind: Gated, says: []string{"accept it at", "/acme/gpt-oss-tiny, then set HF_TOKEN"}},
		{name: "forbidden", hub: status(403), kind: Gated, says: []string{"403"}},
		{name: "bad token", hub: status(401), option: func(o *Options) { o.Token = "y" }, kind: Unauthorized, says: []string{"refuses the token"}},
		{name: "unauthorised", hub: status(401), kind: RepositoryNotFound, says: []string{"private or gated"}},
		{name: "too many requests", hub: status(429), kind: RateLimited, says: []string{"slow down (429)"}},
		{name: "hub down", hub: status(502), kind: ServerFault, says: []string{"502 Bad Gateway", "try again later"}},
		{name: "not a hub", hub: status(200), kind: BadListing, says: []string{"is HF_ENDPOINT a Hugging Face hub?"}},
		{name: "offline", option: func(o *Options) { o.Offline = true }, kind: Offline, says: []string{"HF_HUB_OFFLINE is set", "unset it"}},
		{name: "nobody listens", option: func(o *Options) { o.Endpoint = gone }, kind: Unreachable, says: []string{"connection refused", "HF_HUB_OFFLINE=1"}},
		{name: "unknown certificate", option: func(o *Options) { o.Endpoint = tlsServer.URL }, kind: Unreachable, says: []string{"SSL_CERT_FILE"}},
		{name: "no TLS", option: func(o *Options) { o.Endpoint = strings.Replace(o.Endpoint, "http:", "https:", 1) }, kind: Unreachable, says: []string{"answers without TLS"}},
		{name: "proxy down", option: func(o *Options) {
			o.Endpoint = "https://hub.invalid"
			o.Transport.(*http.Transport).Proxy = func(r *http.Request) (*url.URL, error) { return parseHTTP(gone) }
		}, kind: Unreachable, says: []string{"the proxy for hub.invalid does not answer", "HTTPS_PROXY"}},
		{name: "no space", client: func(c *testClient) { c.free = func(string) (int64, error) { return 1000, nil } }, kind: NoSpace, says: []string{"0.5 MB are still to be fetched", "room for 0.0 MB", "HF_HUB_CACHE"}},
		{name: "unsafe path", hub: func(h *testhub.Hub) {
			h.Tweak = func(l *testhub.Listing) { l.Siblings[0].Path = "../../evil.safetensors" }
		}, kind: BadListing, says: []string{`path "../../evil.safetensors" holds ".."`}},
		{name: "endless redirects", hub: func(h *testhub.Hub) { h.Rename(repoName, repoName) }, kind: ServerFault, says: []string{"redirects more than 5 times"}},
		{name: "redirect to a file", hub: func(h *testhub.Hub) {
			h.Fault = func(testhub.Request) testhub.Fault {
				return testhub.Fault{Status: 302, Header: http.Header{"Location": {"file:///etc/passwd"}}}
			}
		}, kind: ServerFault, says: []string{"want http:// or https://"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := startHub(t)
			h.Commit(repoName, "main", threeCopies())
			if tc.hub != nil {
				tc.hub(h)
			}
			cache := t.TempDir()
			c := newClient(t, h, cache, func(o *Options) {
				if tc.option != nil {
					tc.option(o)
				}
			})
			if tc.client != nil {
				tc.client(c)
			}
			if tc.ref.Repo == "" {
				tc.ref.Repo = repoName
			}
			_, err := c.Pull(t.Context(), tc.ref, Selection{}, c)
			if !errors.Is(err, tc.kind) {
				t.Fatalf("error %v, want kind %q", err, tc.kind)
			}
			for _, s := range tc.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q lacks %q", err, s)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			checkCache(t, cache)
		})
	}
}

func status(code int) func(*testhub.Hub) {
	return func(h *testhub.Hub) {
		h.Fault = func(testhub.Request) testhub.Fault { return testhub.Fault{Status: code} }
	}
}

// A repository that was renamed redirects within the hub: the token goes along there, and not to the storage.
func TestRedirectWithinTheHub(t *testing.T) {
	h := startHub(t)
	h.Token = "hf_secret"
	files := threeCopies()
	h.Commit(repoName, "main", files)
	h.Rename("acme/old-name", repoName)
	c := newClient(t, h, t.TempDir(), func(o *Options) { o.Token = "hf_secret" })
	if r := mustPull(t, c, Ref{Repo: "acme/old-name"}, Selection{}); r.Fetched != len(rootFiles) {
		t.Errorf("%+v", r)
	}
	for _, q := range h.Log() {
		if want := map[string]string{"hub": "Bearer hf_secret", "storage": ""}[q.Host]; q.Auth != want {
			t.Errorf("%s %s: authorization %q, want %q", q.Host, q.URL, q.Auth, want)
		}
	}
}

// What left the hub over TLS must not come over a connection that anyone can read or change.
func TestRedirectOutOfTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.RedirectHandler("http://127.0.0.1:1/x", http.StatusFound))
	defer s.Close()
	c, err := New(Options{Endpoint: s.URL, CacheDir: t.TempDir(), Transport: s.Client().Transport})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pull(t.Context(), Ref{Repo: repoName}, Selection{}, nil); !errors.Is(err, ServerFault) || !strings.Contains(err.Error(), "leaves TLS") {
		t.Errorf("error %v", err)
	}
}

func TestDiskFull(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows reports a full disk by another number")
	}
	c, err := New(Options{CacheDir: "cache"})
	if err != nil {
		t.Fatal(err)
	}
	err = c.diskError(&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC})
	if !errors.Is(err, NoSpace) || !strings.Contains(err.Error(), "HF_HUB_CACHE") {
		t.Errorf("error %v", err)
	}
}

// A mirror whose listing lacks sizes and checksums is asked file by file.
func TestListingWithoutChecksums(t *testing.T) {
	h := startHub(t)
	files := threeCopies()
	h.Commit(repoName, "main", files)
	h.Tweak = func(l *testhub.Listing) {
		for i := range l.Siblings {
			l.Siblings[i] = testhub.Sibling{Path: l.Siblings[i].Path}
		}
	}
	cache := t.TempDir()
	c := newClient(t, h, cache)
	r := mustPull(t, c, Ref{Repo: repoName}, Selection{})
	if len(readDir(t, r.Dir)) != len(rootFiles) {
		t.Errorf("%+v", r)
	}
	checkCache(t, cache)

	h.Fault = func(q testhub.Request) (f testhub.Fault) {
		if q.Method == http.MethodHead {
			f.Status = 200
		}
		return f
	}
	if _, err := newClient(t, h, t.TempDir()).Pull(t.Context(), Ref{Repo: repoName}, Selection{}, nil); !errors.Is(err, BadListing) {
		t.Errorf("a file without a checksum: %v", err)
	}
}

func TestResolve(t *testing.T) {
	h := startHub(t)
	commit := h.Commit(repoName, "main", threeCopies())
	cache := t.TempDir()
	ref := Ref{Repo: repoName}
	resolve := func(ref Ref, change ...func(*Options)) (*testClient, Result, error) {
		c := newClient(t, h, cache, change...)
		r, err := c.Resolve(t.Context(), ref, Selection{}, c)
		return c, r, err
	}
	if _, r, err := resolve(ref); err != nil || r.Fetched != len(rootFiles) {
		t.Fatalf("first: %+v, %v", r, err)
	}
	if _, r, err := resolve(ref, func(o *Options) { o.Offline = true }); err != nil || r.Commit != commit {
		t.Errorf("offline: %+v, %v", r, err)
	}
	before := len(h.Log())
	if _, r, err := resolve(Ref{Repo: repoName, Revision: commit}); err != nil || r.Commit != commit || len(h.Log()) != before {
		t.Errorf("by commit: %+v, %v, %d requests", r, err, len(h.Log())-before)
	}
	if _, _, err := resolve(Ref{Repo: repoName, Revision: "v9"}); !errors.Is(err, RevisionNotFound) {
		t.Errorf("missing revision: %v", err)
	}
	for _, tc := range []struct {
		name string
		code int
	}{{"hub down", 503}, {"too many requests", 429}, {"token ran out", 401}} {
		status(tc.code)(h)
		before := len(h.Log())
		c, r, err := resolve(ref)
		if err != nil || r.Commit != commit || !c.noted("using commit "+commit[:12]+" from the cache") {
			t.Errorf("%s: %+v, %v, notes %q", tc.name, r, err, c.notes)
		}
		if n := len(h.Log()) - before; n != 1 {
			t.Errorf("%s: %d requests, want one", tc.name, n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newClient(t, h, cache).Resolve(ctx, ref, Selection{}, nil); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
}

// Snapshots that others wrote, with and without a listing, whole and in part.
func TestSnapshotsOfOthers(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	index := `{"weight_map":{"a":"model-00000-of-00001.safetensors","b":"model-00001-of-00001.safetensors"}}`
	for _, tc := range []struct {
		name  string
		files map[string]string
		tree  string
		sel   Selection
		open  string // "": incomplete
	}{
		{name: "one file", files: map[string]string{"config.json": "{}", "model.safetensors": "w"}, open: "."},
		{name: "shards", files: map[string]string{"config.json": "{}", "model.safetensors.index.json": index, "model-00000-of-00001.safetensors": "w", "model-00001-of-00001.safetensors": "w"}, open: "."},
		{name: "a shard is missing", files: map[string]string{"config.json": "{}", "model.safetensors.index.json": index, "model-00000-of-00001.safetensors": "w"}},
		{name: "the index is missing", files: map[string]string{"config.json": "{}", "model-00000-of-00001.safetensors": "w", "model-00001-of-00001.safetensors": "w"}},
		{name: "the index is broken", files: map[string]string{"config.json": "{}", "model.safetensors.index.json": "{", "model-00000-of-00001.safetensors": "w"}},
		{name: "no configuration", files: map[string]string{"model.safetensors": "w"}},
		{name: "no weights", files: map[string]string{"config.json": "{}"}},
		{name: "original", files: map[string]string{"original/config.json": "{}", "original/model.safetensors": "w"}, sel: Selection{Layout: "original"}, open: "original"},
		{name: "GGUF", files: map[string]string{"q.gguf": "w"}, open: "q.gguf"},
		{name: "GGUF, part missing", files: map[string]string{"q-00002-of-00002.gguf": "w"}},
		{name: "patterns", files: map[string]string{"config.json": "{}"}, sel: Selection{Include: []string{"*.json"}}},
		{name: "listed, whole", files: map[string]string{"config.json": "{}", "model.safetensors": "w"},
			tree: `{"format_version":1,"files":{"config.json":{"size":2,"blob_id":"x"},"model.safetensors":{"size":1,"blob_id":"x"},"metal/model.bin":{"size":9,"blob_id":"x"}}}`, open: "."},
		{name: "listed, tokenizer missing", files: map[string]string{"config.json": "{}", "model.safetensors": "w"},
			tree: `{"format_version":1,"files":{"config.json":{"size":2,"blob_id":"x"},"model.safetensors":{"size":1,"blob_id":"x"},"tokenizer.json":{"size":9,"blob_id":"x"}}}`},
		{name: "listed in a newer form", files: map[string]string{"config.json": "{}", "model.safetensors": "w"}, tree: `{"format_version":2}`, open: "."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cache := t.TempDir()
			repo := filepath.Join(cache, "models--a--b")
			write := func(name, text string) {
				if err := writeAtomically(filepath.Join(repo, filepath.FromSlash(name)), text); err != nil {
					t.Fatal(err)
				}
			}
			for p, text := range tc.files {
				write("snapshots/"+commit+"/"+p, text)
			}
			if tc.tree != "" {
				write("trees/"+commit+".json", tc.tree)
			}
			write("refs/main", commit+"\n")
			c, err := New(Options{CacheDir: cache})
			if err != nil {
				t.Fatal(err)
			}
			r, ok := c.Snapshot(Ref{Repo: "a/b"}, tc.sel)
			want := ""
			if tc.open != "" {
				want = filepath.Join(repo, "snapshots", commit, tc.open)
			}
			if ok != (want != "") || r.Path != want {
				t.Errorf("path %q %v, want %q", r.Path, ok, want)
			}
		})
	}
}

// A read-only cache that holds everything is used without writing to it.
func TestReadOnlyCache(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root writes to read-only folders")
	}
	h := startHub(t)
	h.Commit(repoName, "main", threeCopies())
	cache := t.TempDir()
	r := mustPull(t, newClient(t, h, cache), Ref{Repo: repoName}, Selection{})
	for _, dir := range []string{"blobs", "refs", "snapshots", "snapshots/" + r.Commit, "."} {
		if err := os.Chmod(filepath.Join(cache, "models--acme--gpt-oss-tiny", dir), 0o555); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(filepath.Join(cache, "models--acme--gpt-oss-tiny", dir), 0o755)
	}
	mustPull(t, newClient(t, h, cache), Ref{Repo: repoName}, Selection{})
}

// silence is a hub whose answers stop after some bytes, on the clock of a synctest bubble.
type silence struct {
	mu    sync.Mutex
	asked []string // Range headers
	data  []byte
	give  int // bytes before each silence
}

func (s *silence) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Header.Get("Range"))
	from, status := 0, http.StatusOK
	if len(s.asked) > 1 {
		from, status = s.give*(len(s.asked)-1), http.StatusPartialContent
	}
	end := min(from+s.give, len(s.data))
	resp := &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{}, Request: r, ContentLength: int64(len(s.data) - from)}
	resp.Header.Set("Content-Range", "bytes "+strings.TrimPrefix(r.Header.Get("Range"), "bytes=")+"9/*")
	resp.Body = &silentBody{ctx: r.Context(), rest: s.data[from:end], ends: end == len(s.data)}
	return resp, nil
}

type silentBody struct {
	ctx  context.Context
	rest []byte
	ends bool
}

func (b *silentBody) Read(p []byte) (int, error) {
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	switch {
	case n > 0:
		return n, nil
	case b.ends:
		return 0, io.EOF
	}
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

func (b *silentBody) Close() error { return nil }

func TestStall(t *testing.T) {
	cache := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &silence{data: noise(1, 10), give: 4}
		c, err := New(Options{CacheDir: cache, Transport: s, Stall: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		c.jitter = func() float64 { return 1 }
		f := File{Path: "model.safetensors", Size: 10, SHA256: testhub.SHA256(s.data)}
		p := &pull{c, Ref{Repo: "a/b"}, c.repoDir(Ref{Repo: "a/b"}), strings.Repeat("0", 40), silent{}}
		start := time.Now()
		if err := p.download(t.Context(), []File{f}); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(s.asked, ","), ",bytes=4-,bytes=8-"; got != want {
			t.Errorf("asked for %q, want %q", got, want)
		}
		if got, want := time.Since(start), 2*(20+1)*time.Second; got != want {
			t.Errorf("took %s, want two silences and two pauses: %s", got, want)
		}
	})
	checkCache(t, cache)
}

// The lock is the one that Python takes; whoever waits can be stopped.
func TestLock(t *testing.T) {
	c, err := New(Options{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	path := c.repoDir(Ref{Repo: "a/b"}).lockPath("abc")
	if want := filepath.Join(c.o.CacheDir, ".locks", "models--a--b", "abc.lock"); path != want {
		t.Errorf("lock %s, want %s", path, want)
	}
	release, exclusive, err := c.lock(t.Context(), path, "x", silent{})
	if err != nil {
		t.Fatal(err)
	}
	if !exclusive {
		t.Skip("this file system has no locks")
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	if _, _, err := c.lock(ctx, path, "x", silent{}); err != context.Canceled {
		t.Errorf("a second lock: %v", err)
	}
	release()
	release, _, err = c.lock(t.Context(), path, "x", silent{})
	if err != nil {
		t.Fatal(err)
	}
	release()
}
