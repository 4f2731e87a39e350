package cpu

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// systemMemory reads the machine's memory in bytes: all of it, and what a new process may take without swapping. A
// control group's limit counts where there is one, since the kernel kills at that line and not at the machine's.
func systemMemory() (total, free int64) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		name, rest, _ := strings.Cut(sc.Text(), ":")
		kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		switch name {
		case "MemTotal":
			total = kb << 10
		case "MemAvailable":
			free = kb << 10
		}
	}
	if limit, used, ok := groupMemory(); ok && limit < total {
		total, free = limit, min(free, limit-used)
	}
	return total, free
}

// groupMemory reads the limit and use of the process's control group (version 2).
func groupMemory() (limit, used int64, ok bool) {
	read := func(name string) (int64, bool) {
		b, err := os.ReadFile("/sys/fs/cgroup/" + name)
		if err != nil {
			return 0, false
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		return n, err == nil
	}
	limit, ok = read("memory.max")
	if !ok {
		return 0, 0, false
	}
	used, ok = read("memory.current")
	return limit, used, ok
}
