package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Result is a complete snapshot on disk.
type Result struct {
	Path    string // what a reader opens: a folder, or the (first) GGUF file
	Dir     string // the snapshot's folder
	Commit  string
	Files   []File
	Fetched int // files that were not in the cache before
}

// Pull brings the selected files of a revision into the cache. What is there already is not fetched again, and what an
// earlier run left unfinished is resumed. The names in the snapshot and the ref appear only when every file is whole.
func (c *Client) Pull(ctx context.Context, ref Ref, s Selection, rep Report) (Result, error) {
	if rep == nil {
		rep = silent{}
	}
	if r, ok := c.fixed(ref, s); ok {
		return r, nil
	}
	l, err := c.list(ctx, ref, c.o.Attempts, rep)
	if err != nil {
		return Result{}, err
	}
	return c.fetch(ctx, ref, l, s, rep)
}

// Resolve is what serving a repository needs: its newest commit, fetched if it is not there. When the hub cannot be
// asked and a complete snapshot of an earlier pull is there, that one is used and the reason is reported.
func (c *Client) Resolve(ctx context.Context, ref Ref, s Selection, rep Report) (Result, error) {
	if rep == nil {
		rep = silent{}
	}
	if r, ok := c.fixed(ref, s); ok {
		return r, nil
	}
	cached, ok := c.Snapshot(ref, s)
	if !ok {
		return c.Pull(ctx, ref, s, rep)
	}
	asking, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	l, err := c.list(asking, ref, 1, rep)
	switch {
	case err == nil:
		return c.fetch(ctx, ref, l, s, rep)
	case canceled(ctx):
		return Result{}, ctx.Err()
	case errors.Is(err, RevisionNotFound):
		return Result{}, err
	case errors.Is(err, context.DeadlineExceeded):
		err = fail(Unreachable, err, "%s did not answer in 10 s", c.o.Endpoint)
	}
	rep.Note(fmt.Sprintf("could not ask whether %s moved (%v): using commit %.12s from the cache", ref, err, cached.Commit))
	return cached, nil
}

// fixed is the cached snapshot that needs no question: of a commit, which never changes, or when offline.
func (c *Client) fixed(ref Ref, s Selection) (Result, bool) {
	if !c.o.Offline && !commitHash.MatchString(ref.revision()) {
		return Result{}, false
	}
	return c.Snapshot(ref, s)
}

// pull is one download of one commit.
type pull struct {
	c      *Client
	ref    Ref
	repo   repoDir
	commit string
	rep    Report
}

// fetch brings the chosen files of a listing into the cache and links them.
func (c *Client) fetch(ctx context.Context, ref Ref, l Listing, s Selection, rep Report) (Result, error) {
	pick, err := s.choose(ref.String(), l.Files)
	if err != nil {
		return Result{}, err
	}
	for _, name := range pick.left {
		rep.Note(name + ": left out: such files can run code when they are opened")
	}
	p := &pull{c, ref, c.repoDir(ref), l.Commit, rep}
	for i := range pick.files {
		if f := &pick.files[i]; !f.described() {
			if err := c.describe(ctx, ref, l.Commit, f, rep); err != nil {
				return Result{}, err
			}
		}
	}
	dir := p.repo.snapshot(l.Commit)
	missing := p.missing(dir, pick.files)
	if err := p.download(ctx, missing); err != nil {
		return Result{}, err
	}
	// The configuration comes last: a snapshot that has it has everything.
	isConfig := func(f File) int {
		if path.Base(f.Path) == "config.json" {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(pick.files, func(a, b File) int { return isConfig(a) - isConfig(b) })
	for _, f := range pick.files {
		if err := c.link(p.repo, l.Commit, f); err != nil {
			return Result{}, err
		}
	}
	if err := p.repo.setRef(ref.revision(), l.Commit); err != nil {
		if len(missing) > 0 {
			return Result{}, c.diskError(err)
		}
		rep.Note(fmt.Sprintf("the cache cannot be written (%v): it still names an older commit for %s", err, ref.revision()))
	}
	return Result{Path: filepath.Join(dir, filepath.FromSlash(pick.open)), Dir: dir, Commit: l.Commit, Files: pick.files, Fetched: len(missing)}, nil
}

// missing reports the chosen files' size and gives the distinct blobs that must be downloaded.
func (p *pull) missing(dir string, files []File) (missing []File) {
	seen := map[string]bool{}
	var have, total int64
	for _, f := range files {
		if seen[f.etag()] {
			continue
		}
		seen[f.etag()] = true
		total += f.Size
		if hasSize(p.repo.blobPath(f.etag()), f.Size) || hasSize(filepath.Join(dir, filepath.FromSlash(f.Path)), f.Size) {
			have += f.Size
		} else {
			missing = append(missing, f)
		}
	}
	p.rep.Begin(len(seen), total)
	p.rep.Add(have)
	return missing
}

// download fetches blobs, the largest first, a few at once. The first that fails stops the others.
func (p *pull) download(ctx context.Context, files []File) error {
	if len(files) == 0 {
		return nil
	}
	blobs := p.repo.join("blobs")
	if err := os.MkdirAll(blobs, 0o777); err != nil {
		return p.c.diskError(err)
	}
	if err := p.checkSpace(blobs, files); err != nil {
		return err
	}
	slices.SortStableFunc(files, func(a, b File) int { return int(max(min(b.Size-a.Size, 1), -1)) })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(p.c.o.Parallel)
	for _, f := range files {
		g.Go(func() error {
			if canceled(ctx) {
				return ctx.Err()
			}
			return p.fetchBlob(ctx, f)
		})
	}
	return g.Wait()
}

// checkSpace refuses a download that would end in a full disk. A file system that does not tell is believed to have
// room.
func (p *pull) checkSpace(dir string, files []File) error {
	need := sizeOf(files)
	for _, f := range files {
		if st, err := os.Stat(p.repo.blobPath(f.etag()) + ".incomplete"); err == nil {
			need -= min(st.Size(), f.Size)
		}
	}
	free, err := p.c.free(dir)
	if err == nil && need > free {
		return fail(NoSpace, nil, "%s: %s are still to be fetched, %s has room for %s: free some space, or name another folder in HF_HUB_CACHE", p.ref, gigabytes(need), p.c.o.CacheDir, gigabytes(free))
	}
	return nil
}
