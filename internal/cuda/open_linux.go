package cuda

import (
	"fmt"
	"os"
	"regexp"
	"runtime"

	"github.com/ebitengine/purego"

	"hearth/internal/device"
)

// loadDriver opens the driver's library: the system's, or that of the Windows host under WSL.
func loadDriver() (*driver, error) {
	runtime.LockOSThread() // the loader keeps its last error per thread
	defer runtime.UnlockOSThread()
	var first error
	for _, name := range []string{"libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"} {
		lib, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_GLOBAL)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		d, err := bind(func(symbol string) (uintptr, error) { return purego.Dlsym(lib, symbol) })
		if err != nil {
			return nil, device.Refuse(fmt.Errorf("%s: %w", name, err))
		}
		d.module = moduleVersion()
		return d, nil
	}
	return nil, device.Refuse(fmt.Errorf("%w (%v): install one, 450.36 or newer; in a container, pass the GPU in", errNoDriver, first))
}

var modulePattern = regexp.MustCompile(`Kernel Module\s+(?:for \S+\s+)?([0-9.]+)`)

// moduleVersion is the version that nvidia-smi shows; "" where the kernel does not tell.
func moduleVersion() string {
	b, err := os.ReadFile("/proc/driver/nvidia/version")
	if err != nil {
		return ""
	}
	if m := modulePattern.FindSubmatch(b); m != nil {
		return string(m[1])
	}
	return ""
}
