package cuda

import (
	"debug/elf"
	"os"
	"runtime/debug"
	"slices"
	"testing"
)

// What README says of containers: opening the driver at run time makes a program without cgo need the C library and its
// loader, in any version, and nothing else.
func TestWhatTheProgramNeeds(t *testing.T) {
	info, ok := debug.ReadBuildInfo()
	if !ok || !slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"}) {
		t.Skip("built with cgo, which Hearth is not")
	}
	f, err := elf.Open("/proc/self/exe")
	if os.IsNotExist(err) {
		t.Skip("/proc is not mounted")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(libraries)
	if want := []string{"libc.so.6", "libdl.so.2", "libpthread.so.0"}; !slices.Equal(libraries, want) {
		t.Errorf("needs %q, want %q", libraries, want)
	}
	symbols, err := f.ImportedSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Version != "" {
			t.Errorf("%s is needed in version %s", s.Name, s.Version)
		}
	}
	if f.Section(".interp") == nil || len(symbols) == 0 {
		t.Error("no loader is needed: README's word on empty images is out of date")
	}
}
