//go:build !linux

package checkpoint

func adviseWillNeed([]byte) {}

func adviseDone([]byte) {}
