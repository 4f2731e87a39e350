package checkpoint

import "unsafe"

// WillNeed tells the system that bytes of this checkpoint's planes are read next, so that it fetches them from the disk
// meanwhile. Done tells it that they are not read again soon, so that other pages stay in memory in their place. Both
// are hints; bytes that lie in none of the checkpoint's files are ignored.
func (c *Checkpoint) WillNeed(b []byte) { c.advise(b, adviseWillNeed) }

// Done is the opposite of WillNeed.
func (c *Checkpoint) Done(b []byte) { c.advise(b, adviseDone) }

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

func (c *Checkpoint) advise(b []byte, hint func([]byte)) {
	if len(b) == 0 {
		return
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	for _, f := range c.files {
		start := uintptr(unsafe.Pointer(unsafe.SliceData(f.data)))
		if f.unmap == nil || at < start || at-start > uintptr(len(f.data)-len(b)) || len(b) > len(f.data) {
			continue
		}
		// Mappings begin at a page.
		const page = 1 << 16
		first, end := int(at-start)&^(page-1), int(at-start)+len(b)
		hint(f.data[first:end])
		return
	}
}
