package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	indexName   = "model.safetensors.index.json"
	ggufMagic   = "GGUF"
	metalMagic  = "GPT-OSS v1.0\x00\x00\x00\x00"
	maxJSONFile = 64 << 20 // no config or index comes near this
)

// source is the set of files that make up a checkpoint.
type source struct {
	dir   string   // where config.json and tokenizer.json lie
	files []string // weight files, in order
	gguf  bool
	index map[string]string // tensor name -> base name of its file; nil without an index
	lone  bool              // one safetensors file was named, not a folder
	notes []string
}

// shown names the source in messages about what none of its files holds.
func (src *source) shown() string {
	switch {
	case src.lone:
		return src.files[0] + " (one file; give the folder if the model has more)"
	case src.gguf:
		return src.files[0]
	}
	return src.dir
}

// locate finds the weight files of a path. It never looks into subfolders: a full download of OpenAI's repository
// holds the model three times.
func locate(path string) (*source, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.IsDir() {
		return locateFolder(path)
	}
	magic, err := readMagic(path)
	if err != nil {
		return nil, err
	}
	switch src := (&source{dir: filepath.Dir(path), files: []string{path}}); {
	case strings.HasPrefix(magic, metalMagic):
		return nil, metalError(path)
	case strings.HasPrefix(magic, ggufMagic):
		src.gguf = true
		src.files, err = splitSet(path)
		return src, err
	default:
		src.lone = true
		return src, nil
	}
}

func locateFolder(dir string) (*source, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var safetensors, ggufs, folders []string
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
		switch ext := filepath.Ext(e.Name()); {
		case e.IsDir():
			folders = append(folders, e.Name())
		case ext == ".safetensors":
			safetensors = append(safetensors, e.Name())
		case ext == ".gguf":
			ggufs = append(ggufs, e.Name())
		}
	}
	src := &source{dir: dir}
	adapter := names["adapter_config.json"]
	if len(ggufs) > 0 && len(safetensors) > 0 {
		src.notes = append(src.notes, fmt.Sprintf("the folder holds GGUF files too (%s); the safetensors files are used", strings.Join(ggufs, ", ")))
	}
	switch {
	case names[indexName]:
		return src, src.readIndex(filepath.Join(dir, indexName))
	case adapter && (len(safetensors) == 0 || len(safetensors) == 1 && safetensors[0] == "adapter_model.safetensors"):
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "adapter_config.json"), errAdapter)
	case len(safetensors) > 0:
		src.add(safetensors)
		return src, nil
	case len(ggufs) > 0:
		src.gguf = true
		return src, src.chooseGGUF(ggufs)
	}
	return nil, nothingIn(dir, names, folders)
}

func (src *source) add(names []string) {
	for _, n := range names {
		src.files = append(src.files, filepath.Join(src.dir, n))
	}
}

// chooseGGUF takes the only model in a folder, which may be split into several files.
func (src *source) chooseGGUF(names []string) error {
	set, err := splitSet(filepath.Join(src.dir, names[0]))
	if err != nil {
		return err
	}
	if len(set) != len(names) {
		return fmt.Errorf("%s: %d GGUF files (%s): name the one to use", src.dir, len(names), strings.Join(names, ", "))
	}
	src.files = set
	return nil
}

// nothingIn explains a folder without weights.
func nothingIn(dir string, names map[string]bool, folders []string) error {
	if names["model.bin"] {
		path := filepath.Join(dir, "model.bin")
		if magic, err := readMagic(path); err == nil && strings.HasPrefix(magic, metalMagic) {
			return metalError(path)
		}
	}
	for name := range names {
		if strings.HasSuffix(name, ".bin") || strings.HasSuffix(name, ".pt") || strings.HasSuffix(name, ".pth") {
			return fmt.Errorf("%s: only %s and the like: PyTorch's pickle files are not read; save the model as safetensors", dir, name)
		}
	}
	hint := ""
	if len(folders) > 0 {
		slices.Sort(folders)
		hint = fmt.Sprintf("; subfolders are not searched (%s)", strings.Join(folders, ", "))
	}
	return fmt.Errorf("%s: no *.safetensors and no *.gguf file%s", dir, hint)
}

// readIndex takes the shard list from an index file and makes sure that every shard is there.
func (src *source) readIndex(path string) error {
	b, err := readJSONFile(path)
	if err != nil {
		return err
	}
	if src.index, err = parseIndex(b); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	names := slices.Compact(slices.Sorted(maps.Values(src.index)))
	for _, n := range names {
		if _, err := os.Stat(filepath.Join(src.dir, n)); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: shard %s is missing: the download is incomplete", path, n)
		} else if err != nil {
			return err
		}
	}
	src.add(names)
	return nil
}

// parseIndex reads the weight map of model.safetensors.index.json: tensor name -> file name.
func parseIndex(b []byte) (map[string]string, error) {
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, err
	}
	if len(index.WeightMap) == 0 {
		return nil, errors.New("weight_map is missing or empty")
	}
	for name, file := range index.WeightMap {
		if file == "" || file != filepath.Base(file) || strings.ContainsAny(file, `/\`) || file == "." || file == ".." {
			return nil, fmt.Errorf("weight_map: tensor %q: %q is not the name of a file in this folder", name, file)
		}
	}
	return index.WeightMap, nil
}

// checkIndex compares the index with the tensors of the shards.
func (src *source) checkIndex(tensors []tensor) error {
	if src.index == nil {
		return nil
	}
	path := filepath.Join(src.dir, indexName)
	type place struct{ name, file string }
	found := make(map[place]bool, len(tensors))
	for _, t := range tensors {
		file := filepath.Base(t.file)
		if _, ok := src.index[t.name]; !ok {
			return fmt.Errorf("%s: tensor %q of %s is not in the index: index and shards are not of one model", path, t.name, file)
		}
		found[place{t.name, file}] = true
	}
	for _, name := range slices.Sorted(maps.Keys(src.index)) {
		if file := src.index[name]; !found[place{name, file}] {
			return fmt.Errorf("%s: tensor %q should be in %s and is not: index and shards are not of one model", path, name, file)
		}
	}
	return nil
}

// splitSet lists the files that belong to a GGUF file: itself, or all parts NAME-00001-of-00003.gguf and so on.
func splitSet(path string) ([]string, error) {
	stem, count, ok := splitName(path)
	if !ok {
		return []string{path}, nil
	}
	var set []string
	for i := range count {
		part := fmt.Sprintf("%s-%05d-of-%05d.gguf", stem, i+1, count)
		if _, err := os.Stat(part); err != nil {
			return nil, fmt.Errorf("%s is one of %d parts: %w", path, count, err)
		}
		set = append(set, part)
	}
	return set, nil
}

// splitName takes a name like model-00001-of-00003.gguf apart.
func splitName(path string) (stem string, count int, ok bool) {
	const tail = len("-00001-of-00003.gguf")
	if len(path) <= tail {
		return "", 0, false
	}
	stem, rest := path[:len(path)-tail], path[len(path)-tail:]
	var i int
	if n, err := fmt.Sscanf(rest, "-%05d-of-%05d.gguf", &i, &count); n != 2 || err != nil {
		return "", 0, false
	}
	return stem, count, rest == fmt.Sprintf("-%05d-of-%05d.gguf", i, count) && i >= 1 && i <= count
}

// readMagic returns the first bytes of a file.
func readMagic(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, len(metalMagic))
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(b[:n]), nil
}

// readJSONFile reads a small file whole.
func readJSONFile(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxJSONFile {
		return nil, fmt.Errorf("%s: %d bytes are too many for this file (limit %d)", path, fi.Size(), maxJSONFile)
	}
	return os.ReadFile(path)
}
