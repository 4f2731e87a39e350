//go:build !linux

package cpu

func adviseWillNeed([]byte) {}

func adviseHuge([]float32) {}
