package cuda

import (
	"fmt"

	"golang.org/x/sys/windows"

	"hearth/internal/device"
)

// loadDriver opens the driver's library from the system's folder, and from nowhere else.
func loadDriver() (*driver, error) {
	lib, err := windows.LoadLibraryEx("nvcuda.dll", 0, windows.LOAD_LIBRARY_SEARCH_SYSTEM32)
	if err != nil {
		return nil, device.Refuse(fmt.Errorf("%w (nvcuda.dll: %v): install one, 452 or newer", errNoDriver, err))
	}
	d, err := bind(func(symbol string) (uintptr, error) { return windows.GetProcAddress(lib, symbol) })
	if err != nil {
		return nil, device.Refuse(fmt.Errorf("nvcuda.dll: %w", err))
	}
	return d, nil
}
