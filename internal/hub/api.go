package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// File is one file of a revision. Exactly one of SHA256 and Git is set once the hub has described it.
type File struct {
	Path   string // in the repository, with slashes
	Size   int64  // bytes; -1 while unknown
	SHA256 string // of the content, for files in large-file storage (LFS, Xet)
	Git    string // SHA-1 of "blob SIZE\0" and the content, for the others
}

// etag is the name of the file's blob in the cache.
func (f *File) etag() string {
	if f.SHA256 != "" {
		return f.SHA256
	}
	return f.Git
}

func (f *File) described() bool { return f.Size >= 0 && f.etag() != "" }

// Listing is what a revision holds.
type Listing struct {
	Commit string // 40 hexadecimal digits
	Files  []File
}

// listingLimit bounds the hub's answer about a revision: a real one is below a megabyte.
const listingLimit = 32 << 20

// list asks which files a revision holds.
func (c *Client) list(ctx context.Context, ref Ref, attempts int, rep Report) (l Listing, err error) {
	if c.o.Offline {
		return l, fail(Offline, nil, "%s: HF_HUB_OFFLINE is set and it is not complete in %s: unset it to download", ref, c.o.CacheDir)
	}
	address := c.o.Endpoint + "/api/models/" + escapePath(ref.Repo) + "/revision/" + url.PathEscape(ref.revision()) + "?blobs=true"
	err = c.again(ctx, ref.String(), attempts, rep, func() (bool, error) {
		x, err := c.exchange(ctx, http.MethodGet, address, -1)
		if err != nil {
			return false, err
		}
		defer x.close()
		if x.StatusCode != http.StatusOK {
			return false, c.refused(x, ref, "")
		}
		body, err := io.ReadAll(io.LimitReader(x, listingLimit+1))
		switch {
		case err != nil:
			return false, x.broken(err)
		case len(body) > listingLimit:
			return false, fail(BadListing, nil, "%s: the hub's listing is larger than %d bytes", ref, listingLimit)
		}
		if l, err = parseListing(body); err != nil {
			return false, fail(BadListing, err, "%s: the listing from %s: %v: is HF_ENDPOINT a Hugging Face hub?", ref, c.o.Endpoint, err)
		}
		return true, nil
	})
	return l, err
}

// parseListing reads the hub's JSON about a revision and refuses what cannot be true of a repository.
func parseListing(body []byte) (Listing, error) {
	var in struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Path string `json:"rfilename"`
			Size *int64 `json:"size"`
			Blob string `json:"blobId"`
			LFS  *struct {
				SHA256 string `json:"sha256"`
				Size   *int64 `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return Listing{}, err
	}
	if !commitHash.MatchString(in.SHA) {
		return Listing{}, fmt.Errorf("sha %.60q is no commit", in.SHA)
	}
	l := Listing{Commit: in.SHA, Files: make([]File, 0, len(in.Siblings))}
	seen := make(map[string]bool, len(in.Siblings))
	var total int64
	for _, s := range in.Siblings {
		if err := checkPath(s.Path); err != nil {
			return Listing{}, fmt.Errorf("path %.120q %w", s.Path, err)
		}
		if seen[s.Path] {
			return Listing{}, fmt.Errorf("path %q comes twice", s.Path)
		}
		seen[s.Path] = true
		f := File{Path: s.Path, Size: -1}
		if s.Size != nil {
			f.Size = *s.Size
		}
		switch {
		case s.LFS != nil:
			if f.SHA256 = s.LFS.SHA256; !sha256Hex.MatchString(f.SHA256) {
				return Listing{}, fmt.Errorf("%s: lfs.sha256 %.80q is no SHA-256", f.Path, f.SHA256)
			}
			if n := s.LFS.Size; n != nil && s.Size != nil && *n != *s.Size {
				return Listing{}, fmt.Errorf("%s: size %d, but lfs.size %d", f.Path, *s.Size, *n)
			} else if n != nil {
				f.Size = *n
			}
		case s.Blob != "":
			if f.Git = s.Blob; !commitHash.MatchString(f.Git) {
				return Listing{}, fmt.Errorf("%s: blobId %.80q is no SHA-1", f.Path, f.Git)
			}
		}
		if f.Size < -1 || f.Size > 1<<50 {
			return Listing{}, fmt.Errorf("%s: size %d", f.Path, f.Size)
		}
		if total += max(f.Size, 0); total > 1<<50 {
			return Listing{}, fmt.Errorf("sizes add up to more than %d", int64(1)<<50)
		}
		l.Files = append(l.Files, f)
	}
	return l, nil
}

// address is where a file of a commit is fetched from.
func (c *Client) address(repo, commit, path string) string {
	return c.o.Endpoint + "/" + escapePath(repo) + "/resolve/" + commit + "/" + escapePath(path)
}

// describe asks for the size and checksum of a file whose listing lacked them, as some mirrors' do.
func (c *Client) describe(ctx context.Context, ref Ref, commit string, f *File, rep Report) error {
	return c.again(ctx, f.Path, c.o.Attempts, rep, func() (bool, error) {
		x, err := c.exchange(ctx, http.MethodHead, c.address(ref.Repo, commit, f.Path), -1)
		if err != nil {
			return false, err
		}
		defer x.close()
		if x.StatusCode >= 400 {
			return false, c.refused(x, ref, f.Path)
		}
		if got := x.hub.Get("X-Repo-Commit"); got != commit {
			return false, fail(BadListing, nil, "%s: %s: asked for commit %s, the server answers with %q: is HF_ENDPOINT a Hugging Face hub?", ref, f.Path, commit, got)
		}
		size := x.hub.Get("X-Linked-Size")
		if size == "" && x.StatusCode < 300 {
			size = x.Header.Get("Content-Length")
		}
		tag := x.hub.Get("X-Linked-Etag")
		if tag == "" {
			tag = x.hub.Get("ETag")
		}
		tag = strings.Trim(strings.TrimPrefix(tag, "W/"), `"`)
		f.SHA256, f.Git = "", ""
		switch {
		case sha256Hex.MatchString(tag):
			f.SHA256 = tag
		case commitHash.MatchString(tag):
			f.Git = tag
		default:
			return false, fail(BadListing, nil, "%s: %s: the server gives no checksum (ETag %.80q): nothing that cannot be checked is fetched", ref, f.Path, tag)
		}
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil || n < 0 || n > 1<<50 || f.Size >= 0 && f.Size != n {
			return false, fail(BadListing, err, "%s: %s: the server gives its size as %.40q (listing: %d)", ref, f.Path, size, f.Size)
		}
		f.Size = n
		return true, nil
	})
}
