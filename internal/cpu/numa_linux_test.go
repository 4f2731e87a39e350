package cpu

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCPUList(t *testing.T) {
	for in, want := range map[string][]int{
		"0\n": {0}, "0-2,5,7-8": {0, 1, 2, 5, 7, 8}, "": nil, "3-1": nil, "a": nil, "1-": nil, "0-99999": nil,
	} {
		if diff := cmp.Diff(want, cpuList(in)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", in, diff)
		}
	}
}

// Nodes without a processor that the process may use do not count: of their memory nothing is near.
func TestNodes(t *testing.T) {
	dir := t.TempDir()
	for name, list := range map[string]string{"node0": "0-3", "node1": "4-7", "node2": "", "node3": "8"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "cpulist"), []byte(list+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := nodesUnder(dir, func(cpu int) bool { return cpu != 2 && cpu < 8 })
	if diff := cmp.Diff([][]int{{0, 1, 3}, {4, 5, 6, 7}}, got); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}
