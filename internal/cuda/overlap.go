package cuda

import (
	"bytes"
	"regexp"
)

// Programmatic dependent launch: a kernel of the row path begins while the one before it still runs, loads what does not
// depend on that, and waits (kernels/overlap.cuh). It needs compute capability 9.0 and PTX 7.8. There is one text of the
// kernels all the same: what is special are two comments in it, which become instructions here.

const (
	overlapMajor    = 9
	overlapDriver   = 12030 // CUDA 12.3: such launches can be captured
	overlapCarveout = 50    // per cent
)

var (
	overlapMark = []byte("// griddepcontrol.")
	overlapWait = regexp.MustCompile(`(?m)^\s*griddepcontrol\.wait;`)
)

// overlaps says whether card and driver can.
func (d *driver) overlaps(info *deviceInfo) bool {
	v, s := d.version()
	return info.major >= overlapMajor && d.launchOverlapping != nil && s == success && v >= overlapDriver
}

// ptx is a built-in file as this card gets it.
func (c *context) ptx(file string) ([]byte, error) {
	text, err := ptxFiles.ReadFile(file)
	if err != nil || !c.overlap || !bytes.Contains(text, overlapMark) {
		return text, err
	}
	for _, change := range [][2]string{
		{"\n.version 7.0\n", "\n.version 7.8\n"}, {"\n.target sm_80\n", "\n.target sm_90\n"}, {string(overlapMark), "griddepcontrol."},
	} {
		text = bytes.ReplaceAll(text, []byte(change[0]), []byte(change[1]))
	}
	return text, nil
}
