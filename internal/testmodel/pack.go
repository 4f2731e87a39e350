//go:build ignore

// Pack writes the archive that package testmodel reads: every file below the source folder, cut into pieces by
// content and each distinct piece stored once.
//
//	go run pack.go SOURCE OUT.zip
package main

import (
	"archive/zip"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: go run pack.go SOURCE OUT.zip")
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func pack(source, out string) error {
	files := map[string][]string{}
	pieces := map[string][]byte{}
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		for len(b) > 0 {
			n := cut(b)
			sum := sha256.Sum256(b[:n])
			name := hex.EncodeToString(sum[:8])
			files[filepath.ToSlash(rel)] = append(files[filepath.ToSlash(rel)], name)
			pieces[name], b = b[:n], b[n:]
		}
		return nil
	})
	if err != nil {
		return err
	}
	if pieces["files.json"], err = json.Marshal(files); err != nil {
		return err
	}
	return write(out, pieces)
}

// cut gives the length of the next piece: a boundary wherever a rolling hash of the last bytes hits, about every
// 4 KiB, so that equal runs in two files fall into equal pieces whatever stands before them.
func cut(b []byte) int {
	const least, most, mask = 1 << 10, 64 << 10, 1<<12 - 1
	h := uint32(0)
	for i, c := range b {
		h = h<<1 + (uint32(c)+1)*2654435761>>7
		if i >= most || i >= least && h>>16&mask == 0 {
			return i + 1
		}
	}
	return len(b)
}

func write(out string, pieces map[string][]byte) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	z := zip.NewWriter(f)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.BestCompression)
	})
	names := make([]string, 0, len(pieces))
	for name := range pieces {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		w, err := z.Create(name)
		if err != nil {
			return err
		}
		if _, err := w.Write(pieces[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}
