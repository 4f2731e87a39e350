package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Open opens a folder, a *.safetensors file or a *.gguf file. It reads the headers, finds the layout, and checks the
// names, shapes, types and lengths of all tensors, so that reading a layer later fails only where reading the file
// does. Values are not looked at; Verify does that.
func Open(path string) (*Checkpoint, error) {
	src, err := locate(path)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{path: path}
	if err := Guard(func() error { return c.open(src) }); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Checkpoint) open(src *source) error {
	c.notes = src.notes
	for _, path := range src.files {
		m, err := mapPath(path)
		if err != nil {
			return err
		}
		c.files = append(c.files, m)
	}
	var b *binder
	var err error
	if src.gguf {
		b, err = c.newGGUFBinder()
	} else {
		b, err = c.newBinder(src)
	}
	if err != nil {
		return err
	}
	b.where = src.shown()
	c.fetchSmall(b.store)
	if err := c.check(b); err != nil {
		return err
	}
	c.binder = b
	if path := filepath.Join(src.dir, "tokenizer.json"); isFile(path) {
		c.tokenizerFile = path
	}
	return nil
}

// newBinder reads the headers of safetensors files and the configuration and finds the layout.
func (c *Checkpoint) newBinder(src *source) (*binder, error) {
	var tensors []tensor
	for _, m := range c.files {
		list, err := readSafetensors(m.path, m.data)
		if err != nil {
			return nil, err
		}
		tensors = append(tensors, list...)
	}
	if err := src.checkIndex(tensors); err != nil {
		return nil, err
	}
	s, err := newStore(tensors, normaliseHF)
	if err != nil {
		return nil, err
	}
	cfg, cfgErr := readConfig(src.dir)
	method := ""
	if cfg != nil {
		method = cfg.method
	}
	// What the tensors are comes first: a foreign checkpoint should hear that, not that a field is missing.
	if err := refuseForeign(s, method); err != nil {
		return nil, err
	}
	if c.layout, err = detect(s, src, method); err != nil {
		return nil, err
	}
	if cfgErr != nil {
		return nil, cfgErr
	}
	c.config = &cfg.Config
	c.notes = append(c.notes, cfg.notes...)
	if n := staleMethod(c.layout, method); n != "" {
		c.notes = append(c.notes, n)
	}
	return &binder{store: s, cfg: c.config, layout: c.layout, tied: cfg.tied, asks: "config.json asks"}, nil
}

// check binds every part once, without decoding, and lists the tensors.
func (c *Checkpoint) check(b *binder) error {
	r := b.run()
	r.checking, r.claims = true, make(map[*tensor]claim, len(b.store.tensors))
	r.walk()
	r.noMoreLayers()
	if r.err != nil {
		return r.err
	}
	c.notes = append(c.notes, r.notes...)
	if names := b.store.unused(r.claims); len(names) > 0 {
		c.notes = append(c.notes, fmt.Sprintf("%d tensors have no use in this model and are ignored: %s", len(names), some(names)))
	}
	c.list(b.store, r.claims)
	return nil
}

// list fills the table of Tensors.
func (c *Checkpoint) list(s *store, claims map[*tensor]claim) {
	c.infos = make([]TensorInfo, len(s.tensors))
	for i := range s.tensors {
		t := &s.tensors[i]
		info := TensorInfo{
			Name: t.name, Stored: t.stored, Format: t.format, Shape: t.shape, Bytes: int64(len(t.data)), File: filepath.Base(t.file),
		}
		if u, ok := claims[t]; ok {
			info.Canonical, info.Format, info.Shape = u.role, u.format, u.shape
		}
		c.infos[i] = info
	}
}

// some shows the first of many names.
func some(names []string) string {
	const most = 3
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}
