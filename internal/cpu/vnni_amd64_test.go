//go:build !noasm

package cpu

import (
	"slices"
	"testing"
)

// The lanes and their sums are AVX2's, so the results are too.
func TestVNNIGivesTheBitsOfAVX2(t *testing.T) {
	l := vnniLevel()
	if l.missing != "" {
		t.Skipf("this processor lacks %s", l.missing)
	}
	for _, f := range integerFormats() {
		c := newChecker(&l.kernels, uint64(f))
		for _, cols := range []int{64, 192, 1088} {
			for r := 1; r <= tileRows; r += 3 {
				p := c.plane(f, r, cols, 1)
				x := c.rounded(15, cols)
				avx2Int8(c.w, x, nil, 15, &p, 0, r)
				want := slices.Clone(c.w.y[:15*tileRows])
				vnniInt8(c.w, x, nil, 15, &p, 0, r)
				for i, v := range want {
					if got := c.w.y[i]; i%tileRows < r && got != v {
						t.Fatalf("%v [%d, %d], result %d: %v, AVX2 gives %v", f, r, cols, i, got, v)
					}
				}
			}
		}
	}
}
