package cuda

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"hearth/internal/device"
	"hearth/internal/testgpu"
)

// Weights are loaded while the driver still compiles what steps need: only kernels that pack weights are waited for.
func TestLoadingOverlapsCompiling(t *testing.T) {
	_, c := simContext(t, testgpu.Config{SMs: 6})
	loaded := make(chan struct{})
	link := c.d.link
	c.d.link = func(ctx uintptr, ptx []byte) ([]byte, string, status) {
		if !bytes.Contains(ptx, []byte("packMXFP4")) {
			<-loaded
		}
		return link(ctx, ptx)
	}
	c.modules.slots = make(chan struct{}, 64) // as on a machine with as many cores
	spec, lim, _ := layersShape(false)
	x, err := (&Device{c: c}).NewSession(spec, lim)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := randomModel{rand.New(rand.NewPCG(3, 9))}
	if err := x.LoadEmbedding(r.dense(spec.Vocab, spec.Hidden)); err != nil {
		t.Fatal(err)
	}
	for l := range spec.Layers {
		if err := x.LoadLayer(l, r.layer(&spec)); err != nil {
			t.Fatal(err)
		}
	}
	s := x.(*session)
	if err := c.queue.sync(); err != nil {
		t.Fatal(err)
	}
	if n, later := len(c.modules.loaded), len(c.modules.later); n != 1 || later < 20 {
		t.Errorf("%d modules were waited for, and %d kernels are still to come", n, later)
	}
	close(loaded)
	if err := x.LoadHead(r.floats(spec.Hidden, 1), r.dense(spec.Vocab, spec.Hidden)); err != nil {
		t.Fatal(err)
	}
	if len(c.modules.later) != 0 || len(c.modules.loaded) < 12 {
		t.Errorf("%d kernels are not ready, %d modules are loaded", len(c.modules.later), len(c.modules.loaded))
	}
	b := &device.Batch{
		Tokens: []int32{1}, Positions: []int32{0}, Seqs: []device.Seq{{Count: 1, Full: []int32{0}, Window: []int32{0}}},
		Logits: []device.LogitRow{{Target: -1, Sample: &device.Sampling{}}},
	}
	out := make([]device.Output, 1)
	step(t, s, &spec, b, out)
	if out[0].Err != nil || !(out[0].LogProb < 0) {
		t.Errorf("%+v", out[0])
	}
}
