package cpu

import (
	"fmt"
	"testing"
)

// Every tile of every active expert is an item's exactly once. On one node an expert's items follow one another; on two
// the first half of them has the first half of each expert's rows.
func TestExpertSpans(t *testing.T) {
	for _, c := range []struct{ threads, nodes, rows int }{{1, 1, 40}, {2, 1, 5760}, {2, 2, 5760}, {4, 2, 2880}, {3, 1, 2881}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			s := &session{pool: newTestPool(t, c.threads, make([][]int, c.nodes)...)}
			s.groups.active = []int32{1, 4, 5, 30}
			spans := expertSpans{}
			n := spans.cut(s, c.rows)
			type tile struct {
				expert int32
				row    int
			}
			seen := map[tile]bool{}
			last, lastEnd := int32(-1), 0
			for i := range n {
				e, first, end := spans.item(i, c.rows)
				if c.nodes == 1 && (e < last || e == last && first != lastEnd) {
					t.Errorf("item %d is expert %d from row %d on, the one before it expert %d up to %d", i, e, first, last, lastEnd)
				}
				if c.nodes > 1 && i < n/2 && end > c.rows/2+spans.span*tileRows {
					t.Errorf("item %d of %d has rows up to %d of %d", i, n, end, c.rows)
				}
				last, lastEnd = e, end
				for row := first; row < end; row += tileRows {
					if at := (tile{e, row}); seen[at] {
						t.Errorf("row %d of expert %d is in two items", row, e)
					} else {
						seen[at] = true
					}
				}
			}
			if want := len(s.groups.active) * tiles(c.rows); len(seen) != want {
				t.Errorf("%d tiles, want %d", len(seen), want)
			}
		})
	}
}
