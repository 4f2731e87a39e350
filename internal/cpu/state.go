package cpu

// LevelState says whether this processor can use a level of kernels.
type LevelState struct {
	Name, Title string // "avx2", "AVX2"
	Err         error  // why it cannot be used; nil if it can
	Chosen      bool   // by this device
}

// Levels tells of every level that this build has for the processor's family, the best last.
func (d *Device) Levels() []LevelState {
	var states []LevelState
	for _, l := range levels() {
		states = append(states, LevelState{Name: l.name, Title: l.title, Err: l.usable(), Chosen: l.name == d.level.name})
	}
	return states
}

// Threads is how many the device computes with.
func (d *Device) Threads() int { return d.threads }
