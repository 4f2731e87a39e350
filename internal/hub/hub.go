// Package hub downloads model files from a Hugging Face hub into the official cache, so that Python and Hearth share
// them: resumed after a break, checked against the hub's checksums, renamed only when right. It never opens a model,
// never writes outside its cache folder, and never sends the token to a host other than the hub.
//
// One pull goes through: the listing of a revision (api.go), the choice of one layout's files (choose.go), the
// download of each blob under a lock (pull.go, blob.go, lock.go) with retries (http.go), and the links that make a
// snapshot of the blobs (cache.go).
package hub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
)

// Options configure a client. Of the zero value only CacheDir must be set.
type Options struct {
	Endpoint   string            // address of the hub; "" is DefaultEndpoint
	Token      string            // access token; "" sends none
	CacheDir   string            // folder that holds models--ORG--NAME; it is created when a file is fetched
	Offline    bool              // send nothing
	NoSymlinks bool              // link by hard links or copies, as where symbolic links are not allowed
	UserAgent  string            // "" is "hearth"
	Parallel   int               // files at once; 0 is 4
	Attempts   int               // failures in a row, without a byte gained, before giving up; 0 is 6
	Stall      time.Duration     // silence after which a connection is given up; 0 is 30 s
	Transport  http.RoundTripper // nil: http.DefaultTransport with the proxies of the environment
}

// DefaultEndpoint is the public hub.
const DefaultEndpoint = "https://huggingface.co"

// Client talks to one hub and keeps one cache. It is safe for concurrent use.
type Client struct {
	o      Options
	http   *http.Client
	origin string // scheme://host:port of the endpoint, the only place that sees the token

	// What tests replace.
	sleep    func(context.Context, time.Duration) error
	jitter   func() float64 // in [0, 1)
	now      func() time.Time
	symlink  func(target, link string) error
	lockFile func(*os.File) error
	free     func(dir string) (int64, error)
}

// New checks the options. It sends nothing and touches no file.
func New(o Options) (*Client, error) {
	if o.CacheDir == "" {
		return nil, fmt.Errorf("hub: no cache folder given")
	}
	o.Endpoint = strings.TrimRight(o.Endpoint, "/")
	if o.Endpoint == "" {
		o.Endpoint = DefaultEndpoint
	}
	u, err := parseHTTP(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("hub address %q (HF_ENDPOINT): %w", o.Endpoint, err)
	}
	if strings.ContainsFunc(o.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("the hub token holds a blank or a control character: check HF_TOKEN or the token file")
	}
	if o.UserAgent == "" {
		o.UserAgent = "hearth"
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.Attempts <= 0 {
		o.Attempts = 6
	}
	if o.Stall <= 0 {
		o.Stall = 30 * time.Second
	}
	if o.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DisableCompression = true // bytes are counted and hashed as they are stored
		// HTTP/2 would carry all files over one connection, whose window a distant server fills slowly.
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
		o.Transport = t
	}
	c := &Client{
		o: o, origin: originOf(u), sleep: sleep, jitter: rand.Float64, now: time.Now, symlink: os.Symlink, lockFile: lockFile, free: freeSpace,
		http: &http.Client{Transport: o.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	if o.NoSymlinks {
		c.symlink = func(string, string) error { return errNoSymlinks }
	}
	return c, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Ref names a model repository and a revision of it.
type Ref struct {
	Repo     string // ORG/NAME
	Revision string // branch, tag or commit; "" is main
}

// String gives ORG/NAME or ORG/NAME@revision.
func (r Ref) String() string {
	if r.Revision == "" {
		return r.Repo
	}
	return r.Repo + "@" + r.Revision
}

func (r Ref) revision() string {
	if r.Revision == "" {
		return "main"
	}
	return r.Revision
}

var (
	repoPart   = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?$`)
	commitHash = regexp.MustCompile(`^[0-9a-f]{40}$`)
	sha256Hex  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// ParseRef reads ORG/NAME[@revision]; ok is false for anything that is not of that form, such as a path.
func ParseRef(s string) (r Ref, ok bool) {
	repo, revision, pinned := strings.Cut(s, "@")
	org, name, slash := strings.Cut(repo, "/")
	if !slash || !repoPart.MatchString(org) || !repoPart.MatchString(name) || strings.Contains(repo, "--") ||
		strings.Contains(repo, "..") || strings.HasSuffix(name, ".git") {
		return Ref{}, false
	}
	// A revision becomes a file below refs/, so it obeys the rules of a path.
	if pinned && (checkPath(revision) != nil || checkPortable(revision) != nil) {
		return Ref{}, false
	}
	return Ref{Repo: repo, Revision: revision}, true
}

// Report is told how a pull goes. Its methods are called from several goroutines at once.
type Report interface {
	Begin(files int, total int64) // before the first byte: how much the chosen files hold together
	Add(n int64)                  // n more bytes are on disk (from an earlier run or just now); negative: thrown away again
	Note(text string)             // one line for a person: a retry, a wait, a file left out
}

// silent is the Report of a caller that wants none.
type silent struct{}

func (silent) Begin(int, int64) {}
func (silent) Add(int64)        {}
func (silent) Note(string)      {}
