//go:build !linux

package checkpoint

import "os"

func adviseWillNeed([]byte) {}

func adviseDone(*os.File, []byte, int64) {}
