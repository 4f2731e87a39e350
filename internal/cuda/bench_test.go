package cuda

import (
	"fmt"
	"testing"

	"hearth/internal/device"
)

// What the host spends on a step of 24 layers, with a driver that does nothing: enqueued kernel by kernel, which is also
// what capturing costs once a shape.
func BenchmarkHostStep(b *testing.B) {
	for _, tokens := range []int{1, 32} {
		b.Run(fmt.Sprint(tokens), func(b *testing.B) {
			spec, lim, _ := layersShape(false)
			spec.Layers, spec.Windows = 24, make([]int, 24)
			lim.MaxSeqs, lim.MaxLogits, lim.FullPages = 32, 32, 64
			info := deviceInfo{name: "none", major: 8, minor: 6, sms: 82, sharedMax: 99 << 10, memory: 24 << 30}
			c, err := openContext(countingDriver(&info), 0, nil)
			if err != nil {
				b.Fatal(err)
			}
			s, err := (&Device{c: c, options: Options{NoGraphs: true}}).NewSession(spec, lim)
			if err != nil {
				b.Fatal(err)
			}
			loadRandomInto(b, s, spec)
			batch := &device.Batch{}
			for i := range tokens {
				batch.Tokens, batch.Positions = append(batch.Tokens, 1), append(batch.Positions, 5)
				batch.Seqs = append(batch.Seqs, device.Seq{First: i, Count: 1, Full: []int32{int32(i)}, Window: []int32{int32(i % 20)}})
				batch.Logits = append(batch.Logits, device.LogitRow{Row: i, Target: -1, Sample: &device.Sampling{}})
			}
			out := make([]device.Output, tokens)
			b.ReportAllocs()
			for b.Loop() {
				step(b, s, &spec, batch, out)
			}
		})
	}
}
