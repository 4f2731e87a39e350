package cli

import "golang.org/x/sys/unix"

// processorName is what the system calls the processor.
func processorName() string {
	name, _ := unix.Sysctl("machdep.cpu.brand_string")
	return name
}

// systemRelease is the kernel's release.
func systemRelease() string {
	release, _ := unix.Sysctl("kern.osrelease")
	return release
}
