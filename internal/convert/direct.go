package convert

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"hearth/internal/dtype"
)

// Weights are read and written past the page cache where the system can. What is read once and written once would push
// out of memory what other programs use, and finding gigabytes of memory for it costs a virtual machine more than the
// disk does. It also means that what is read back comes from the disk. Such reads and writes begin and end at a block,
// in the file and in memory; the ends of a run go through the page cache.

const (
	directBlock = 4096    // a multiple of the block of every common disk
	directLeast = 1 << 16 // shorter runs go through the page cache
	directMost  = 4 << 20 // written at once
)

// aligned gives a buffer of n bytes that begins at a block. It keeps the memory in b.
func aligned(b *[]byte, n int) []byte {
	if len(*b) < n {
		room := make([]byte, n+directBlock)
		skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(room)))) & (directBlock - 1)
		*b = room[skip : skip+n]
	}
	return (*b)[:n]
}

// roundUp rounds to blocks.
func roundUp[T int | int64](n T) T { return (n + directBlock - 1) &^ (directBlock - 1) }

// readDirect reads n bytes from a file that was opened for direct reads, into a buffer that it keeps.
func readDirect(f *os.File, buf *[]byte, at, n int64) ([]byte, error) {
	start := at &^ (directBlock - 1)
	want := int(at + n - start)
	window := aligned(buf, roundUp(want))
	have, err := f.ReadAt(window, start)
	if have >= want {
		return window[int(at-start):want:want], nil // at the end of the file the window is not filled
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s: %w at byte %d: it was cut short meanwhile", f.Name(), io.ErrUnexpectedEOF, start+int64(have))
	}
	return nil, err
}

// sourceFiles are the files of a source, opened for direct reads.
type sourceFiles struct {
	mu   sync.Mutex
	open map[string]*os.File // nil: the system cannot
}

func (s *sourceFiles) file(path string) *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, known := s.open[path]
	if !known {
		f, _ = openDirect(path, os.O_RDONLY)
		if s.open == nil {
			s.open = map[string]*os.File{}
		}
		s.open[path] = f
	}
	return f
}

func (s *sourceFiles) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.open {
		if f != nil {
			f.Close() // only read
		}
	}
	clear(s.open)
}

// buffers hold what is read of a view.
type buffers [2][5][]byte

// fetch gives a view whose bytes have been read into the buffers. Those of a view that shares them with others stay
// where they are, in the source's mapping, and so do short runs.
func (s *parts) fetch(b *buffers, v view) (view, error) {
	if s.hint == nil || v.shared {
		return v, nil
	}
	var err error
	get := func(buf *[]byte, data []byte) []byte {
		if err == nil {
			data, err = s.read(buf, data)
		}
		return data
	}
	for i, p := range []**dtype.Plane{&v.even, &v.odd} {
		if *p == nil {
			continue
		}
		c := **p
		c.Data, c.Scales = get(&b[i][0], c.Data), get(&b[i][1], c.Scales)
		if c.Quant != nil {
			q := *c.Quant
			q.Absmax, q.Codes, q.Nested = get(&b[i][2], q.Absmax), get(&b[i][3], q.Codes), get(&b[i][4], q.Nested)
			c.Quant = &q
		}
		*p = &c
	}
	return v, err
}

// read gives bytes of a mapping from their file, or as they are where that is not possible.
func (s *parts) read(buf *[]byte, b []byte) ([]byte, error) {
	if len(b) < directLeast {
		return b, nil
	}
	path, at, ok := s.hint.Locate(b)
	if !ok {
		return b, nil
	}
	f := s.files.file(path)
	if f == nil {
		return b, nil
	}
	data, err := readDirect(f, buf, at, int64(len(b)))
	if errors.Is(err, syscall.EINVAL) { // the file system takes the flag and not the read
		return b, nil
	}
	return data, err
}

// target is an output file.
type target struct {
	*os.File          // through the page cache
	direct   *os.File // past it; nil where the system cannot
	mu       sync.Mutex
}

// openTarget opens or makes an output file of a given size, whose room on the disk is taken now.
func openTarget(path string, size int64) (*target, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	t := &target{File: f}
	if err = f.Truncate(size); err == nil {
		err = allocate(f, size)
	}
	if err != nil {
		return nil, errors.Join(writeError(err), t.Close())
	}
	t.direct, _ = openDirect(path, os.O_RDWR)
	return t, nil
}

// Close closes the file. After the first time it does nothing but give an error.
func (t *target) Close() error {
	err := t.File.Close()
	if t.direct != nil {
		err = errors.Join(err, t.direct.Close())
	}
	return err
}

// writeAt writes bytes, whole blocks of them from the buffer past the page cache, and gives their checksum.
func (t *target) writeAt(buf *[]byte, b []byte, at int64) (crc uint32, err error) {
	if t.direct == nil || len(b) < directLeast {
		return crc32.Checksum(b, castagnoli), t.writePlain(b, at)
	}
	head := roundUp(at) - at
	crc = crc32.Checksum(b[:head], castagnoli)
	if err := t.writePlain(b[:head], at); err != nil {
		return 0, err
	}
	b, at = b[head:], at+head
	for len(b) >= directBlock {
		block := aligned(buf, directMost)
		var n int
		n, crc = copySum(block, b[:len(b)&^(directBlock-1)], crc)
		_, err := t.direct.WriteAt(block[:n], at)
		if errors.Is(err, syscall.EINVAL) { // the file system takes the flag and not the write
			err = t.writePlain(block[:n], at)
		}
		if err != nil {
			return 0, err
		}
		b, at = b[n:], at+int64(n)
	}
	return crc32.Update(crc, castagnoli, b), t.writePlain(b, at)
}

// copySum copies and goes on with a checksum, both while the bytes are in the processor's cache.
func copySum(dst, src []byte, crc uint32) (int, uint32) {
	n := min(len(dst), len(src))
	const step = 1 << 17
	for at := 0; at < n; at += step {
		b := src[at:min(at+step, n)]
		copy(dst[at:], b)
		crc = crc32.Update(crc, castagnoli, b)
	}
	return n, crc
}

// writePlain writes through the page cache. The system lets one thread do so at a time and makes others spin: a mutex
// leaves their processor to other workers.
func (t *target) writePlain(b []byte, at int64) error {
	if len(b) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.File.WriteAt(b, at)
	return err
}

// readAt reads bytes back, past the page cache where the system can.
func (t *target) readAt(buf *[]byte, at, n int64) ([]byte, error) {
	if t.direct != nil && n >= directLeast {
		if b, err := readDirect(t.direct, buf, at, n); !errors.Is(err, syscall.EINVAL) {
			return b, err
		}
	}
	b := aligned(buf, int(n))
	_, err := t.File.ReadAt(b, at)
	return b, err
}
