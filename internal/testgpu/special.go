package testgpu

// specialRegister is one that the hardware sets; bits is 32 or 64.
type specialRegister struct {
	bits  int
	value func(w *warp, lane int) uint64
}

var specialRegisters = buildSpecialRegisters()

func buildSpecialRegisters() map[string]specialRegister {
	all := map[string]specialRegister{}
	add := func(name string, value func(w *warp, lane int) uint64) { all[name] = specialRegister{32, value} }
	for i, axis := range []string{".x", ".y", ".z"} {
		add("%ntid"+axis, func(w *warp, _ int) uint64 { return uint64(w.block.launch.block[i]) })
		add("%ctaid"+axis, func(w *warp, _ int) uint64 { return uint64(w.block.id[i]) })
		add("%nctaid"+axis, func(w *warp, _ int) uint64 { return uint64(w.block.launch.grid[i]) })
	}
	add("%tid.x", func(w *warp, lane int) uint64 { return uint64(w.thread(lane) % w.block.launch.block[0]) })
	add("%tid.y", func(w *warp, lane int) uint64 {
		return uint64(w.thread(lane) / w.block.launch.block[0] % w.block.launch.block[1])
	})
	add("%tid.z", func(w *warp, lane int) uint64 {
		return uint64(w.thread(lane) / (w.block.launch.block[0] * w.block.launch.block[1]))
	})
	add("%laneid", func(_ *warp, lane int) uint64 { return uint64(lane) })
	add("%warpid", func(w *warp, _ int) uint64 { return uint64(w.index) })
	add("%nwarpid", func(w *warp, _ int) uint64 { return uint64(len(w.block.warps)) })
	add("%smid", func(w *warp, _ int) uint64 { return uint64(w.block.serial % w.block.launch.gpu.config.SMs) })
	add("%nsmid", func(w *warp, _ int) uint64 { return uint64(w.block.launch.gpu.config.SMs) })
	add("%lanemask_eq", func(_ *warp, lane int) uint64 { return 1 << lane })
	add("%lanemask_lt", func(_ *warp, lane int) uint64 { return 1<<lane - 1 })
	add("%lanemask_le", func(_ *warp, lane int) uint64 { return 2<<lane - 1 })
	add("%lanemask_ge", func(_ *warp, lane int) uint64 { return fullMask &^ (1<<lane - 1) })
	add("%lanemask_gt", func(_ *warp, lane int) uint64 { return fullMask &^ (2<<lane - 1) })
	add("%dynamic_smem_size", func(w *warp, _ int) uint64 { return uint64(w.block.launch.dynamic) })
	add("%total_smem_size", func(w *warp, _ int) uint64 { return uint64(len(w.block.shared.data)) })
	clock := func(w *warp, _ int) uint64 { return uint64(w.block.steps) } // advances when another warp gets its turn
	add("%clock", clock)
	all["%clock64"] = specialRegister{64, clock}
	all["%globaltimer"] = specialRegister{64, clock}
	all["%gridid"] = specialRegister{64, func(w *warp, _ int) uint64 { return w.block.launch.gpu.launches }}
	return all
}

// thread is a lane's number in its block.
func (w *warp) thread(lane int) int { return w.index*32 + lane }

func execSpecial(w *warp, in *inst) {
	value := in.more.special.value
	if in.out == out64 {
		for l, d := 0, w.dst64(in); l < 32; l++ {
			d[l] = value(w, l)
		}
		return
	}
	for l, d := 0, w.dst32(in); l < 32; l++ {
		d[l] = uint32(value(w, l))
	}
}
