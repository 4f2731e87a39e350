package convert

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// journalName lies beside the unfinished files and lists the pieces that are in them, so that the same command run
// again goes on where it stopped. A record is believed only if the bytes still have its checksums.
const journalName = "journal.jsonl"

// entry is a line of the journal after the first, which has the plan's identity.
type entry struct {
	Piece  int       `json:"piece"`
	Sum    uint32    `json:"sum"`
	Error  errorSums `json:"error"`
	Writes []write   `json:"writes"`
}

// journal is the open journal of a run. Its methods are safe for concurrent use.
type journal struct {
	mu   sync.Mutex
	file *os.File
}

// openJournal opens or makes the journal of an unfinished folder and gives the entries of an earlier run of the same
// plan. Another program that uses it, and the remains of another conversion, are refused.
func (p *Plan) openJournal(dir string) (*journal, []entry, error) {
	path := filepath.Join(dir, journalName)
	if err := p.checkRemains(dir, path); err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, nil, err
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: another program is writing here: %w", dir, err)
	}
	entries, err := p.readJournal(f)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return &journal{file: f}, entries, nil
}

// checkRemains refuses a folder without a journal that holds what this plan would not write.
func (p *Plan) checkRemains(dir, path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !slices.Contains(p.Files(), e.Name()) {
			return fmt.Errorf("%s holds %s, which is not of this conversion: move the folder away", dir, e.Name())
		}
	}
	return nil
}

func (p *Plan) readJournal(f *os.File) ([]entry, error) {
	r := bufio.NewReader(f)
	first, err := r.ReadBytes('\n')
	if errors.Is(err, io.EOF) { // new, or cut off in its first line
		if err := f.Truncate(0); err != nil {
			return nil, err
		}
		_, err := f.WriteAt(fmt.Appendf(nil, "{\"conversion\": %q}\n", hex.EncodeToString(p.state[:])), 0)
		if err == nil {
			_, err = f.Seek(0, io.SeekEnd)
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	var head struct{ Conversion string }
	if err := json.Unmarshal(first, &head); err != nil || head.Conversion != hex.EncodeToString(p.state[:]) {
		return nil, errors.New("these are the remains of another conversion, or of one from a source that has changed: remove the folder to begin anew")
	}
	var entries []entry
	at := int64(len(first))
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // a line that was being written is not believed
		}
		if err != nil {
			return nil, err
		}
		var e entry
		if json.Unmarshal(bytes.TrimSpace(line), &e) != nil || e.Piece < 0 || e.Piece >= len(p.pieces) {
			break
		}
		entries = append(entries, e)
		at += int64(len(line))
	}
	if err := f.Truncate(at); err != nil {
		return nil, err
	}
	_, err = f.Seek(at, io.SeekStart)
	return entries, err
}

// add records a finished piece.
func (j *journal) add(piece int, r *result) error {
	line, err := json.Marshal(entry{piece, r.sum, r.error.sums(), r.writes})
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return writeError(err)
	}
	return nil
}

// holds says whether the files still have the bytes that an entry names.
func (w *worker) holds(e *entry, files []outFile) bool {
	for _, x := range e.Writes {
		if x.File < 0 || x.File >= len(files) || x.Offset < 0 || x.Length < 0 || x.Offset > files[x.File].size-x.Length {
			return false
		}
		const step = 4 << 20
		crc := uint32(0)
		for at := int64(0); at < x.Length; at += step {
			b, err := w.files[x.File].readAt(&w.block, x.Offset+at, min(step, x.Length-at))
			if err != nil {
				return false
			}
			crc = crc32.Update(crc, castagnoli, b)
		}
		if crc != x.CRC {
			return false
		}
	}
	return true
}
