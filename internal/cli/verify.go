package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"hearth/internal/checkpoint"
	"hearth/internal/model"
)

// errFindings ends inspect --verify with a failure after its report.
var errFindings = errors.New("the checkpoint has values that no sound one has")

// verifyReport is what reading every value showed.
type verifyReport struct {
	Weights   int               `json:"weights"`
	Bytes     int64             `json:"bytes"`
	Findings  []string          `json:"findings"`
	Checksums map[string]string `json:"sha256,omitempty"`
}

// verifyValues reads every value of the checkpoint, with progress on w.
func verifyValues(c *checkpoint.Checkpoint, checksums bool, w io.Writer) *verifyReport {
	p := newProgress(w, "verifying", c.Size(), false)
	found := c.Verify(func(done, _ int64) { p.set(done) })
	p.finish()
	r := &verifyReport{Weights: found.Weights, Bytes: found.Bytes, Findings: []string{}}
	for _, f := range found.Findings {
		r.Findings = append(r.Findings, f.String())
	}
	if !checksums {
		return r
	}
	r.Checksums = map[string]string{}
	p = newProgress(w, "hashing", c.Size(), false)
	var done int64
	for _, t := range c.Tensors() {
		if sum, ok := c.SHA256(t.Name); ok {
			r.Checksums[t.Name] = hex.EncodeToString(sum[:])
		}
		done += t.Bytes
		p.set(done)
	}
	p.finish()
	return r
}

func (v *verifyReport) print(w io.Writer, tensors []checkpoint.TensorInfo) {
	p := &printer{w: w, width: 10}
	p.line("verified", "%d weights, %s: %d findings", v.Weights, model.Bytes(v.Bytes), len(v.Findings))
	for _, f := range v.Findings {
		p.line("", "%s", f)
	}
	if len(v.Findings) > 0 {
		p.line("", "fetch the named files again and compare their checksums; if they are as published, do not serve this model")
	}
	if v.Checksums != nil {
		for _, t := range tensors {
			fmt.Fprintf(w, "%s  %s\n", v.Checksums[t.Name], t.Name)
		}
	}
}
