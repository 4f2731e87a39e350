package hub

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// errBusy says that another process holds a lock, errNoLocks that the file system has none.
var (
	errBusy    = errors.New("locked by another process")
	errNoLocks = errors.New("file system without locks")
)

// lock takes the lock file that the Python client takes for the same blob, so that one process downloads it and the
// others wait. The file stays when the lock is released: removing it would split those who wait.
//
// exclusive is false on a file system without locks; the caller then uses a name of its own for the partial file.
func (c *Client) lock(ctx context.Context, path, what string, rep Report) (release func(), exclusive bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, false, c.diskError(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o664)
	if err != nil {
		return nil, false, c.diskError(err)
	}
	told := false
	for {
		err := c.lockFile(f)
		switch {
		case err == nil:
			return func() { f.Close() }, true, nil // closing the file gives the lock back
		case errors.Is(err, errNoLocks):
			return func() { f.Close() }, false, nil
		case !errors.Is(err, errBusy):
			f.Close()
			return nil, false, c.diskError(err)
		}
		if !told {
			rep.Note(what + ": another process is downloading it: waiting")
			told = true
		}
		if err := c.sleep(ctx, 200*time.Millisecond); err != nil {
			f.Close()
			return nil, false, err
		}
	}
}
