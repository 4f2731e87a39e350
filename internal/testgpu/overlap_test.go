package testgpu

import (
	"strings"
	"testing"
)

// A kernel that may begin early sees what it waited for, and nothing else of the launches before it, however far back the
// last ordinary one lies.
func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		kind, between int32
		want          string
	}{
		{0, 0, ""}, {0, 2, ""},
		{1, 0, "stored there and may still run"}, {1, 2, "stored there and may still run"},
		{2, 0, "store before griddepcontrol.wait"},
		{3, 0, "does not wait for that"},
	} {
		for name, config := range variants() {
			r := newRig(t, config, "testdata/bugs.ptx")
			out := r.alloc(4 * 128)
			r.Set32(out, 7, 128)
			fn, rc := r.Function(r.mod, "follow")
			if rc != Success {
				t.Fatal(rc, r.LastError())
			}
			one, threads := [3]int{1, 1, 1}, [3]int{64, 1, 1}
			launch := func(kind int32) int {
				return r.LaunchOverlapping(fn, one, threads, 0, pack(out, kind))
			}
			// What the host wrote is there; from here on nothing need be complete.
			if rc := r.try("follow", one, threads, 0, out, int32(1)); rc != Success {
				t.Fatal(rc, r.LastError())
			}
			for range c.between {
				if rc := launch(0); rc != Success {
					t.Fatal(rc, r.LastError())
				}
			}
			rc = launch(c.kind)
			if (rc == Success) != (c.want == "") || !strings.Contains(r.LastError(), c.want) {
				t.Errorf("%s: kind %d after %d: %d %s, want %q", name, c.kind, c.between, rc, r.LastError(), c.want)
			}
		}
	}
}
