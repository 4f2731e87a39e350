package cuda

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// cache keeps compiled kernels on disk. An entry is the SHA-256 of its contents, then the contents; what does not match
// counts as absent. The zero value keeps nothing.
type cache struct{ dir string }

// DefaultCacheDir is where compiled kernels are kept: hearth/ptx in the user's cache folder; "" where there is none.
func DefaultCacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "hearth", "ptx")
}

// cacheKey names what the driver makes of PTX on this card.
func (c *context) cacheKey(ptx []byte) string {
	v, _ := c.d.version()
	sum := sha256.Sum256(ptx)
	return fmt.Sprintf("%s-sm%d%d-cuda%d-%s.cubin", hex.EncodeToString(sum[:16]), c.info.major, c.info.minor, v, c.d.module)
}

func (c *cache) get(key string) []byte {
	if c.dir == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(c.dir, key))
	if err != nil {
		return nil
	}
	if len(b) > sha256.Size {
		if sum := sha256.Sum256(b[sha256.Size:]); bytes.Equal(sum[:], b[:sha256.Size]) {
			return b[sha256.Size:]
		}
	}
	c.drop(key)
	return nil
}

// has says whether there is an entry; get says whether it is whole.
func (c *cache) has(key string) bool {
	if c.dir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(c.dir, key))
	return err == nil
}

func (c *cache) drop(key string) { os.Remove(filepath.Join(c.dir, key)) }

// put writes under another name first: two processes may start at once, and one may be killed.
func (c *cache) put(key string, contents []byte) (err error) {
	if c.dir == "" {
		return nil
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(c.dir, "new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	sum := sha256.Sum256(contents)
	_, err = f.Write(append(sum[:], contents...))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	err = os.Rename(f.Name(), filepath.Join(c.dir, key))
	if errors.Is(err, fs.ErrExist) { // Windows, when another process was first
		os.Remove(f.Name())
		return nil
	}
	return err
}
