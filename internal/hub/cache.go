package hub

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// repoDir is a repository's folder in the official cache:
//
//	models--ORG--NAME/blobs/ETAG                  contents, by checksum
//	models--ORG--NAME/refs/REVISION               the commit that a branch or tag named last
//	models--ORG--NAME/snapshots/COMMIT/PATH       links to ../../blobs/ETAG
//	models--ORG--NAME/trees/COMMIT.json           the commit's listing, from newer Python clients; read, never written
//	.locks/models--ORG--NAME/ETAG.lock
type repoDir struct{ cache, name string }

func (c *Client) repoDir(ref Ref) repoDir {
	return repoDir{c.o.CacheDir, "models--" + strings.ReplaceAll(ref.Repo, "/", "--")}
}

func (d repoDir) join(parts ...string) string {
	return filepath.Join(append([]string{d.cache, d.name}, parts...)...)
}

func (d repoDir) blobPath(etag string) string   { return d.join("blobs", etag) }
func (d repoDir) refPath(rev string) string     { return d.join("refs", filepath.FromSlash(rev)) }
func (d repoDir) snapshot(commit string) string { return d.join("snapshots", commit) }
func (d repoDir) lockPath(etag string) string {
	return filepath.Join(d.cache, ".locks", d.name, etag+".lock")
}

// Snapshot finds what was fetched before, without the network: the path to open, if every file of the selection is
// there. A revision that is not a commit means the commit it named when it was last fetched.
func (c *Client) Snapshot(ref Ref, s Selection) (r Result, ok bool) {
	d := c.repoDir(ref)
	commit := ref.revision()
	if !commitHash.MatchString(commit) {
		b, err := os.ReadFile(d.refPath(commit))
		if commit = strings.TrimSpace(string(b)); err != nil || !commitHash.MatchString(commit) {
			return Result{}, false
		}
	}
	dir := d.snapshot(commit)
	files, listed := readTree(d.join("trees", commit+".json"))
	if !listed {
		files = present(dir)
	}
	pick, err := s.choose(ref.String(), files)
	if err != nil || !listed && !complete(dir, pick, s) {
		return Result{}, false
	}
	for _, f := range pick.files {
		if !hasSize(filepath.Join(dir, filepath.FromSlash(f.Path)), f.Size) {
			return Result{}, false
		}
	}
	return Result{Path: filepath.Join(dir, filepath.FromSlash(pick.open)), Dir: dir, Commit: commit, Files: pick.files}, true
}

// readTree reads the listing that newer Python clients keep beside the snapshots.
func readTree(name string) ([]File, bool) {
	b, err := readLimited(name, listingLimit)
	var tree struct {
		Version int `json:"format_version"`
		Files   map[string]struct {
			Size int64  `json:"size"`
			Blob string `json:"blob_id"`
			LFS  string `json:"lfs_sha256"`
		} `json:"files"`
	}
	if err != nil || json.Unmarshal(b, &tree) != nil || tree.Version != 1 || len(tree.Files) == 0 {
		return nil, false
	}
	files := make([]File, 0, len(tree.Files))
	for p, f := range tree.Files {
		if checkPath(p) != nil || f.Size < 0 {
			return nil, false
		}
		files = append(files, File{Path: p, Size: f.Size, Git: f.Blob, SHA256: f.LFS})
	}
	return files, true
}

// present lists the files of a snapshot whose blobs are there.
func present(dir string) (files []File) {
	filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // a folder that cannot be read holds nothing for us
		}
		rel, err := filepath.Rel(dir, name)
		if st, statErr := os.Stat(name); err == nil && statErr == nil && st.Mode().IsRegular() {
			files = append(files, File{Path: filepath.ToSlash(rel), Size: st.Size()})
		}
		return nil
	})
	return files
}

var shardName = regexp.MustCompile(`-\d{5}-of-\d{5}\.safetensors$`)

// complete judges a selection of present files without a listing: a model has its configuration and every shard that
// its index names; what --include named cannot be known.
func complete(dir string, pick chosen, s Selection) bool {
	if len(s.Include) > 0 {
		return false
	}
	if strings.HasSuffix(pick.open, ".gguf") {
		return wholeGGUF(pick.files)
	}
	have := map[string]bool{}
	shards, index := false, ""
	for _, f := range pick.files {
		have[f.Path] = true
		shards = shards || shardName.MatchString(f.Path)
		if strings.HasSuffix(f.Path, ".safetensors.index.json") {
			index = f.Path
		}
	}
	if !have[path.Join(pick.open, "config.json")] || shards && index == "" {
		return false
	}
	if index == "" {
		return true
	}
	b, err := readLimited(filepath.Join(dir, filepath.FromSlash(index)), 64<<20)
	var in struct {
		Map map[string]string `json:"weight_map"`
	}
	if err != nil || json.Unmarshal(b, &in) != nil || len(in.Map) == 0 {
		return false
	}
	for _, shard := range in.Map {
		if !have[path.Join(pick.open, shard)] {
			return false
		}
	}
	return true
}

func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errors.New("too large")
	}
	return b, err
}

var errNoSymlinks = errors.New("symbolic links are switched off")

// link puts a blob into a snapshot: by a relative symbolic link, else a hard link, else a copy (Windows without the
// right to links, file systems without them).
func (c *Client) link(d repoDir, commit string, f File) error {
	pointer := filepath.Join(d.snapshot(commit), filepath.FromSlash(f.Path))
	blob := d.blobPath(f.etag())
	if hasSize(pointer, f.Size) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(pointer), 0o777); err != nil {
		return c.diskError(err)
	}
	target, err := filepath.Rel(filepath.Dir(pointer), blob)
	if err != nil {
		return c.diskError(err)
	}
	tmp := pointer + "." + unique() + ".tmp"
	if c.symlink(target, tmp) != nil && os.Link(blob, tmp) != nil {
		if err := copyFile(tmp, blob); err != nil {
			os.Remove(tmp)
			return c.diskError(err)
		}
	}
	if err := os.Rename(tmp, pointer); err != nil {
		os.Remove(tmp)
		return c.diskError(err)
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	if err := out.Sync(); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// setRef notes which commit a branch or tag names now.
func (d repoDir) setRef(revision, commit string) error {
	if revision == commit {
		return nil
	}
	if b, err := os.ReadFile(d.refPath(revision)); err == nil && string(b) == commit {
		return nil
	}
	return writeAtomically(d.refPath(revision), commit)
}
