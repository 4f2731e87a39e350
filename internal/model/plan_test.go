package model

import (
	"math"
	"strings"
	"testing"

	"hearth/internal/checkpoint"
	"hearth/internal/device"
	"hearth/internal/dtype"
)

// b20 is the shape of gpt-oss-20b, as far as planning sees it.
func b20() *checkpoint.Config {
	c := &checkpoint.Config{Layers: 24, KVHeads: 8, HeadDim: 64, MaxPosition: 131072}
	for l := range c.Layers {
		c.Windows = append(c.Windows, []int{128, 0}[l%2])
	}
	return c
}

func TestKVPerToken(t *testing.T) {
	// spec/model.md 11: 2,048 bytes a token and layer in BF16, 12 full and 12 window layers.
	full, window := KVPerToken(b20(), dtype.BF16)
	if full != 12*2048 || window != 12*2048 {
		t.Errorf("full %d, window %d", full, window)
	}
	if full, _ := KVPerToken(b20(), dtype.F32); full != 24*2048 {
		t.Errorf("float32: %d", full)
	}
	if full, _ := KVPerToken(b20(), dtype.I8); full != 12*8*2*(64+4) {
		t.Errorf("int8 with its scales: %d", full)
	}
}

func TestPlan(t *testing.T) {
	// A page is 16*49,152 bytes in full layers; one sequence holds 41 window pages of the same size. So a budget of
	// 2 GiB leaves (2^31-41*786432)/786432 = 2,689 pages, 43,024 positions; 4 GiB 5,420 pages.
	info := device.Info{Name: "card", Memory: 24 << 30, KVFormat: dtype.F32}
	for _, c := range []struct {
		name    string
		free    int64
		request Request
		context int
		err     string // words in the error
		note    string
	}{
		{name: "whole context", free: 64 << 30, context: 131072},
		{name: "asked for less", free: 64 << 30, request: Request{MaxContext: 1024}, context: 1024},
		{name: "context cut to what fits", free: 8 << 30, context: 43024, note: "context limited to 43024 of 131072"},
		{name: "asked for more than fits", free: 8 << 30, request: Request{MaxContext: 131072}, err: "--max-model-len 43024 or --kv-cache-memory-bytes"},
		{name: "budget raised", free: 8 << 30, request: Request{MaxContext: 131072, KVBytes: 7 << 30}, context: 131072},
		{name: "longer than the model", free: 64 << 30, request: Request{MaxContext: 131073}, err: "past the 131072 positions"},
		{name: "nothing fits", free: 100 << 20, err: "is planned for it: use --kv-cache-memory-bytes"},
		{name: "nothing fits that was asked for", free: 100 << 20, request: Request{MaxContext: 4096}, err: "is planned for it: use --kv-cache-memory-bytes"},
		{name: "negative", free: 64 << 30, request: Request{MaxSeqs: -1}, err: "--max-num-seqs -1: want 1 or more"},
		{name: "negative page", free: 64 << 30, request: Request{PageSize: -16}, err: "--block-size -16: want 1 or more"},
		{name: "negative room", free: 64 << 30, request: Request{KVBytes: -1}, err: "cannot be negative"},
		{name: "no share", free: 64 << 30, request: Request{Fraction: math.NaN()}, err: "--gpu-memory-utilization NaN"},
		{name: "beside weights", free: 23 << 30, request: Request{Fixed: 14 << 30}, context: 131072},
		{name: "the context that weights leave", free: 18 << 30, request: Request{Fixed: 14 << 30, Fraction: 1}, context: 86720, note: "--kv-cache-dtype int8"},
		{name: "asked for more than weights leave", free: 18 << 30, request: Request{Fixed: 14 << 30, Fraction: 1, MaxContext: 131072}, err: "--max-model-len 86720 or --kv-cache-dtype int8"},
		{name: "weights do not fit", free: 12 << 30, request: Request{Fixed: 14 << 30}, err: "weights and activations need 14.00 GiB"},
		{name: "KV beyond what weights leave", free: 23 << 30, request: Request{Fixed: 14 << 30, KVBytes: 9 << 30}, err: "are left on"},
		{name: "more than all", free: 23 << 30, request: Request{Fixed: 14 << 30, Fraction: 1.2}, err: "--gpu-memory-utilization 1.2"},
		{name: "unknown memory", context: 86720, note: "context limited"},
	} {
		t.Run(c.name, func(t *testing.T) {
			info.Free = c.free
			p, err := NewPlan(b20(), info, c.request)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.MaxContext != c.context {
				t.Errorf("context %d, want %d", p.MaxContext, c.context)
			}
			if !strings.Contains(strings.Join(p.Notes, "\n"), c.note) || (c.note == "") != (len(p.Notes) == 0) {
				t.Errorf("notes %q, want %q", p.Notes, c.note)
			}
			budget := or(c.request.KVBytes, or(c.free/4, int64(unknownBudget)))
			if c.request.Fixed > 0 {
				budget = c.free - c.request.Fixed
			}
			if p.KVBytes > budget {
				t.Errorf("the pages take %d of a budget of %d", p.KVBytes, budget)
			}
			if p.FullPages*p.PageSize < p.MaxContext {
				t.Errorf("%d pages of %d do not hold one sequence of %d", p.FullPages, p.PageSize, p.MaxContext)
			}
			if p.WindowPages*p.PageSize < 128+p.MaxTokens {
				t.Errorf("%d window pages do not hold a window and a chunk", p.WindowPages)
			}
		})
	}
}

// Sequences share a batch's tokens: not each of them gets room for a whole chunk beside its window.
func TestWindowPool(t *testing.T) {
	for _, c := range []struct{ seqs, tokens, want int }{
		{1, 2048, 137},                  // (128+2048)/16, and a page cut
		{2, 2048, 274},                  // two of them are less than the shared pool
		{16, 2048, 16*4*10 + 2*2048/16}, // not 16*137
		{128, 512, 128*4*10 + 2*512/16}, // not 128*41
		{16, 16, 16 * (128/16 + 16/16 + 1)},
	} {
		p, err := NewPlan(b20(), device.Info{Name: "card", Free: 200 << 30, KVFormat: dtype.BF16}, Request{MaxSeqs: c.seqs, MaxTokens: c.tokens, KVBytes: 190 << 30})
		if err != nil {
			t.Fatal(err)
		}
		if p.WindowPages != c.want {
			t.Errorf("%d sequences, %d tokens: %d window pages, want %d", c.seqs, c.tokens, p.WindowPages, c.want)
		}
	}
	flat := b20()
	flat.Windows = make([]int, 24)
	p, err := NewPlan(flat, device.Info{Name: "card", Free: 200 << 30, KVFormat: dtype.BF16}, Request{MaxSeqs: 3, KVBytes: 190 << 30})
	if err != nil || p.WindowPages != 3*8192 {
		t.Errorf("without windows: %d pages, %v", p.WindowPages, err)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 13761264768: "12.82 GiB", 3 << 20: "3.0 MiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}
