package testgpu

import (
	"os"
	"testing"
)

// Speed in lane-instructions a second, on one worker.
func BenchmarkKernels(b *testing.B) {
	for _, c := range []struct {
		name        string
		grid, block [3]int
		args        func(r *rig) []any
	}{
		{"saxpy", [3]int{16, 1, 1}, [3]int{256, 1, 1}, func(r *rig) []any {
			return []any{float32(2), put(r, make([]float32, 1<<16)), put(r, make([]float32, 1<<16)), int32(1 << 16)}
		}},
		{"reduce", [3]int{16, 1, 1}, [3]int{256, 1, 1}, func(r *rig) []any {
			return []any{put(r, make([]float32, 1<<16)), int32(1 << 16), r.alloc(64), put(r, []uint32{0}), r.alloc(4)}
		}},
		{"gemmNK", [3]int{4, 2, 1}, [3]int{128, 1, 1}, func(r *rig) []any {
			return []any{put(r, make([]uint16, 128*256)), put(r, make([]uint16, 128*256)), r.alloc(4 * 128 * 128), int32(128), int32(256)}
		}},
		{"diverge", [3]int{16, 1, 1}, [3]int{256, 1, 1}, func(r *rig) []any {
			in := make([]int32, 4096)
			for i := range in {
				in[i] = int32(i % 50)
			}
			return []any{put(r, in), r.alloc(4 * 4096), int32(4096)}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, Config{Workers: 1}, "testdata/kernels.ptx")
			args := c.args(r)
			b.ReportAllocs()
			for b.Loop() {
				r.run(c.name, c.grid, c.block, 0, args...)
			}
			b.ReportMetric(float64(r.Executed())*32/b.Elapsed().Seconds()/1e6, "Mlane-instr/s")
		})
	}
}

// Loading: parsing and decoding.
func BenchmarkModuleLoad(b *testing.B) {
	ptx, err := os.ReadFile("testdata/kernels.ptx")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(ptx)))
	b.ReportAllocs()
	for b.Loop() {
		if _, rc, log := New(Config{}).ModuleLoad(ptx); rc != Success {
			b.Fatal(log)
		}
	}
}
