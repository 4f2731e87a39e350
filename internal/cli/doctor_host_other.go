//go:build !(linux || darwin)

package cli

import "os"

// processorName is what the system calls the processor; "" where it does not say.
func processorName() string { return os.Getenv("PROCESSOR_IDENTIFIER") }

// systemRelease is not asked for here.
func systemRelease() string { return "" }
