package cuda

import (
	"errors"
	"strings"
	"testing"

	"hearth/internal/device"
	"hearth/internal/dtype"
)

// What is not served is refused with a reason, and before anything is allocated.
func TestExpertRefusals(t *testing.T) {
	mxfp4, nf4, split, transposed := expertSources[0], expertSources[3], expertSources[13], expertSources[14]
	c := testContexts(t)["sim"]
	for name, e := range map[string]struct {
		src       expertSource
		change    func(*device.Experts)
		want      string
		supported bool // another device would refuse it, too
	}{
		"format": {src: mxfp4, want: "experts in Q8_0 have no GPU kernel: convert the model to MXFP4, NF4 or BF16 experts", change: func(w *device.Experts) {
			for i := range w.Weight.Even {
				w.Weight.Even[i] = dtype.Plane{Format: dtype.Q8_0, Rows: 128, Cols: 64, Data: make([]byte, 128*64/32*34)}
			}
		}},
		"scale": {src: mxfp4, want: "an MXFP4 block has the scale byte 129", change: func(w *device.Experts) { w.Weight.Even[1].Scales[77] = 129 }},
		"block": {src: nf4, want: "blocks of 32 weights have no GPU kernel", change: func(w *device.Experts) {
			for i := range w.Weight.Even {
				w.Weight.Even[i].Quant = &dtype.Quant{Block: 32, Round: dtype.BF16, Absmax: make([]byte, 4*128*64/32)}
			}
		}},
		"blocks":    {src: nf4, want: "expert 1 has blocks of 128 weights, expert 0 of 64", supported: true, change: func(w *device.Experts) { w.Weight.Even[1].Quant.Block = 128 }},
		"mixture":   {src: nf4, want: "expert 1 is FP4 [128, 64], expert 0 is NF4 [128, 64]", supported: true, change: func(w *device.Experts) { w.Weight.Even[1].Format = dtype.FP4 }},
		"bias":      {src: nf4, want: "255 biases for 2 experts of 128 rows", supported: true, change: func(w *device.Experts) { w.Bias = w.Bias[1:] }},
		"short":     {src: nf4, want: "expert 1: NF4 plane [128, 64] has 4095 bytes of data, needs 4096", supported: true, change: func(w *device.Experts) { w.Weight.Even[1].Data = w.Weight.Even[1].Data[1:] }},
		"none":      {src: nf4, want: "0 even and 0 odd expert matrices", supported: true, change: func(w *device.Experts) { w.Weight = dtype.Stack{} }},
		"ragged":    {src: split, want: "2 even and 1 odd expert matrices", supported: true, change: func(w *device.Experts) { w.Weight.Odd = w.Weight.Odd[1:] }},
		"both ways": {src: transposed, want: "apart and transposed", change: func(w *device.Experts) { w.Weight.Odd = w.Weight.Even; w.Bias = append(w.Bias, w.Bias...) }},
		"size": {src: expertSources[12], want: "expert weights [128, 32], want multiples of 64", change: func(w *device.Experts) {
			for i := range w.Weight.Even {
				w.Weight.Even[i] = dtype.Plane{Format: dtype.BF16, Rows: 128, Cols: 32, Data: make([]byte, 2*128*32)}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newExpertTest(t, c, expertShape(64, 64, 2, 1))
			w := x.weights(e.src, 2, 128, 64, true)
			e.change(w)
			d, err := x.e.load(x.u, w, false)
			if err == nil {
				_, err = x.e.verify([]*expertWeight{&d})
			}
			if err == nil || !strings.Contains(err.Error(), e.want) {
				t.Fatalf("error %v, want %q", err, e.want)
			}
			if errors.Is(err, device.ErrNotSupported) == e.supported {
				t.Errorf("%v: wraps ErrNotSupported: %v", err, !e.supported)
			}
			if _, err := x.e.bytes(w, false); e.want[:3] != "an " && (err == nil || !strings.Contains(err.Error(), e.want)) {
				t.Errorf("planning gives error %v, want %q", err, e.want)
			}
		})
	}
}

// Experts larger than what is staged at once go to the device in pieces. Every packed byte is compared with that of a load
// in one piece.
func TestExpertPieces(t *testing.T) {
	c := testContexts(t)["sim"]
	for _, src := range sourcesHere() {
		x := newExpertTest(t, c, expertShape(128, 128, 2, 1))
		w := x.weights(src, 2, 256, 128, true)
		var all [][]byte
		for _, piece := range []int{pieceBytes, 1} {
			x.e.piece = piece
			d, err := x.e.load(x.u, w, false)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, x.get(d.data, (2*256/tileRows*2+chunksBehind)*d.format.chunkBytes()))
			if d.format == expertColumns {
				all[len(all)-1] = append(all[len(all)-1], x.get(d.scales, 4*2*4*128)...)
			}
		}
		if string(all[0]) != string(all[1]) {
			t.Errorf("%s: pieces differ from the whole", src.name)
		}
	}
}
