//go:build !linux && !windows

package cuda

import (
	"fmt"
	"runtime"

	"hearth/internal/device"
)

func loadDriver() (*driver, error) {
	return nil, fmt.Errorf("%w: NVIDIA has none for %s: %w", errNoDriver, runtime.GOOS, device.ErrNotSupported)
}
