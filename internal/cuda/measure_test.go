package cuda

import (
	"math"
	"testing"
	"time"

	"hearth/internal/device"
	"hearth/internal/testgpu"
)

// Figures differ with the card; that the kernels run and that rates are numbers does not.
func TestMeter(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		for name, measure := range map[string]func() (float64, error){
			"reads":      func() (float64, error) { return c.readBandwidth(3<<18+16, 1) },
			"multiplies": func() (float64, error) { return c.arithmetic(2, 1) },
		} {
			if rate, err := measure(); err != nil || !(rate > 0) || math.IsInf(rate, 0) {
				t.Errorf("%s %v a second, error %v", name, rate, err)
			}
		}
	})
}

func TestBestFails(t *testing.T) {
	m, c := simContext(t, testgpu.Config{})
	m.failAfter("cuLaunchKernel", 2, outOfResources)
	if _, err := c.arithmetic(1, time.Hour); err == nil {
		t.Error("a failed pass was measured")
	}
}

// Words of the asked-for kind, other ones for each seed and place; the memory behind stays as it is.
func TestFill(t *testing.T) {
	const words = 4096
	eachContext(t, func(t *testing.T, c *context) {
		b, err := c.alloc(4*words+64, useKV)
		if err != nil {
			t.Fatal(err)
		}
		defer c.free(b)
		c.queue.set(b.ptr, 0xaa, b.size)
		read := func() []uint32 {
			got := make([]uint32, words+16)
			c.queue.download(bytesOf(got), b.ptr)
			if err := c.queue.sync(); err != nil {
				t.Fatal(err)
			}
			return got
		}
		seen := map[uint32]bool{}
		for seed := range uint32(2) {
			if err := c.fill(b.ptr, 4*words, seed, anyBits); err != nil {
				t.Fatal(err)
			}
			for _, w := range read()[:words] {
				seen[w] = true
			}
		}
		if len(seen) < 2*words-3 {
			t.Errorf("only %d of %d words differ", len(seen), 2*words)
		}
		if err := c.fill(b.ptr, 4*words, 5, bf16Pairs); err != nil {
			t.Fatal(err)
		}
		got := read()
		for i, w := range got[:words] {
			for _, half := range [2]uint32{w << 16, w >> 16 << 16} {
				if v := math.Abs(float64(math.Float32frombits(half))); !(v >= 1./8 && v < 1./2) {
					t.Fatalf("word %d, %#08x, is %v as BF16", i, w, v)
				}
			}
		}
		for i, w := range got[words:] {
			if w != 0xaaaaaaaa {
				t.Errorf("word %d behind the end is %#08x", i, w)
			}
		}
	})
}

// A layer's pages are filled to their ends, in either form.
func TestPrimeLayer(t *testing.T) {
	const pages = 3
	eachContext(t, func(t *testing.T, c *context) {
		s := &shape{}
		s.KVHeads, s.PageSize = 2, 16
		n := int64(pages * 2 * 16)
		for _, int8 := range []bool{false, true} {
			kv := &kvLayer{}
			sizes := map[*devptr]int64{&kv.k: 2 * headDim * n, &kv.v: 2 * headDim * n}
			if int8 {
				sizes = map[*devptr]int64{&kv.k: headDim * n, &kv.v: headDim * n, &kv.kScale: 4 * n, &kv.vScale: 4 * n}
			}
			for p, size := range sizes {
				b, err := c.alloc(size, useKV)
				if err != nil {
					t.Fatal(err)
				}
				defer c.free(b)
				c.queue.zero(b.ptr, size)
				*p = b.ptr
			}
			if err := c.prime(s, kv, pages, 1); err != nil {
				t.Fatal(err)
			}
			for p, size := range sizes {
				got := make([]uint32, size/4)
				c.queue.download(bytesOf(got), *p)
				if err := c.queue.sync(); err != nil {
					t.Fatal(err)
				}
				if got[0] == 0 || got[len(got)-1] == 0 || got[0] == got[1] && *p != kv.kScale && *p != kv.vScale {
					t.Errorf("int8 %v: filled with %#x ... %#x", int8, got[:2], got[len(got)-1])
				}
			}
		}
	})
}

// After priming, a step far into the context sees ordinary keys in every layer.
func TestPrimeSession(t *testing.T) {
	for _, int8 := range []bool{false, true} {
		_, c := simContext(t, testgpu.Config{})
		m, _ := loadOn(t, &Device{c: c, options: Options{Int8KV: int8}}, "tiny-a/hf-mxfp4")
		if err := m.Prime(1); err != nil {
			t.Fatal(err)
		}
		table := []int32{4, 0, 3, 7, 9, 11}
		b := &device.Batch{
			Tokens: []int32{5}, Positions: []int32{90}, Seqs: []device.Seq{{Count: 1, Full: table, Window: table}},
			Logits: []device.LogitRow{{Target: 7, Top: 2, Sample: &device.Sampling{}}},
		}
		out := make([]device.Output, 1)
		if err := m.Step(b, out); err != nil {
			t.Fatal(err)
		}
		if p := out[0]; p.Err != nil || !(p.LogProb < 0) || p.Top[0].ID != p.Token {
			t.Errorf("int8 %v: %+v", int8, p)
		}
	}
}
