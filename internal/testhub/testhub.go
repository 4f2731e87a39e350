// Package testhub is a Hugging Face hub for tests: listings, files, redirects to a second host that stores the large
// ones, access tokens, and faults on demand. It speaks only as much of the protocol as clients of models use, and it is
// never part of a program that ships.
package testhub

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Hub is a hub and its storage host. Set the fields before Start, or through the methods.
type Hub struct {
	Token string                 // when set, needed for every request to the hub
	Fault func(r Request) Fault  // asked before every answer; nil: none
	Large func(path string) bool // files that live in large-file storage; nil: .safetensors, .gguf, .bin
	Tweak func(listing *Listing) // changes a listing before it is sent
	hub   *httptest.Server       // what clients know
	store *httptest.Server       // where large files are
	mu    sync.Mutex             // guards what follows
	repos map[string]*repository // by ORG/NAME
	blobs map[string][]byte      // large files by SHA-256
	names map[string]string      // and their paths
	log   []Request              // every request, in order
	moved map[string]string      // old name of a repository -> new one
	sent  map[string]int64       // bytes of content sent, by path
	seen  map[string]int         // requests for content, by path
}

type repository struct {
	refs    map[string]string            // branch or tag -> commit
	commits map[string]map[string][]byte // commit -> path -> content
}

// Request is what a client asked.
type Request struct {
	Host   string // "hub" or "storage"
	Method string
	Path   string // of the file; "" for a listing
	From   int64  // first byte wanted
	Count  int    // requests for this file's bytes before this one
	Auth   string // the Authorization header
	URL    string
}

// Fault is what goes wrong with one answer. The zero value is nothing.
type Fault struct {
	Status       int         // answer this status and no content
	Header       http.Header // set these, with or without a status
	Break        bool        // break the connection after so many bytes
	After        int64
	Hang         <-chan struct{} // after the bytes of After, send nothing more until this closes
	Flip         bool            // change one byte of the content
	IgnoreRange  bool            // answer 200 and the whole file
	ContentRange string          // send this instead
	Extra        int             // bytes sent past the end, without a Content-Length
	Length       int64           // announce this Content-Length instead of the true one
}

// Listing is the hub's JSON about a revision.
type Listing struct {
	ID       string    `json:"id"`
	SHA      string    `json:"sha"`
	Siblings []Sibling `json:"siblings"`
}

// Sibling is one file of a listing.
type Sibling struct {
	Path string `json:"rfilename"`
	Size *int64 `json:"size,omitempty"`
	Blob string `json:"blobId,omitempty"`
	LFS  *LFS   `json:"lfs,omitempty"`
}

// LFS describes a large file.
type LFS struct {
	SHA256      string `json:"sha256"`
	Size        int64  `json:"size"`
	PointerSize int    `json:"pointerSize"`
}

// New gives an empty hub.
func New() *Hub {
	return &Hub{
		repos: map[string]*repository{}, blobs: map[string][]byte{}, names: map[string]string{}, moved: map[string]string{},
		sent: map[string]int64{}, seen: map[string]int{},
	}
}

// Start listens on two ports of this machine, so that the storage is another host than the hub.
func (h *Hub) Start() {
	h.store = httptest.NewServer(http.HandlerFunc(h.serveStorage))
	h.hub = httptest.NewServer(http.HandlerFunc(h.serveHub))
}

// Close ends both servers.
func (h *Hub) Close() {
	h.hub.CloseClientConnections()
	h.store.CloseClientConnections()
	h.hub.Close()
	h.store.Close()
}

// URL is the hub's address.
func (h *Hub) URL() string { return h.hub.URL }

// Commit adds a commit with these files to a repository and points a branch at it.
func (h *Hub) Commit(repo, branch string, files map[string][]byte) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.repos[repo]
	if r == nil {
		r = &repository{map[string]string{}, map[string]map[string][]byte{}}
		h.repos[repo] = r
	}
	sum := sha1.New()
	for _, p := range sortedKeys(files) {
		fmt.Fprintf(sum, "%s %d %x\n", p, len(files[p]), sha256.Sum256(files[p]))
	}
	commit := hex.EncodeToString(sum.Sum(nil))
	r.commits[commit], r.refs[branch] = files, commit
	for p, b := range files {
		if h.large(p) {
			h.blobs[SHA256(b)], h.names[SHA256(b)] = b, p
		}
	}
	return commit
}

// Rename lets a repository's old name redirect to another, by a relative address as the hub does.
func (h *Hub) Rename(from, to string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moved[from] = to
}

// Log gives every request so far.
func (h *Hub) Log() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.log)
}

// Sent is how many bytes of a file went out so far.
func (h *Hub) Sent(path string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent[path]
}

// SHA256 is the name of a large file's blob.
func SHA256(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// Git is the name of a small file's blob.
func Git(b []byte) string {
	s := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(b)), b...))
	return hex.EncodeToString(s[:])
}

func (h *Hub) large(p string) bool {
	if h.Large != nil {
		return h.Large(p)
	}
	return slices.Contains([]string{".safetensors", ".gguf", ".bin"}, path.Ext(p))
}

func sortedKeys(m map[string][]byte) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// note logs a request and asks for its fault.
func (h *Hub) note(host, file string, r *http.Request) (Request, Fault) {
	q := Request{Host: host, Method: r.Method, Path: file, Auth: r.Header.Get("Authorization"), URL: r.URL.String()}
	if from, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		q.From, _ = strconv.ParseInt(strings.TrimSuffix(from, "-"), 10, 64)
	}
	h.mu.Lock()
	q.Count = h.seen[host+file]
	h.seen[host+file]++
	h.log = append(h.log, q)
	h.mu.Unlock()
	if h.Fault == nil {
		return q, Fault{}
	}
	return q, h.Fault(q)
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Error-Code", code)
	w.Header().Set("X-Error-Message", code)
	w.WriteHeader(status)
}

// serveHub answers /api/models/ORG/NAME/revision/REV, .../tree/REV, and /ORG/NAME/resolve/REV/PATH.
func (h *Hub) serveHub(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	api := len(parts) >= 6 && parts[0] == "api" && parts[1] == "models"
	if api {
		parts = parts[2:]
	}
	if len(parts) < 4 {
		refuse(w, http.StatusNotFound, "RepoNotFound")
		return
	}
	for i := range parts {
		parts[i], _ = url.PathUnescape(parts[i])
	}
	repo, verb, rev, file := parts[0]+"/"+parts[1], parts[2], parts[3], strings.Join(parts[4:], "/")
	_, fault := h.note("hub", file, r)
	for k, v := range fault.Header {
		w.Header()[k] = v
	}
	if fault.Status != 0 {
		w.WriteHeader(fault.Status)
		return
	}
	h.mu.Lock()
	to := h.moved[repo]
	found := h.repos[repo]
	h.mu.Unlock()
	switch {
	case to != "":
		w.Header().Set("Location", strings.Replace(r.URL.RequestURI(), repo, to, 1))
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	case h.Token != "" && r.Header.Get("Authorization") != "Bearer "+h.Token:
		refuse(w, http.StatusUnauthorized, map[bool]string{true: "RepoNotFound", false: "GatedRepo"}[api])
		return
	case found == nil:
		refuse(w, http.StatusNotFound, "RepoNotFound")
		return
	}
	h.mu.Lock()
	commit, ok := found.refs[rev]
	if !ok {
		commit = rev
	}
	files, ok := found.commits[commit]
	h.mu.Unlock()
	switch {
	case !ok:
		refuse(w, http.StatusNotFound, "RevisionNotFound")
	case api && verb == "revision":
		h.sendListing(w, repo, commit, files)
	case api && verb == "tree":
		h.sendTree(w, files)
	case verb == "resolve":
		h.resolve(w, r, fault, commit, file, files)
	default:
		refuse(w, http.StatusNotFound, "RepoNotFound")
	}
}

func (h *Hub) sendListing(w http.ResponseWriter, repo, commit string, files map[string][]byte) {
	l := Listing{ID: repo, SHA: commit}
	for _, p := range sortedKeys(files) {
		size := int64(len(files[p]))
		s := Sibling{Path: p, Size: &size, Blob: Git(files[p])}
		if h.large(p) {
			s.LFS = &LFS{SHA256(files[p]), size, 134}
		}
		l.Siblings = append(l.Siblings, s)
	}
	if h.Tweak != nil {
		h.Tweak(&l)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(l)
}

func (h *Hub) sendTree(w http.ResponseWriter, files map[string][]byte) {
	out := []map[string]any{}
	for _, p := range sortedKeys(files) {
		e := map[string]any{"type": "file", "path": p, "size": len(files[p]), "oid": Git(files[p])}
		if h.large(p) {
			e["lfs"] = map[string]any{"oid": SHA256(files[p]), "size": len(files[p]), "pointerSize": 134}
		}
		out = append(out, e)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(out)
}

// resolve sends a small file and redirects to the storage for a large one.
func (h *Hub) resolve(w http.ResponseWriter, r *http.Request, fault Fault, commit, file string, files map[string][]byte) {
	b, ok := files[file]
	w.Header().Set("X-Repo-Commit", commit)
	if !ok {
		refuse(w, http.StatusNotFound, "EntryNotFound")
		return
	}
	if !h.large(file) {
		w.Header().Set("ETag", `"`+Git(b)+`"`)
		h.send(w, r, file, b, fault)
		return
	}
	w.Header().Set("X-Linked-Etag", `"`+SHA256(b)+`"`)
	w.Header().Set("X-Linked-Size", strconv.Itoa(len(b)))
	w.Header().Set("Location", h.store.URL+"/lfs/"+SHA256(b)+"?signature=made-up")
	w.WriteHeader(http.StatusFound)
}

func (h *Hub) serveStorage(w http.ResponseWriter, r *http.Request) {
	sum := path.Base(r.URL.Path)
	h.mu.Lock()
	b, ok := h.blobs[sum]
	name := h.names[sum]
	h.mu.Unlock()
	_, fault := h.note("storage", name, r)
	for k, v := range fault.Header {
		w.Header()[k] = v
	}
	switch {
	case fault.Status != 0:
		w.WriteHeader(fault.Status)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	default:
		w.Header().Set("ETag", `"`+sum+`"`)
		h.send(w, r, name, b, fault)
	}
}

// send gives the content, or the range asked for, with whatever the fault does to it.
func (h *Hub) send(w http.ResponseWriter, r *http.Request, name string, b []byte, fault Fault) {
	from := 0
	if v, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && !fault.IgnoreRange {
		first, last, _ := strings.Cut(v, "-")
		n, err := strconv.Atoi(first)
		if err != nil || last != "" || n >= len(b) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", len(b)))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		from = n
	}
	body := slices.Clone(b[from:])
	if fault.Flip && len(body) > 0 {
		body[len(body)/2] ^= 0x40
	}
	length := int64(len(body))
	if fault.Length > 0 {
		length = fault.Length
	}
	if fault.Extra == 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	}
	body = append(body, make([]byte, fault.Extra)...)
	status := http.StatusOK
	if r.Header.Get("Range") != "" && !fault.IgnoreRange {
		status = http.StatusPartialContent
		v := fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b))
		if fault.ContentRange != "" {
			v = fault.ContentRange
		}
		w.Header().Set("Content-Range", v)
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	if fault.Break || fault.Hang != nil {
		body = body[:min(int64(len(body)), fault.After)]
	}
	n, _ := w.Write(body[:min(int64(len(body)), length+int64(fault.Extra))])
	h.mu.Lock()
	h.sent[name] += int64(n)
	h.mu.Unlock()
	if fault.Hang != nil || fault.Break {
		http.NewResponseController(w).Flush()
	}
	if fault.Hang != nil {
		<-fault.Hang
	}
	if fault.Break || fault.Hang != nil || n < int(length) {
		panic(http.ErrAbortHandler)
	}
}
