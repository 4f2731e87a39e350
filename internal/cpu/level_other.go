//go:build !(amd64 || arm64) || noasm

package cpu

// levels lists what can run here, the oracle first, the best last.
func levels() []level { return []level{portableLevel()} }
