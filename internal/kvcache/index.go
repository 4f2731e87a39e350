package kvcache

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// block is a complete block of tokens whose keys and values are in pages. It is in the index as long as it has its
// full-attention page; the window page may come and go.
type block struct {
	id     uint64 // never used twice
	parent uint64 // the block before it; 0 for the first of a sequence
	hash   uint64
	tokens []int32
	full   int32
	window int32  // none: no longer kept
	next   *block // with the same hash
}

// index finds blocks by what they hold: their tokens and, through the parent's id, every token before them. The hash
// only leads to candidates; parent and tokens are compared.
type index struct {
	blocks map[uint64]*block
	hash   func(parent uint64, tokens []int32) uint64
	lastID uint64
	spare  *block // removed blocks, to be filled again
}

func newIndex(pageSize int) *index {
	seed := maphash.MakeSeed()
	buf := make([]byte, 0, 8+4*pageSize)
	return &index{
		blocks: make(map[uint64]*block),
		hash: func(parent uint64, tokens []int32) uint64 {
			buf = binary.LittleEndian.AppendUint64(buf[:0], parent)
			for _, id := range tokens {
				buf = binary.LittleEndian.AppendUint32(buf, uint32(id))
			}
			return maphash.Bytes(seed, buf)
		},
	}
}

// find returns the block that holds tokens after the given parent, or nil.
func (x *index) find(parent uint64, tokens []int32) *block {
	b := x.blocks[x.hash(parent, tokens)]
	for b != nil && (b.parent != parent || !slices.Equal(b.tokens, tokens)) {
		b = b.next
	}
	return b
}

// add makes a block, which must not be there yet.
func (x *index) add(parent uint64, tokens []int32, full, window int32) *block {
	b := x.spare
	if b == nil {
		b = new(block)
	} else {
		x.spare = b.next
	}
	x.lastID++
	h := x.hash(parent, tokens)
	*b = block{
		id: x.lastID, parent: parent, hash: h, tokens: append(b.tokens[:0], tokens...),
		full: full, window: window, next: x.blocks[h],
	}
	x.blocks[h] = b
	return b
}

// remove forgets a block. Blocks after it cannot be found any more; their pages are evicted in their turn.
func (x *index) remove(b *block) {
	if first := x.blocks[b.hash]; first != b {
		for first.next != b {
			first = first.next
		}
		first.next = b.next
	} else if b.next != nil {
		x.blocks[b.hash] = b.next
	} else {
		delete(x.blocks, b.hash)
	}
	b.next, x.spare = x.spare, b
}
