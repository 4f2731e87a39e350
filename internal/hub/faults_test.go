package hub

import (
	"bytes"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hearth/internal/testhub"
)

func newTransport(t testing.TB) http.RoundTripper {
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// TestFaults: whatever a server does, no file has a final name and wrong bytes.
func TestFaults(t *testing.T) {
	const large, small = "model-00000-of-00001.safetensors", "tokenizer.json"
	broken := testhub.Fault{Break: true, After: 100_000}
	always := func(f testhub.Fault) func(n int) testhub.Fault { return func(int) testhub.Fault { return f } }
	sequence := func(fs ...testhub.Fault) func(n int) testhub.Fault {
		return func(n int) (f testhub.Fault) {
			if n < len(fs) {
				f = fs[n]
			}
			return f
		}
	}
	for _, tc := range []struct {
		name  string
		file  string
		fault func(n int) testhub.Fault // of the n-th answer with this file's bytes
		tweak func(*testhub.Sibling)
		kind  Kind   // "" is success
		says  string // in the error, or in a note on success
	}{
		{name: "corrupt once", file: large, fault: sequence(testhub.Fault{Flip: true}), says: "its SHA-256 is"},
		{name: "corrupt always", file: large, fault: always(testhub.Fault{Flip: true}), kind: Corrupt, says: "3 times"},
		{name: "small file corrupt once", file: small, fault: sequence(testhub.Fault{Flip: true}), says: "its git SHA-1 is"},
		{name: "small file corrupt always", file: small, fault: always(testhub.Fault{Flip: true}), kind: Corrupt, says: "git SHA-1"},
		{name: "corrupt after a resume", file: large, fault: sequence(broken, testhub.Fault{Flip: true}), says: "its SHA-256 is"},
		{name: "ranges ignored", file: large, fault: sequence(broken, testhub.Fault{IgnoreRange: true}), says: "cannot resume"},
		{name: "wrong range once", file: large, fault: sequence(broken, testhub.Fault{ContentRange: "bytes 5-299999/300000"}), says: "asked for bytes from 100000 on"},
		{name: "wrong range always", file: large, fault: sequence(broken, testhub.Fault{ContentRange: "bytes 5-299999/300000"}, testhub.Fault{ContentRange: "bytes 5-299999/300000"}), says: "asked for bytes from 100000 on"},
		{name: "range not understood", file: large, fault: sequence(broken, testhub.Fault{ContentRange: "bytes what"}), says: `"bytes what"`},
		{name: "range of another size", file: large, fault: func(n int) testhub.Fault {
			if n == 0 {
				return broken
			}
			return testhub.Fault{ContentRange: "bytes 100000-299999/300001"}
		}, kind: Corrupt, says: "300001 bytes"},
		{name: "refused range", file: large, fault: sequence(broken, testhub.Fault{Status: 416}, testhub.Fault{Status: 416}), says: "refuses to go on at byte 100000"},
		{name: "shorter than listed", file: large, fault: always(testhub.Fault{Length: 299_000}), kind: Corrupt, says: "sends 299000 bytes"},
		{name: "longer than listed", file: large, fault: always(testhub.Fault{Length: 301_000}), kind: Corrupt, says: "sends 301000 bytes"},
		{name: "bytes past the end", file: large, fault: always(testhub.Fault{Extra: 10}), kind: Corrupt, says: "more bytes than it announced"},
		{name: "compressed against our will", file: small, fault: sequence(testhub.Fault{Header: http.Header{"Content-Encoding": {"gzip"}}}), says: "in gzip"},
		{name: "listing lies about the size", file: large, tweak: func(s *testhub.Sibling) { *s.Size--; s.LFS.Size-- }, kind: Corrupt, says: "300000 bytes where the hub's listing leaves 299999"},
		{name: "listing lies about the checksum", file: large, tweak: func(s *testhub.Sibling) { s.LFS.SHA256 = strings.Repeat("ab", 32) }, kind: Corrupt, says: "the hub says abab"},
		{name: "listing contradicts itself", file: large, tweak: func(s *testhub.Sibling) { s.LFS.Size++ }, kind: BadListing, says: "size 300000, but lfs.size 300001"},
		{name: "server busy", file: large, fault: sequence(testhub.Fault{Status: 503, Header: http.Header{"Retry-After": {"7"}}}), says: "503"},
		{name: "storage signature ran out", file: large, fault: sequence(testhub.Fault{Status: 403}), says: "storage at"},
		{name: "storage fails for good", file: large, fault: always(testhub.Fault{Status: 500}), kind: ServerFault, says: "500"},
		{name: "storage lost it", file: large, fault: always(testhub.Fault{Status: 404}), kind: ServerFault, says: "404"},
		{name: "broken for good", file: large, fault: always(testhub.Fault{Break: true}), kind: Unreachable, says: "unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := startHub(t)
			files := threeCopies()
			h.Commit(repoName, "main", files)
			host := map[string]string{large: "storage", small: "hub"}[tc.file]
			h.Fault = func(q testhub.Request) testhub.Fault {
				if tc.fault == nil || q.Host != host || q.Path != tc.file {
					return testhub.Fault{}
				}
				return tc.fault(q.Count)
			}
			h.Tweak = func(l *testhub.Listing) {
				for i := range l.Siblings {
					if tc.tweak != nil && l.Siblings[i].Path == tc.file {
						tc.tweak(&l.Siblings[i])
					}
				}
			}
			cache := t.TempDir()
			c := newClient(t, h, cache)
			r, err := c.Pull(t.Context(), Ref{Repo: repoName}, Selection{}, c)
			checkCache(t, cache)
			if tc.kind == "" {
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(readDir(t, r.Dir)[tc.file], files[tc.file]) {
					t.Error("the file differs")
				}
				if !c.noted(tc.says) {
					t.Errorf("no note with %q: %q", tc.says, c.notes)
				}
				if c.done != c.total {
					t.Errorf("progress ended at %d of %d", c.done, c.total)
				}
				return
			}
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line of kind %q with %q", err, tc.kind, tc.says)
			}
			if _, ok := c.Snapshot(Ref{Repo: repoName}, Selection{}); ok {
				t.Error("an incomplete snapshot counts as complete")
			}
		})
	}
}

// TestRandomFaults lets a server do anything at random moments, then behave: the second pull always ends right.
func TestRandomFaults(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := testhub.New()
		h.Start()
		defer h.Close()
		files := map[string][]byte{"config.json": []byte("{}"), "model.safetensors": noise(rapid.Uint64().Draw(rt, "seed"), rapid.IntRange(0, 200_000).Draw(rt, "size"))}
		h.Commit(repoName, "main", files)
		faults := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) testhub.Fault {
			at := rapid.Int64Range(0, 200_000).Draw(rt, "at")
			return rapid.SampledFrom([]testhub.Fault{
				{}, {Break: true, After: at}, {Break: true, After: at}, {Break: true, After: at, Flip: true}, {Flip: true}, {IgnoreRange: true},
				{IgnoreRange: true, Break: true, After: at}, {ContentRange: "bytes 1-2/3"}, {Status: 503}, {Status: 416}, {Length: at + 1}, {Extra: 3},
			}).Draw(rt, "fault")
		}), 0, 12).Draw(rt, "faults")
		var mu sync.Mutex
		next := 0
		h.Fault = func(q testhub.Request) (f testhub.Fault) {
			mu.Lock()
			defer mu.Unlock()
			if q.Host == "storage" && next < len(faults) {
				f = faults[next]
				next++
			}
			return f
		}
		cache, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			rt.Fatal(err)
		}
		for range 2 + len(faults) {
			c := newClient(t, h, cache)
			var r Result
			r, err = c.Pull(t.Context(), Ref{Repo: repoName}, Selection{}, c)
			checkCache(rt, cache)
			if err == nil {
				if !bytes.Equal(readDir(t, r.Dir)["model.safetensors"], files["model.safetensors"]) {
					rt.Error("the file differs")
				}
				if c.done != c.total {
					rt.Errorf("progress ended at %d of %d", c.done, c.total)
				}
				return
			}
		}
		rt.Errorf("never ended right: %v", err)
	})
}

func TestServersThatAskToWait(t *testing.T) {
	date := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name   string
		header http.Header
		want   time.Duration // 0: the error comes at once
	}{
		{"seconds", http.Header{"Retry-After": {"7"}}, 7 * time.Second},
		{"date", http.Header{"Retry-After": {date.Add(9 * time.Second).Format(http.TimeFormat)}}, 9 * time.Second},
		{"hub's own header", http.Header{"Ratelimit": {`"api";r=0;t=55`}}, 55 * time.Second},
		{"nonsense", http.Header{"Retry-After": {"soon"}}, time.Second},
		{"nothing", nil, time.Second},
		{"an hour", http.Header{"Retry-After": {"3600"}}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := startHub(t)
			h.Commit(repoName, "main", threeCopies())
			h.Fault = func(q testhub.Request) testhub.Fault {
				if q.Path == "" && q.Count == 0 {
					return testhub.Fault{Status: 429, Header: tc.header}
				}
				return testhub.Fault{}
			}
			c := newClient(t, h, t.TempDir())
			c.now = func() time.Time { return date }
			_, err := c.Pull(t.Context(), Ref{Repo: repoName}, Selection{}, c)
			if tc.want == 0 {
				if !errors.Is(err, RateLimited) || len(c.pauses) != 0 {
					t.Errorf("error %v after pauses %v", err, c.pauses)
				}
				return
			}
			if err != nil || len(c.pauses) != 1 || c.pauses[0] != tc.want {
				t.Errorf("pauses %v, %v; want %v", c.pauses, err, tc.want)
			}
		})
	}
}
