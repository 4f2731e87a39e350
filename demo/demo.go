// Package demo carries a small GPT-OSS that was trained for Hearth (see README.md in this folder) and the held-out
// items that measure it, so that a fresh machine can hold a conversation without a download. It holds no code beyond
// handing them out.
package demo

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed model eval/items.jsonl.gz
var files embed.FS

// Unpack writes the model's files into a folder below base, named after their content, and returns its path. A folder
// that is there already is used as it is: it got its name only when it was complete.
func Unpack(base string) (string, error) {
	model, err := fs.Sub(files, "model")
	if err != nil {
		return "", err
	}
	sum, err := hash(model)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, "demo-"+sum[:16])
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(base, "demo-*.partial")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	fresh := filepath.Join(tmp, "model")
	if err := os.CopyFS(fresh, model); err != nil {
		return "", err
	}
	if err := os.Rename(fresh, dir); err != nil {
		if _, gone := os.Stat(dir); gone == nil {
			return dir, nil // another process was quicker
		}
		return "", err
	}
	return dir, nil
}

// hash covers names and contents.
func hash(model fs.FS) (string, error) {
	h := sha256.New()
	err := fs.WalkDir(model, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(model, path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		_, err = io.WriteString(h, path+" "+hex.EncodeToString(sum[:])+"\n")
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// Items are the held-out questions, one JSON object a line.
func Items() (io.Reader, error) {
	b, err := files.ReadFile("eval/items.jsonl.gz")
	if err != nil {
		return nil, err
	}
	return gzip.NewReader(bytes.NewReader(b))
}
