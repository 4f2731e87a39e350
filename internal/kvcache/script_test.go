package kvcache

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScripts runs testdata/*.txt. Each byte of tokens is a token.
//
//	cache full=N window=N size=N window-tokens=N [prefix=off]   a new cache
//	open NAME tokens=TEXT [limit=N]                             start a sequence
//	append NAME tokens=TEXT                                     the sequence got longer
//	compute NAME [n=N]                                          slide, grow and commit; default: all that is left
//	close NAME, discard NAME
//	fit NAME                                                    how many positions would find pages
//
// Every command prints the sequences' tables and the pages of both pools, and checks the books.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("scripts: %v %v", paths, err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			var s script
			datadriven.RunTest(t, path, s.run)
		})
	}
}

type script struct {
	cache *Cache
	seqs  map[string]*scriptSeq
}

type scriptSeq struct {
	*Seq
	tokens []int32
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	if d.Cmd == "cache" {
		return s.newCache(t, d)
	}
	name := d.CmdArgs[0].Key
	q := s.seqs[name]
	var note string
	switch d.Cmd {
	case "open":
		tokens := textTokens(textArg(t, d, "tokens"))
		limit := len(tokens)
		d.MaybeScanArgs(t, "limit", &limit)
		q = &scriptSeq{s.cache.Open(tokens, limit, len(tokens)), tokens}
		s.seqs[name] = q
	case "append":
		q.tokens = append(q.tokens, textTokens(textArg(t, d, "tokens"))...)
	case "compute":
		n := len(q.tokens) - q.Len()
		d.MaybeScanArgs(t, "n", &n)
		if n > len(q.tokens)-q.Len() {
			d.Fatalf(t, "%s has only %d tokens", name, len(q.tokens))
		}
		s.cache.Slide(q.Seq)
		if !s.cache.Grow(q.Seq, n) {
			note = "no pages\n"
		} else if err := s.cache.Commit(q.Seq, q.tokens[:q.Len()+n]); err != nil {
			t.Fatal(err)
		}
	case "fit":
		return fmt.Sprintln(s.cache.Fit(q.Seq, 1<<20))
	case "close":
		s.cache.Close(q.Seq)
		delete(s.seqs, name)
	case "discard":
		s.cache.Discard(q.Seq)
		delete(s.seqs, name)
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
	if err := s.cache.Check(); err != nil {
		d.Fatalf(t, "%v", err)
	}
	return note + s.String()
}

func (s *script) newCache(t *testing.T, d *datadriven.TestData) string {
	var c Config
	d.ScanArgs(t, "full", &c.FullPages)
	d.ScanArgs(t, "window", &c.WindowPages)
	d.ScanArgs(t, "size", &c.PageSize)
	d.ScanArgs(t, "window-tokens", &c.Window)
	prefix := "on"
	d.MaybeScanArgs(t, "prefix", &prefix)
	c.Prefix = prefix == "on"
	cache, err := New(c)
	if err != nil {
		return fmt.Sprintln(err)
	}
	s.cache, s.seqs = cache, make(map[string]*scriptSeq)
	return fmt.Sprintf("capacity %d, chunk %d\n", cache.Capacity(), cache.MaxChunk())
}

func (s *script) String() string {
	var b strings.Builder
	names := make([]string, 0, len(s.seqs))
	for name := range s.seqs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		q := s.seqs[name]
		fmt.Fprintf(&b, "%s %d/%d full %s window %s\n", name, q.Len(), len(q.tokens), pageList(q.Full()), pageList(q.Window()))
	}
	f, w := s.cache.Full(), s.cache.Window()
	fmt.Fprintf(&b, "full free %d cached %d, window free %d cached %d (%d warm)\n", f.Free, f.Cached, w.Free, w.Cached, s.cache.window.warm.len)
	return b.String()
}

func pageList(pages []int32) string {
	words := make([]string, len(pages))
	for i, p := range pages {
		words[i] = strconv.Itoa(int(p))
		if p == none {
			words[i] = "-"
		}
	}
	return "[" + strings.Join(words, " ") + "]"
}

func textArg(t *testing.T, d *datadriven.TestData, key string) (text string) {
	t.Helper()
	d.ScanArgs(t, key, &text)
	return text
}

func textTokens(text string) []int32 {
	tokens := make([]int32, len(text))
	for i := range tokens {
		tokens[i] = int32(text[i])
	}
	return tokens
}
