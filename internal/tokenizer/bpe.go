package tokenizer

// shortPiece is the length in bytes up to which merging by linear search on the
// stack is faster than a heap. Nearly every word is shorter.
const shortPiece = 64

// encodePiece appends the tokens of one piece of the splitter. A piece that is a
// token is that token, whatever its merges would give; otherwise the adjacent pair
// whose text has the lowest rank is merged, the leftmost on a tie, until no pair's
// text is a token.
func (v *vocab) encodePiece(dst []int32, piece string) []int32 {
	if id := v.rank(piece); id != noToken {
		return append(dst, id)
	}
	if len(piece) <= shortPiece {
		return v.mergeShort(dst, piece)
	}
	return v.mergeLong(dst, piece)
}

// mergeShort merges in O(n²) steps without allocating.
func (v *vocab) mergeShort(dst []int32, piece string) []int32 {
	// A part is a token of the piece so far; pair is the rank of its text together
	// with the next part's. The one after the last only marks the end.
	type part struct {
		start    int
		id, pair int32
	}
	var space [shortPiece + 1]part
	parts := space[:len(piece)+1]
	for i := range len(piece) {
		parts[i] = part{start: i, id: v.single[piece[i]], pair: noToken}
		if i+1 < len(piece) {
			parts[i].pair = v.rank(piece[i : i+2])
		}
	}
	parts[len(piece)].start = len(piece)
	pairRank := func(i int) int32 {
		if i+2 >= len(parts) {
			return noToken
		}
		return v.rank(piece[parts[i].start:parts[i+2].start])
	}
	for {
		best, at := int32(noToken), 0
		for i := range parts[:len(parts)-1] {
			if parts[i].pair < best {
				best, at = parts[i].pair, i
			}
		}
		if best == noToken {
			break
		}
		parts[at].id = best
		parts = append(parts[:at+1], parts[at+2:]...)
		parts[at].pair = pairRank(at)
		if at > 0 {
			parts[at-1].pair = pairRank(at - 1)
		}
	}
	for _, p := range parts[:len(parts)-1] {
		dst = append(dst, p.id)
	}
	return dst
}

// mergeLong merges in O(n log n) steps: parts form a linked list, pairs a heap.
func (v *vocab) mergeLong(dst []int32, piece string) []int32 {
	n := uint32(len(piece))
	// parts is indexed by the first byte of a part. Part n is the end. pair is the
	// rank of the part's text together with the next part's.
	type part struct {
		prev, next uint32
		id, pair   int32
	}
	parts := make([]part, n+1)
	pairs := make(pairHeap, 0, n)
	for i := range n {
		parts[i] = part{prev: i - 1, next: i + 1, id: v.single[piece[i]], pair: noToken}
		if i+1 < n {
			parts[i].pair = v.rank(piece[i : i+2])
		}
		if parts[i].pair != noToken {
			pairs = append(pairs, pairKey(parts[i].pair, i))
		}
	}
	pairs.init()

	// update ranks the pair that begins at part i anew.
	update := func(i uint32) {
		parts[i].pair = noToken
		if mid := parts[i].next; mid < n {
			parts[i].pair = v.rank(piece[i:parts[mid].next])
		}
		if parts[i].pair != noToken {
			pairs.push(pairKey(parts[i].pair, i))
		}
	}
	for len(pairs) > 0 {
		key := pairs.pop()
		rank, i := int32(key>>32), uint32(key)
		// A key is stale if its pair has changed since: texts only grow, so a pair
		// never has the same rank again.
		if parts[i].pair != rank {
			continue
		}
		gone := parts[i].next
		parts[i].id = rank
		parts[i].next = parts[gone].next
		parts[parts[i].next].prev = i
		parts[gone].pair = noToken
		update(i)
		if i > 0 {
			update(parts[i].prev)
		}
	}
	for i := uint32(0); i < n; i = parts[i].next {
		dst = append(dst, parts[i].id)
	}
	return dst
}

// pairKey orders pairs by rank, then from left to right.
func pairKey(rank int32, start uint32) uint64 { return uint64(rank)<<32 | uint64(start) }

// pairHeap is a binary heap with the smallest key first. container/heap would box
// every key.
type pairHeap []uint64

func (h pairHeap) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *pairHeap) push(key uint64) {
	*h = append(*h, key)
	s := *h
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if s[up] <= s[i] {
			return
		}
		s[up], s[i] = s[i], s[up]
		i = up
	}
}

func (h *pairHeap) pop() uint64 {
	s := *h
	least := s[0]
	s[0] = s[len(s)-1]
	*h = s[:len(s)-1]
	h.down(0)
	return least
}

func (h pairHeap) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1] < h[child] {
			child++
		}
		if h[i] <= h[child] {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
