package testgpu

// Programmatic dependent launch: a kernel may begin while those before it still run. Here they run one after another all
// the same; what a thread touches before griddepcontrol.wait is checked. It may not store, nor load what a kernel has
// stored to since the last ordinary launch, that one included: none of these need be complete.

// LaunchOverlapping is Launch of a kernel that may begin before those launched before it are complete.
func (g *GPU) LaunchOverlapping(fn uint64, grid, blockDim [3]int, shared int, params []byte) int {
	return g.launch(fn, grid, blockDim, shared, params, true)
}

// follow tells a launch which ones may still run.
func (g *GPU) follow(l *launch, overlapping bool) {
	if now := max(trace(g.watched), 1); !overlapping || g.chain > now {
		g.chain = now
	}
	if overlapping {
		l.since = g.chain
	}
}

// gridDependency decodes griddepcontrol. That the next kernel may begin changes nothing here.
func (d *decoder) gridDependency(o opcode) error {
	what := o.take("wait", "launch_dependents")
	if what == "" || !o.done() {
		return d.unknown()
	}
	if what == "wait" {
		d.emit(inst{fn: execWaitForLaunches})
	}
	return nil
}

func execWaitForLaunches(w *warp, _ *inst) {
	w.early &^= w.mask
	w.block.launch.waited.Store(true)
}

// checkEarly fails if n bytes at off were stored by a launch that may still run.
func (w *warp) checkEarly(a *allocation, off, n, lane int) {
	l := w.block.launch
	traces := a.traces(off, n, false)
	for i := range traces {
		if from := traces[i].load(stampStrong) >> 52; from >= l.since && from < l.trace>>52 {
			w.fail(LaunchFailed, lane, "access of %d bytes before griddepcontrol.wait: a kernel before this one stored there and may still run", n)
		}
	}
}
