//go:build !linux && !noasm

package cpu

// missingTiles: AMX is used where it was tried.
func missingTiles() string { return "Linux" }
