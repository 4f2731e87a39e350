package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FromEnvironment reads the variables of the official client: HF_ENDPOINT, HF_TOKEN (or the token file, HF_TOKEN_PATH),
// HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HF_HUB_OFFLINE, HF_HUB_DISABLE_SYMLINKS, HF_HUB_DISABLE_IMPLICIT_TOKEN.
// getenv is os.Getenv, home the user's home folder.
func FromEnvironment(getenv func(string) string, home string) (Options, error) {
	first := func(names ...string) string {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	folder := func(v string) string {
		if rest, ok := strings.CutPrefix(v, "~"); ok && (rest == "" || os.IsPathSeparator(rest[0])) {
			v = home + rest
		}
		return filepath.Clean(os.Expand(v, getenv))
	}
	hfHome := first("HF_HOME")
	if hfHome == "" {
		cache := first("XDG_CACHE_HOME")
		if cache == "" {
			if home == "" {
				return Options{}, errors.New("no home folder is known: set HF_HOME to the folder for downloaded models")
			}
			cache = filepath.Join(home, ".cache")
		}
		hfHome = filepath.Join(cache, "huggingface")
	}
	hfHome = folder(hfHome)
	o := Options{
		Endpoint:   getenv("HF_ENDPOINT"),
		CacheDir:   filepath.Join(hfHome, "hub"),
		Offline:    isTrue(first("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")),
		NoSymlinks: isTrue(getenv("HF_HUB_DISABLE_SYMLINKS")),
		Token:      strings.TrimSpace(first("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")),
	}
	if v := first("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"); v != "" {
		o.CacheDir = folder(v)
	}
	if o.Token == "" && !isTrue(getenv("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		file := filepath.Join(hfHome, "token")
		if v := getenv("HF_TOKEN_PATH"); v != "" {
			file = folder(v)
		}
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Options{}, fmt.Errorf("hub token file: %w", err)
		}
		o.Token = strings.TrimSpace(string(b))
	}
	return o, nil
}

func isTrue(v string) bool {
	switch strings.ToUpper(v) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}
