//go:build !amd64 || noasm

package cpu

// tileScratch and batchScratch are what no level here needs.
type (
	tileScratch  struct{}
	batchScratch struct{}
)

func newTileScratch(int) *tileScratch { return nil }
