package model

import (
	"fmt"

	"hearth/internal/checkpoint"
	"hearth/internal/device"
	"hearth/internal/dtype"
)

// Request is what the user asks of a plan; zero values take defaults.
type Request struct {
	MaxContext int   // positions a sequence may reach; 0: the model's own, or what fits
	MaxSeqs    int   // sequences that run at once; 0: 16
	MaxTokens  int   // rows of one batch; 0: 512
	PageSize   int   // 0: 16
	KVBytes    int64 // budget for keys and values; 0: a quarter of the memory that is free, 4 GiB where that is unknown

	// Fixed is what a device with memory of its own must hold beside the KV cache, in bytes; 0: weights stay on the host.
	// The KV cache then gets the rest of Fraction (0: 0.9) of the device's memory.
	Fixed    int64
	Fraction float64
}

// Plan is the room that a model is given.
type Plan struct {
	device.Limits
	MaxContext int
	KVBytes    int64 // what the pages take
	// PerToken and PerSequence are KV bytes: of one more position in the full-attention layers, and of the window
	// layers of one sequence, whatever its length.
	PerToken, PerSequence int64
	Notes                 []string // decisions worth telling
}

const (
	defaultSeqs   = 16
	defaultTokens = 512
	defaultPage   = 16
	defaultShare  = 0.9
	logitRows     = 64
	unknownBudget = 4 << 30
)

// KVPerToken gives the bytes of keys and values that one position takes in all full-attention layers, and in all
// sliding-window layers.
func KVPerToken(c *checkpoint.Config, f dtype.Format) (full, window int64) {
	layer := int64(float64(2*c.KVHeads*c.HeadDim) * f.Bits() / 8)
	for _, w := range c.Windows {
		if w > 0 {
			window += layer
		} else {
			full += layer
		}
	}
	return full, window
}

// NewPlan decides how many pages the KV cache gets. It refuses what cannot hold one sequence of the context that was
// asked for; without such a wish the context is as long as fits, and a note says so.
func NewPlan(c *checkpoint.Config, info device.Info, r Request) (Plan, error) {
	limits, err := r.Limits()
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Limits: limits}
	if r.MaxContext > c.MaxPosition {
		return Plan{}, fmt.Errorf("--max-model-len %d is past the %d positions that the model was made for", r.MaxContext, c.MaxPosition)
	}
	full, window := KVPerToken(c, info.KVFormat)
	p.PerToken = full

	windowPages := p.windowPages(c)
	p.PerSequence = int64(windowPages) * int64(p.PageSize) * window
	budget, err := kvBudget(info, r)
	if err != nil {
		return Plan{}, err
	}
	want := or(r.MaxContext, c.MaxPosition)
	pageBytes := int64(p.PageSize) * max(full, 1)
	pages := pagesFor(want, p.PageSize)
	if need := int64(pages)*pageBytes + p.PerSequence; need > budget {
		fit := int((budget-p.PerSequence)/pageBytes) * p.PageSize
		if r.MaxContext > 0 || fit < p.PageSize {
			shorter := ""
			if fit >= p.PageSize {
				shorter = fmt.Sprintf("--max-model-len %d or ", fit)
			}
			return Plan{}, fmt.Errorf("a sequence of %d positions needs %s of KV cache, %s is planned for it: use %s%s",
				want, Bytes(need), Bytes(budget), shorter, r.moreRoom(need))
		}
		p.Notes = append(p.Notes, fmt.Sprintf("context limited to %d of %d positions by a KV cache of %s (more room: %s)", fit, want, Bytes(budget), r.moreRoom(need)))
		want, pages = fit, fit/p.PageSize
	}
	p.MaxContext, p.MaxBlocks = want, pages
	p.share(pages, windowPages, p.windowPool(c, windowPages), pageBytes, int64(p.PageSize)*window, budget)
	return p, nil
}

// Limits is the request's share of a session's limits: all but the pages.
func (r Request) Limits() (device.Limits, error) {
	l := device.Limits{
		MaxTokens: or(r.MaxTokens, defaultTokens), MaxSeqs: or(r.MaxSeqs, defaultSeqs), PageSize: or(r.PageSize, defaultPage),
	}
	for _, f := range []struct {
		name  string
		value int
	}{
		{"--max-model-len", r.MaxContext}, {"--max-num-seqs", r.MaxSeqs}, {"--max-num-batched-tokens", r.MaxTokens}, {"--block-size", r.PageSize},
	} {
		if f.value < 0 {
			return l, fmt.Errorf("%s %d: want 1 or more, or 0 for the default", f.name, f.value)
		}
	}
	if r.KVBytes < 0 || r.Fixed < 0 {
		return l, fmt.Errorf("%d bytes of keys and values beside %d others: sizes cannot be negative", r.KVBytes, r.Fixed)
	}
	if !(r.Fraction >= 0 && r.Fraction <= 1) { // nor NaN
		return l, fmt.Errorf("--gpu-memory-utilization %v: want a share between 0 and 1", r.Fraction)
	}
	l.MaxTokens = max(l.MaxTokens, l.MaxSeqs) // every running sequence may decode in one batch
	l.MaxLogits = max(logitRows, l.MaxSeqs)
	return l, nil
}

// Usable is what may be taken of a device's own memory: its share, less what others hold.
func (r Request) Usable(info device.Info) int64 {
	return min(int64(or(r.Fraction, defaultShare)*float64(info.Memory))-(info.Memory-info.Free), info.Free)
}

// kvBudget is the room for keys and values, in bytes.
func kvBudget(info device.Info, r Request) (int64, error) {
	if r.Fixed == 0 {
		return or(r.KVBytes, or[int64](info.Free/4, unknownBudget)), nil
	}
	share, usable := or(r.Fraction, defaultShare), r.Usable(info)
	rest := usable - r.Fixed
	switch {
	case rest <= 0:
		return 0, device.Refuse(fmt.Errorf("weights and activations need %s, %s may be used of %s (%s free of %s, --gpu-memory-utilization %.2f): free memory on it, or use --dense-quantization int8, a smaller --max-num-batched-tokens, or --device cpu",
			Bytes(r.Fixed), Bytes(max(usable, 0)), info.Name, Bytes(info.Free), Bytes(info.Memory), share))
	case r.KVBytes > rest:
		return 0, fmt.Errorf("--kv-cache-memory-bytes %d: beside %s of weights and activations %s are left on %s (--gpu-memory-utilization %.2f)",
			r.KVBytes, Bytes(r.Fixed), Bytes(rest), info.Name, share)
	}
	return or(r.KVBytes, rest), nil
}

// moreRoom names the flags that help where the KV cache is too small for what was asked.
func (r *Request) moreRoom(need int64) string {
	if r.Fixed == 0 {
		return fmt.Sprintf("--kv-cache-memory-bytes %d", need)
	}
	return "--kv-cache-dtype int8, --gpu-memory-utilization, --dense-quantization int8"
}

// share gives what is left of the budget to more sequences, at most MaxSeqs of full length. Windows come first: they are
// small, and every sequence needs one, however short it is.
func (p *Plan) share(pages, windowPages, windowPool int, pageBytes, windowPageBytes, budget int64) {
	rest := budget - int64(pages)*pageBytes
	p.WindowPages = windowPool
	if int64(p.WindowPages)*windowPageBytes > rest {
		p.WindowPages = max(windowPages, int(rest/max(windowPageBytes, 1)))
	}
	rest -= int64(p.WindowPages) * windowPageBytes
	p.FullPages = pages + int(min(int64(pages)*int64(p.MaxSeqs-1), max(rest, 0)/pageBytes))
	p.KVBytes = int64(p.FullPages)*pageBytes + int64(p.WindowPages)*windowPageBytes
}

// windowPool is how many window pages are worth having. The sequences of a batch share its tokens, so that only one of them
// can hold a whole chunk beside its window; what a chunk has left behind goes before the next batch of its sequence. Three
// more windows for each sequence keep the ends of prompts and answers that later prompts may begin with.
func (p *Plan) windowPool(c *checkpoint.Config, windowPages int) int {
	const windows = 4
	window := windowPages
	if w := widest(c); w > 0 {
		window = min(pagesFor(w, p.PageSize)+2, windowPages)
	}
	return max(windowPages, min(p.MaxSeqs*windowPages, p.MaxSeqs*windows*window+2*pagesFor(p.MaxTokens, p.PageSize)))
}

// windowPages is how many window pages one sequence can hold at once: the window, the chunk being computed, and a
// page cut at each end.
func (p *Plan) windowPages(c *checkpoint.Config) int {
	w := widest(c)
	if w == 0 {
		return pagesFor(c.MaxPosition, p.PageSize)
	}
	return min(pagesFor(w+p.MaxTokens, p.PageSize)+1, pagesFor(c.MaxPosition, p.PageSize))
}

// widest is the largest sliding window, 0 where every layer is full.
func widest(c *checkpoint.Config) (w int) {
	for _, n := range c.Windows {
		w = max(w, n)
	}
	return w
}

func pagesFor(positions, size int) int { return (positions + size - 1) / size }

func or[N int | int64 | float64](n, def N) N {
	if n == 0 {
		return def
	}
	return n
}

// Bytes prints a size as people read it.
func Bytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
