package cuda

import (
	"fmt"
	"os"
	"testing"
)

// TestMain holds the GPU's context open over all tests, where there is a GPU: making one takes longer than most tests.
func TestMain(m *testing.M) {
	d, err := loadDriver()
	if err == nil {
		if dev, _, err := d.inspect(0); err == nil {
			if _, s := d.retain(dev); s != success {
				fmt.Fprintln(os.Stderr, d.check("cuDevicePrimaryCtxRetain", s))
			}
		}
	}
	os.Exit(m.Run())
}
