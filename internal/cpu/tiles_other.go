//go:build !amd64 || noasm

package cpu

// tileScratch is what no level here needs.
type tileScratch struct{}

func newTileScratch(int) *tileScratch { return nil }
