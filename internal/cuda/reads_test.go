package cuda

import (
	"testing"

	"hearth/internal/testgpu"
)

// What steps read is counted in the forms that weights, keys and values have on the GPU, whatever the file holds.
func TestReads(t *testing.T) {
	const ( // tiny-a
		layers, hidden, inner, q, kv, experts, vocab = 3, 192, 64, 4 * 64, 2 * 64, 8, 640
		attention                                    = layers * (hidden*(q+2*kv) + q*hidden)
		floats                                       = layers * (q + 2*kv + hidden + 2*hidden + 4 + experts*hidden + experts) // biases, norms, sinks, router
	)
	for _, x := range []struct {
		folder                   string
		options                  Options
		denseBits, expertBits, k float64
	}{
		{"hf-mxfp4", Options{}, 16, 4.25, 16},
		{"hf-mxfp4", Options{Int8Dense: true, Int8KV: true}, 8.5, 4.25, 8.5},
		{"gguf-q8_0", Options{}, 8.5, 4.25, 16},
		{"unsloth-nf4", Options{}, 16, 4.5, 16},
		{"unsloth-nf4-dq", Options{}, 16, 4 + 8./64 + 32./(64*256), 16},
		{"hf-bf16", Options{}, 16, 16, 16},
	} {
		m, c := simContext(t, testgpu.Config{})
		m.idle = true
		loaded, _ := loadOn(t, &Device{c: c, options: x.options}, "tiny-a/"+x.folder)
		r := loaded.Reads()
		want := func(name string, got int64, bits float64, slack float64) {
			t.Helper()
			if d := float64(got) - bits/8; d < 0 || d > slack {
				t.Errorf("%s %+v: %s reads %d bytes, want %v and up to %v more", x.folder, x.options, name, got, bits/8, slack)
			}
		}
		want("attention", r.Dense, attention*x.denseBits+floats*32, 0)
		// Tables of codes, and two chunks that nothing lies in, belong to each projection.
		want("experts", r.Experts, layers*experts*(3*hidden*inner*x.expertBits+32*(2*inner+hidden)), layers*2*(2*2048+2*1024))
		want("head", r.Head, vocab*hidden*x.denseBits+32*hidden, 0)
		want("a key", r.Key, 2*kv*x.k, 0)
		if rowBits := float64(r.Row*8) / hidden; rowBits != 16 && rowBits != 8.5 {
			t.Errorf("%s: %v bits a value of the embedding", x.folder, rowBits)
		}
	}
}
