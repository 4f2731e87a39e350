package hub

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// wrongLimit is how often a file may arrive whole but wrong before the pull gives up.
const wrongLimit = 3

// fetchBlob brings one file to blobs/ETAG: it waits for its lock, goes on where an earlier run stopped, and renames
// the partial file only when every byte of it was hashed and the hash is the hub's.
func (p *pull) fetchBlob(ctx context.Context, f File) error {
	release, exclusive, err := p.c.lock(ctx, p.repo.lockPath(f.etag()), f.Path, p.rep)
	if err != nil {
		return err
	}
	defer release()
	blob := p.repo.blobPath(f.etag())
	if hasSize(blob, f.Size) { // another process was faster
		p.rep.Add(f.Size)
		return nil
	}
	partial := blob + ".incomplete"
	if !exclusive {
		partial = blob + "." + unique() + ".incomplete"
		p.rep.Note(f.Path + ": the file system has no locks: this download cannot be resumed later")
		defer os.Remove(partial)
	}
	part, err := p.openPart(ctx, f, partial)
	if err != nil {
		return err
	}
	defer part.close()
	wrong := 0
	err = p.c.again(ctx, f.Path, p.c.o.Attempts, p.rep, func() (bool, error) {
		before := part.n
		err := p.stream(ctx, part)
		gained := part.n > before
		if err == nil {
			if err = part.verify(); err != nil {
				err = errors.Join(err, part.reset())
			}
		}
		if errors.Is(err, Corrupt) {
			if wrong++; wrong < wrongLimit {
				return false, &temporary{err: err}
			}
			return false, fail(Corrupt, err, "%v, %d times: a proxy, the server or the disk changes bytes; nothing was kept under the file's name", err, wrong)
		}
		return gained, err
	})
	if err != nil {
		return err
	}
	return part.commit(blob)
}

// part is a partial file: its first n bytes are on disk and in the hash.
type part struct {
	c      *Client
	rep    Report
	file   File
	path   string
	f      *os.File
	n      int64
	hash   hash.Hash
	ranges int // answers in a row with another range than asked for
}

// openPart opens what an earlier run left and hashes it, or starts an empty file.
func (p *pull) openPart(ctx context.Context, file File, path string) (*part, error) {
	t := &part{c: p.c, rep: p.rep, file: file, path: path}
	t.newHash()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, p.c.diskError(err)
	}
	t.f = f
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() > file.Size) {
		err = t.reset()
	}
	for buf := make([]byte, 1<<20); err == nil; {
		var n int
		n, err = f.Read(buf)
		t.count(buf[:n])
		if canceled(ctx) {
			err = ctx.Err()
		}
	}
	if err != io.EOF {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *part) newHash() {
	if t.file.SHA256 != "" {
		t.hash = sha256.New()
		return
	}
	t.hash = sha1.New()
	fmt.Fprintf(t.hash, "blob %d\x00", t.file.Size)
}

func (t *part) count(b []byte) {
	t.hash.Write(b)
	t.n += int64(len(b))
	t.rep.Add(int64(len(b)))
}

// reset starts over with a new file instead of truncating the old one: where locks do not work, another process may
// still be writing that.
func (t *part) reset() error {
	t.f.Close()
	t.rep.Add(-t.n)
	t.n = 0
	t.newHash()
	if err := os.Remove(t.path); err != nil {
		return t.c.diskError(err)
	}
	f, err := os.OpenFile(t.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return t.c.diskError(err)
	}
	t.f = f
	return nil
}

func (t *part) close() { t.f.Close() }

// verify compares the hash of all bytes with the hub's.
func (t *part) verify() error {
	if got := hex.EncodeToString(t.hash.Sum(nil)); got != t.file.etag() {
		kind := "SHA-256"
		if t.file.SHA256 == "" {
			kind = "git SHA-1"
		}
		return fail(Corrupt, nil, "%s: its %s is %s, the hub says %s", t.file.Path, kind, got, t.file.etag())
	}
	return nil
}

// commit gives the verified file its final name.
func (t *part) commit(name string) error {
	if err := t.f.Sync(); err != nil {
		return t.c.diskError(err)
	}
	mine, err := t.f.Stat()
	if err != nil {
		return t.c.diskError(err)
	}
	// The file under the partial name must still be the one that was hashed.
	there, err := os.Stat(t.path)
	if err != nil || !os.SameFile(mine, there) || mine.Size() != t.file.Size {
		return fail(Corrupt, err, "%s: %s was changed by another program while it was written: run the command again", t.file.Path, t.path)
	}
	if err := t.f.Close(); err != nil {
		return t.c.diskError(err)
	}
	if err := os.Rename(t.path, name); err != nil {
		return t.c.diskError(err)
	}
	return nil
}

// stream asks for the bytes that are missing and appends them. A nil error means that the file has its full size.
func (p *pull) stream(ctx context.Context, t *part) error {
	if t.n == t.file.Size {
		return nil
	}
	x, err := p.c.exchange(ctx, http.MethodGet, p.c.address(p.ref.Repo, p.commit, t.file.Path), t.n)
	if err != nil {
		return err
	}
	defer x.close()
	if x.StatusCode >= 400 && x.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		discard(x)
		return p.c.refused(x, p.ref, t.file.Path)
	}
	expected, err := t.accept(x)
	if err != nil {
		return err
	}
	if x.ContentLength >= 0 && x.ContentLength != expected {
		return fail(Corrupt, nil, "%s: the server sends %d bytes where the hub's listing leaves %d", t.file.Path, x.ContentLength, expected)
	}
	return t.copy(x, expected)
}

// accept checks the answer's head against what was asked for and says how many bytes must follow.
func (t *part) accept(x *exchanged) (expected int64, err error) {
	from := t.n
	if enc := x.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return 0, &temporary{err: fail(ServerFault, nil, "%s: %s sends it in %s, although asked not to", t.file.Path, x.Request.URL.Host, enc)}
	}
	switch x.StatusCode {
	case http.StatusOK:
		if from > 0 {
			t.rep.Note(t.file.Path + ": the server cannot resume: starting from the first byte")
			if err := t.reset(); err != nil {
				return 0, err
			}
		}
		return t.file.Size, nil
	case http.StatusPartialContent:
		r, err := parseContentRange(x.Header.Get("Content-Range"))
		if err == nil && r.total >= 0 && r.total != t.file.Size {
			return 0, fail(Corrupt, nil, "%s: the server says it has %d bytes, the hub's listing %d", t.file.Path, r.total, t.file.Size)
		}
		if err == nil && r.first == from && r.last < t.file.Size {
			t.ranges = 0
			return r.last - r.first + 1, nil
		}
		return 0, t.wrongRange(fmt.Errorf("asked for bytes from %d on, the server sends %q", from, x.Header.Get("Content-Range")))
	case http.StatusRequestedRangeNotSatisfiable:
		return 0, t.wrongRange(fmt.Errorf("the server refuses to go on at byte %d", from))
	}
	return 0, &temporary{err: fail(ServerFault, nil, "%s: %s answers %s", t.file.Path, x.Request.URL.Host, x.Status)}
}

// wrongRange tries the same range once more and then gives the partial file up.
func (t *part) wrongRange(cause error) error {
	if t.ranges++; t.ranges >= 2 && t.n > 0 {
		t.ranges = 0
		if err := t.reset(); err != nil {
			return err
		}
	}
	return &temporary{err: fail(ServerFault, cause, "%s: %v", t.file.Path, cause)}
}

// copy appends exactly the expected bytes; more or fewer are an error, and what came is kept.
func (t *part) copy(x *exchanged, expected int64) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := x.Read(buf)
		if int64(n) > expected {
			return fail(Corrupt, nil, "%s: the server sends more bytes than it announced", t.file.Path)
		}
		if n > 0 {
			if _, err := t.f.Write(buf[:n]); err != nil {
				return t.c.diskError(err)
			}
			t.count(buf[:n])
			expected -= int64(n)
		}
		switch {
		case err == io.EOF && expected > 0:
			return x.broken(io.ErrUnexpectedEOF)
		case err == io.EOF && t.n < t.file.Size: // a part of the range: ask for the rest
			return &temporary{err: fail(ServerFault, nil, "%s: the server sent bytes up to %d of %d", t.file.Path, t.n, t.file.Size)}
		case err == io.EOF:
			return nil
		case err != nil:
			return x.broken(err)
		}
	}
}

// hasSize reports whether a regular file of that size is there, through links.
func hasSize(path string, size int64) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Size() == size
}

// unique is part of a name that no other process uses.
func unique() string { return strings.ToLower(rand.Text()[:8]) }

// writeAtomically replaces a small file in one step.
func writeAtomically(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	tmp := path + "." + unique() + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o666); err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}
