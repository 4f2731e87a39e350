package checkpoint

import (
	"os"
	"unsafe"
)

// WillNeed tells the system that bytes of this checkpoint's planes are read next, so that it fetches them from the disk
// meanwhile. It is a hint; bytes that lie in none of the checkpoint's files are ignored.
func (c *Checkpoint) WillNeed(b []byte) {
	f, at := c.find(b)
	if f == nil {
		return
	}
	const page = 1 << 16 // mappings begin at a page, of whatever size
	adviseWillNeed(f.data[at&^(page-1) : at+len(b)])
}

// Done is the opposite of WillNeed: the bytes are not read again, and the pages that hold nothing else leave memory, unless another
// program uses them. Reading a file of any size this way takes no more memory than is under way.
func (c *Checkpoint) Done(b []byte) {
	f, at := c.find(b)
	if f == nil {
		return
	}
	page := os.Getpagesize()
	from, to := (at+page-1)/page*page, (at+len(b))/page*page
	if from < to {
		adviseDone(f.file, f.data[from:to], int64(from))
	}
}

// smallTensor is well above a quant state, a table of codes or a bias.
const smallTensor = 64 << 10

// fetchSmall lets the system read all small tensors at once: in a checkpoint with thousands of them, strewn between
// large ones, waiting for one after the other takes seconds.
func (c *Checkpoint) fetchSmall(s *store) {
	for i := range s.tensors {
		if t := &s.tensors[i]; len(t.data) <= smallTensor {
			c.WillNeed(t.data)
		}
	}
}

// Locate finds the file and the offset that bytes of a plane lie at; ok is false for bytes that are in no file.
func (c *Checkpoint) Locate(b []byte) (path string, offset int64, ok bool) {
	f, at := c.find(b)
	if f == nil {
		return "", 0, false
	}
	return f.path, int64(at), true
}

// find gives the mapping that holds b, and where in it; nil if none does.
func (c *Checkpoint) find(b []byte) (*mapping, int) {
	if len(b) == 0 {
		return nil, 0
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	for _, f := range c.files {
		start := uintptr(unsafe.Pointer(unsafe.SliceData(f.data)))
		if f.unmap != nil && len(b) <= len(f.data) && at >= start && at-start <= uintptr(len(f.data)-len(b)) {
			return f, int(at - start)
		}
	}
	return nil, 0
}
