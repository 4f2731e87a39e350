package cuda

import "slices"

// blockTable is one kind of block tables, [slots, width], with a copy of what the GPU holds: only entries that changed
// travel.
type blockTable struct {
	width  int
	shadow []int32
	ptr    devptr
}

const (
	unknownPage = -2 // the GPU's memory is not initialised
	// A change that spans more entries than this is copied as a run; shorter ones ride in the step's block, as pairs.
	pairSpan = 32
)

func newBlockTable(slots, width int) blockTable {
	t := blockTable{width: width, shadow: make([]int32, slots*width)}
	for i := range t.shadow {
		t.shadow[i] = unknownPage
	}
	return t
}

func (t *blockTable) row(slot int) []int32 { return t.shadow[slot*t.width : (slot+1)*t.width] }

// update makes a slot hold pages. Single entries are appended to pairs as {index, page}; a longer run is given to copy,
// with the index where it belongs.
func (t *blockTable) update(slot int, pages, pairs []int32, copy func(at int, run []int32)) []int32 {
	row := t.row(slot)[:len(pages)]
	if slices.Equal(row, pages) {
		return pairs
	}
	first, last := 0, len(pages)-1
	for row[first] == pages[first] {
		first++
	}
	for row[last] == pages[last] {
		last--
	}
	at := slot*t.width + first
	if last-first >= pairSpan {
		copy(at, pages[first:last+1])
	} else {
		for i, p := range pages[first : last+1] {
			if row[first+i] != p {
				pairs = append(pairs, int32(at+i), p)
			}
		}
	}
	for i := first; i <= last; i++ {
		row[i] = pages[i]
	}
	return pairs
}

// forget is for a step that failed: what the GPU holds is not known.
func (t *blockTable) forget() {
	for i := range t.shadow {
		t.shadow[i] = unknownPage
	}
}
