//go:build !linux && !windows

package cuda

import (
	"fmt"
	"runtime"

	"hearth/internal/device"
)

func loadDriver() (*driver, error) {
	return nil, device.Refuse(fmt.Errorf("%w: NVIDIA has none for %s", errNoDriver, runtime.GOOS))
}
