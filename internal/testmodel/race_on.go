//go:build race

package testmodel

// Race says that the race detector is on: computing is then ten to twenty times slower, so tests that compare numbers
// run a few cases only. Races do not depend on the layout of a checkpoint.
const Race = true
