package testgpu

import (
	"slices"
	"strings"
	"testing"
)

// bug is a kernel's mistake: the result of its launch and words of its error, of which | separates alternatives.
type bug struct {
	kernel string
	rc     int
	want   string
}

func bugs() []bug {
	return []bug{
		{"readAfterWrite", LaunchFailed, "race on shared byte|nobody has written (yet: is a barrier missing?)"},
		{"writeAfterRead", LaunchFailed, "race on shared byte|nobody has written (yet"},
		{"writeAfterBroadcast", LaunchFailed, "race on shared byte 0: "},
		{"writeAfterWrite", LaunchFailed, "write after write with no barrier between it and thread"},
		{"withinWarp", LaunchFailed, "read after write with no warp synchronisation between it and thread"},
		{"halves", LaunchFailed, "race on shared byte|nobody has written (yet"},
		{"sharedUnwritten", LaunchFailed, "which nobody has written"},
		{"sharedOutside", IllegalAddress, "access of 4 bytes at offset 256 of 256 bytes of shared memory"},
		{"sharedMisaligned", MisalignedAddress, "access of 16 bytes at shared offset 8 is not aligned"},
		{"globalOutside", IllegalAddress, "0 bytes past an allocation of 1024 bytes"},
		{"globalUnwritten", LaunchFailed, "byte 0 was never written"},
		{"globalMisaligned", MisalignedAddress, "is not aligned"},
		{"copyWithoutWait", LaunchFailed, "while an asynchronous copy to it is under way (cp.async.wait missing)"},
		{"copyWithoutBarrier", LaunchFailed, "race on shared byte|nobody has written (yet|under way"},
		{"copyWrongGroup", LaunchFailed, "while an asynchronous copy to it is under way"},
		{"divergedBarrier", LaunchFailed, "deadlock by divergence"},
		{"exitedBeforeBarrier", LaunchFailed, "have exited before this barrier"},
		{"barrierMissed", LaunchFailed, "deadlock: 32 threads wait at barrier 0, which warp 1 does not reach"},
		{"divergedShuffle", LaunchFailed, "deadlock by divergence"},
		{"shuffleFromAbsent", LaunchFailed, "shuffle reads lane 16, which does not take part"},
		{"spin", LaunchTimeout, "instructions: it spins"},
		{"globalRace", LaunchFailed, "race on byte|was never written"},
		{"divideByZero", LaunchFailed, "integer division by zero"},
	}
}

// Every mistake is found, and named so that its author knows what to do; without it the same kernel passes.
func TestBugs(t *testing.T) {
	for _, c := range bugs() {
		t.Run(c.kernel, func(t *testing.T) {
			for name, config := range variants() {
				config.MaxSteps = 100_000
				r := newRig(t, config, "testdata/bugs.ptx")
				const words = 256
				out := r.alloc(4 * words)
				prepare := func() {
					// What a kernel reads before it writes: the copies' source. globalOutside starts at the last 64 words.
					if strings.HasPrefix(c.kernel, "copy") || c.kernel == "spin" {
						r.Set32(out, 7, words)
					}
				}
				threads := 64
				if c.kernel == "withinWarp" || strings.Contains(c.kernel, "huffle") {
					threads = 32
				}
				at := out
				if c.kernel == "globalOutside" {
					at += 4 * (words - 64)
				}
				prepare()
				r.run(c.kernel, [3]int{1, 1, 1}, [3]int{threads, 1, 1}, 0, at, int32(0))
				if c.kernel == "globalUnwritten" {
					r.Undefine(out, 4*words)
				}
				prepare()
				if rc := r.try(c.kernel, [3]int{1, 1, 1}, [3]int{threads, 1, 1}, 0, at, int32(1)); rc != c.rc || !containsAny(r.LastError(), c.want) {
					t.Errorf("%s: %d %s\nwant %d %s", name, rc, r.LastError(), c.rc, c.want)
				}
				if rc := r.Set8(out, 0, 1); rc != c.rc {
					t.Errorf("the error is not sticky: %d", rc)
				}
			}
		})
	}
}

// containsAny reports whether s contains one of the words that | separates.
func containsAny(s, words string) bool {
	return slices.ContainsFunc(strings.Split(words, "|"), func(w string) bool { return strings.Contains(s, w) })
}

// Blocks may share global memory behind a fence and an atomic access on either side, and in no other way. One worker:
// with more, which of the two blocks comes last is not known.
func TestBlockRaces(t *testing.T) {
	for kind, want := range []string{"", "race on byte", "race on byte", "race on byte"} {
		r := newRig(t, Config{Workers: 1}, "testdata/bugs.ptx")
		rc := r.try("blockRace", [3]int{2, 1, 1}, [3]int{64, 1, 1}, 0, put(r, make([]uint32, 128)), put(r, []uint32{0}), r.alloc(256), int32(kind))
		if (rc == Success) != (want == "") || !strings.Contains(r.LastError(), want) {
			t.Errorf("kind %d: %d %s", kind, rc, r.LastError())
		}
	}
	for bug, want := range []int{Success, LaunchFailed} {
		r := newRig(t, Config{Workers: 1}, "testdata/bugs.ptx")
		if rc := r.try("halvesOfBlocks", [3]int{2, 1, 1}, [3]int{64, 1, 1}, 0, r.alloc(256), int32(bug)); rc != want {
			t.Errorf("bug %d: %d %s", bug, rc, r.LastError())
		}
	}
}

func TestFreedMemory(t *testing.T) {
	r := newRig(t, Config{}, "testdata/bugs.ptx")
	out, other := r.alloc(256), r.alloc(256)
	r.Set32(other, 1, 64)
	r.run("freed", [3]int{1, 1, 1}, [3]int{64, 1, 1}, 0, out, other)
	if rc := r.MemFree(other); rc != Success {
		t.Fatal(rc)
	}
	if rc := r.try("freed", [3]int{1, 1, 1}, [3]int{64, 1, 1}, 0, out, other); rc != IllegalAddress {
		t.Errorf("%d %s", rc, r.LastError())
	}
	if n, bytes := r.Live(); n != 1 || bytes != 256 {
		t.Errorf("%d allocations of %d bytes are live", n, bytes)
	}
}
