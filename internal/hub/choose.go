package hub

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Selection says which files of a repository are wanted. A repository may hold the same model several times: GPT-OSS's
// own holds it at the root, in original/ and in metal/. The zero value takes the safetensors at the root, or the GGUF
// file of a repository that has one.
type Selection struct {
	Layout  string   // "" or "root"; "original" for OpenAI's own form in original/
	File    string   // one GGUF file, by its path or base name; the other parts of a split one come along
	Include []string // instead of all that: files that match one of these patterns, by path or base name
	Exclude []string // never files that match one of these
}

// chosen is the outcome: files, and what a reader opens, relative to the snapshot ("." for its folder).
type chosen struct {
	files []File
	open  string
	left  []string // matching files that are never fetched
}

// choose picks the wanted files of a listing.
func (s Selection) choose(name string, all []File) (chosen, error) {
	exclude, err := compileGlobs(s.Exclude)
	if err != nil {
		return chosen{}, err
	}
	files := slices.DeleteFunc(slices.Clone(all), func(f File) bool { return matches(exclude, f.Path) })
	var out chosen
	switch {
	case len(s.Include) > 0 && (s.Layout != "" || s.File != ""):
		return chosen{}, fail(Unfit, nil, "--include replaces --layout and --file: give one of them")
	case s.Layout != "" && s.File != "":
		return chosen{}, fail(Unfit, nil, "--layout and --file exclude each other")
	case len(s.Include) > 0:
		out, err = s.included(name, files)
	case s.File != "":
		out, err = ggufNamed(name, s.File, files)
	case s.Layout == "" || s.Layout == "root":
		out, err = root(name, files)
	case s.Layout == "original":
		out = chosen{files: folder(files, "original/"), open: "original"}
		if !hasWeights(out.files) {
			err = fail(Unfit, nil, "%s: has no safetensors in original/: leave --layout out", name)
		}
	default:
		err = fail(Unfit, nil, "--layout %q: want root or original (metal/ is a form for one machine and cannot be read here)", s.Layout)
	}
	if err != nil {
		return chosen{}, err
	}
	folded := map[string]bool{}
	for _, f := range out.files {
		if err := checkPortable(f.Path); err != nil {
			return chosen{}, fail(BadListing, err, "%s: file name %q %v", name, f.Path, err)
		}
		lower := strings.ToLower(f.Path)
		if folded[lower] {
			return chosen{}, fail(BadListing, nil, "%s: two files are named %q but for upper and lower case, which not every system tells apart", name, lower)
		}
		folded[lower] = true
	}
	return out, nil
}

// included takes what the patterns name, except pickled weights.
func (s Selection) included(name string, files []File) (chosen, error) {
	include, err := compileGlobs(s.Include)
	if err != nil {
		return chosen{}, err
	}
	out := chosen{open: "."}
	for _, f := range files {
		switch {
		case !matches(include, f.Path):
		case pickled(f.Path):
			out.left = append(out.left, f.Path)
		default:
			out.files = append(out.files, f)
		}
	}
	switch {
	case len(out.files) == 0 && len(out.left) > 0:
		return out, fail(Unfit, nil, "%s: --include matches only %s: such files can run code when they are opened and are never fetched", name, out.left[0])
	case len(out.files) == 0:
		return out, fail(Unfit, nil, "%s: no file matches --include %s", name, strings.Join(s.Include, " "))
	case len(out.files) == 1:
		out.open = out.files[0].Path
	}
	return out, nil
}

// root takes the model at the top of the repository, or its only GGUF file.
func root(name string, files []File) (chosen, error) {
	out := chosen{files: folder(files, ""), open: "."}
	if hasWeights(out.files) {
		return out, nil
	}
	switch groups := ggufGroups(files); {
	case len(groups) == 1:
		return chosen{files: groups[0], open: groups[0][0].Path}, nil
	case len(groups) > 1:
		list := make([]string, len(groups))
		for i, g := range groups {
			list[i] = fmt.Sprintf("%s (%s)", g[0].Path, gigabytes(sizeOf(g)))
		}
		return out, fail(Unfit, nil, "%s: holds %d GGUF files: choose one with --file: %s", name, len(groups), strings.Join(list, ", "))
	case hasWeights(folder(files, "original/")):
		return out, fail(Unfit, nil, "%s: has its safetensors only in original/: add --layout original", name)
	case slices.ContainsFunc(files, func(f File) bool { return f.Path == "adapter_config.json" }):
		return out, fail(Unfit, nil, "%s: is an adapter, not a model: merge it into its base model first", name)
	case slices.ContainsFunc(files, func(f File) bool { return pickled(f.Path) }):
		return out, fail(Unfit, nil, "%s: holds only PyTorch files, which can run code when they are opened: look for a repository with safetensors or GGUF", name)
	}
	return out, fail(Unfit, nil, "%s: holds no safetensors and no GGUF file", name)
}

// folder takes the safetensors of one folder and what belongs to them: configuration, index, tokenizer, chat template.
func folder(files []File, prefix string) (out []File) {
	for _, f := range files {
		base, ok := strings.CutPrefix(f.Path, prefix)
		if !ok || strings.Contains(base, "/") {
			continue
		}
		switch path.Ext(base) {
		case ".safetensors", ".json", ".jinja", ".tiktoken":
			out = append(out, f)
		case ".txt", ".model":
			if base == "merges.txt" || base == "vocab.txt" || base == "tokenizer.model" {
				out = append(out, f)
			}
		}
	}
	return out
}

func hasWeights(files []File) bool {
	return slices.ContainsFunc(files, func(f File) bool {
		return strings.HasSuffix(f.Path, ".safetensors") && !strings.HasPrefix(f.Path, "adapter_")
	})
}

// pickled recognises weights that Python unpickles, and other .bin files, which no reader here opens.
func pickled(p string) bool {
	switch strings.ToLower(path.Ext(p)) {
	case ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle":
		return true
	}
	return false
}

var splitName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// ggufGroups gathers the model files of a GGUF repository; the parts of a split file form one group, in order.
func ggufGroups(files []File) (groups [][]File) {
	at := map[string]int{}
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range sorted {
		base := strings.ToLower(path.Base(f.Path))
		if !strings.HasSuffix(base, ".gguf") || strings.Contains(base, "imatrix") || strings.HasPrefix(base, "mmproj") {
			continue
		}
		key := f.Path
		if m := splitName.FindStringSubmatch(f.Path); m != nil {
			key = m[1] + "-of-" + m[3]
		}
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], f)
	}
	return groups
}

// ggufNamed finds the group that holds the named file.
func ggufNamed(name, file string, files []File) (chosen, error) {
	var found [][]File
	var names []string
	for _, g := range ggufGroups(files) {
		names = append(names, g[0].Path)
		if slices.ContainsFunc(g, func(f File) bool { return f.Path == file || path.Base(f.Path) == file }) {
			found = append(found, g)
		}
	}
	switch {
	case len(found) == 1:
		return chosen{files: found[0], open: found[0][0].Path}, nil
	case len(found) > 1:
		return chosen{}, fail(Unfit, nil, "%s: --file %s is in several folders: give its path: %s, %s", name, file, found[0][0].Path, found[1][0].Path)
	case len(names) == 0:
		return chosen{}, fail(Unfit, nil, "%s: --file %s: holds no GGUF file", name, file)
	}
	return chosen{}, fail(Unfit, nil, "%s: --file %s: no such GGUF file: it holds %s", name, file, strings.Join(names, ", "))
}

// wholeGGUF says that every part of a split file is there.
func wholeGGUF(g []File) bool {
	m := splitName.FindStringSubmatch(g[0].Path)
	if m == nil {
		return true
	}
	n, err := strconv.Atoi(m[3])
	return err == nil && n == len(g)
}

// compileGlobs turns shell patterns into expressions as Python's fnmatch does: * crosses folders, and a pattern that
// ends in a slash means all below.
func compileGlobs(patterns []string) (out []*regexp.Regexp, err error) {
	for _, p := range patterns {
		if strings.HasSuffix(p, "/") {
			p += "*"
		}
		var b strings.Builder
		b.WriteString(`(?s)^`)
		for i := 0; i < len(p); i++ {
			end := strings.IndexByte(p[i:], ']')
			switch {
			case p[i] == '*':
				b.WriteString(`.*`)
			case p[i] == '?':
				b.WriteString(`.`)
			case p[i] == '[' && end > 1:
				class := strings.ReplaceAll(p[i+1:i+end], `\`, `\\`)
				if rest, ok := strings.CutPrefix(class, "!"); ok {
					class = "^" + rest
				}
				b.WriteString("[" + class + "]")
				i += end
			default:
				b.WriteString(regexp.QuoteMeta(p[i : i+1]))
			}
		}
		re, err := regexp.Compile(b.String() + `$`)
		if err != nil {
			return nil, fail(Unfit, err, "pattern %q is not understood: use *, ? and [abc]", p)
		}
		out = append(out, re)
	}
	return out, nil
}

func matches(patterns []*regexp.Regexp, p string) bool {
	return slices.ContainsFunc(patterns, func(re *regexp.Regexp) bool { return re.MatchString(p) || re.MatchString(path.Base(p)) })
}

func sizeOf(files []File) (n int64) {
	for _, f := range files {
		n += max(f.Size, 0)
	}
	return n
}

func gigabytes(n int64) string {
	if n < 1e9 {
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
