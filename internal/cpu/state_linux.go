package cpu

// GroupMemory is the memory limit of the process's control group and its use, in bytes; ok is false without a limit.
func GroupMemory() (limit, used int64, ok bool) { return groupMemory() }
