package cpu

import (
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// numaNodes lists the processors of each NUMA node that this process may use; fewer than two where all memory is
// equally near.
func numaNodes() [][]int {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil
	}
	return nodesUnder("/sys/devices/system/node", allowed.IsSet)
}

func nodesUnder(dir string, allowed func(cpu int) bool) [][]int {
	var nodes [][]int
	lists, _ := filepath.Glob(filepath.Join(dir, "node[0-9]*", "cpulist")) // the pattern is well formed
	for _, name := range lists {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil
		}
		cpus := slices.DeleteFunc(cpuList(string(b)), func(cpu int) bool { return !allowed(cpu) })
		if len(cpus) > 0 {
			nodes = append(nodes, cpus)
		}
	}
	return nodes
}

// pin keeps the calling thread on the given processors. It is a matter of speed only: where the system refuses, work
// goes on anywhere.
func pin(cpus []int) {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	_ = unix.SchedSetaffinity(0, &set)
}
