package cli

import (
	"fmt"
	"io"

	"hearth/internal/model"
)

// benchReport is what bench found; its JSON form is for scripts. Shares are of what the same device did in the same run
// and nothing but that; 0 where that could not be measured.
type benchReport struct {
	Version    string         `json:"version"`
	Model      benchModel     `json:"model"`
	Device     benchDevice    `json:"device"`
	Bandwidth  float64        `json:"read_bandwidth_bytes_per_second"`
	Arithmetic float64        `json:"arithmetic_flops_per_second"`
	Decode     []benchDecode  `json:"decode"`
	Prefill    []benchPrefill `json:"prefill"`
	Notes      []string       `json:"notes"`
}

type benchModel struct {
	Name         string  `json:"name"`
	Source       string  `json:"source"`
	Layers       int     `json:"layers"`
	WeightBytes  int64   `json:"weight_bytes"`
	KVBytes      int64   `json:"kv_bytes"`
	LoadSeconds  float64 `json:"load_seconds"`
	BytesToken   float64 `json:"bytes_per_token"` // one stream, empty context
	FlopsToken   float64 `json:"flops_per_prompt_token"`
	PrefillChunk int     `json:"max_num_batched_tokens"`
}

type benchDevice struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Detail   string `json:"detail"`
	KVFormat string `json:"kv_cache_dtype"`

	Memory *benchMemory `json:"memory,omitempty"` // of a GPU
}

// benchMemory compares what was planned with what the driver says, in bytes. Before the model the card held the driver's
// own, the context of this process and whatever others have there.
type benchMemory struct {
	Planned int64 `json:"planned_bytes"`
	Held    int64 `json:"allocated_bytes"` // by the session's books
	Taken   int64 `json:"taken_bytes"`     // by the driver's, compiled kernels and graphs included
	Before  int64 `json:"before_bytes"`
}

type benchDecode struct {
	Batch        int     `json:"batch"`
	Context      int     `json:"context"`
	Steps        int     `json:"steps"`
	MedianMs     float64 `json:"median_step_ms"`
	BestMs       float64 `json:"best_step_ms"`
	Tokens       float64 `json:"median_tokens_per_second"` // of all streams together
	BestTokens   float64 `json:"best_tokens_per_second"`
	StepBytes    float64 `json:"bytes_per_step"`
	OfMemory     float64 `json:"median_share_of_bandwidth"`
	BestOfMemory float64 `json:"best_share_of_bandwidth"`
}

type benchPrefill struct {
	Prompt           int     `json:"prompt"`
	Runs             int     `json:"runs"`
	MedianMs         float64 `json:"median_time_to_first_token_ms"`
	BestMs           float64 `json:"best_time_to_first_token_ms"`
	Tokens           float64 `json:"median_tokens_per_second"`
	BestTokens       float64 `json:"best_tokens_per_second"`
	Flops            float64 `json:"flops"`
	Bytes            float64 `json:"bytes"`
	OfArithmetic     float64 `json:"median_share_of_arithmetic"`
	BestOfArithmetic float64 `json:"best_share_of_arithmetic"`
	OfMemory         float64 `json:"median_share_of_bandwidth"`
}

// share is the part of rate that amount took in the given milliseconds; 0 where the rate is not known.
func shareOf(rate, amount, ms float64) float64 {
	if rate == 0 {
		return 0
	}
	return amount / rate / (ms / 1e3)
}

func (r *benchReport) addDecode(batch, context, steps int, t timing, bytes float64) {
	d := benchDecode{Batch: batch, Context: context, Steps: steps, StepBytes: bytes, MedianMs: t.median.Seconds() * 1e3, BestMs: t.best.Seconds() * 1e3}
	d.Tokens, d.BestTokens = float64(batch)/t.median.Seconds(), float64(batch)/t.best.Seconds()
	r.Decode = append(r.Decode, d)
}

func (r *benchReport) addPrefill(prompt, runs int, t timing, flops, bytes float64) {
	p := benchPrefill{Prompt: prompt, Runs: runs, Flops: flops, Bytes: bytes, MedianMs: t.median.Seconds() * 1e3, BestMs: t.best.Seconds() * 1e3}
	p.Tokens, p.BestTokens = float64(prompt)/t.median.Seconds(), float64(prompt)/t.best.Seconds()
	r.Prefill = append(r.Prefill, p)
}

// judge fills the shares, once the device's own best is known.
func (r *benchReport) judge() {
	for i := range r.Decode {
		d := &r.Decode[i]
		d.OfMemory, d.BestOfMemory = shareOf(r.Bandwidth, d.StepBytes, d.MedianMs), shareOf(r.Bandwidth, d.StepBytes, d.BestMs)
	}
	for i := range r.Prefill {
		p := &r.Prefill[i]
		p.OfArithmetic, p.BestOfArithmetic = shareOf(r.Arithmetic, p.Flops, p.MedianMs), shareOf(r.Arithmetic, p.Flops, p.BestMs)
		p.OfMemory = shareOf(r.Bandwidth, p.Bytes, p.MedianMs)
	}
}

// print writes the tables.
func (r *benchReport) print(w io.Writer) {
	p := printer{w, 12}
	m := &r.Model
	p.line("model", "%s", m.Source)
	p.line("weights", "%s in %d layers, loaded in %.1f s, %.1f GB/s", model.Bytes(m.WeightBytes), m.Layers, m.LoadSeconds, float64(m.WeightBytes)/1e9/m.LoadSeconds)
	p.line("device", "%s: %s", r.Device.Name, r.Device.Detail)
	p.line("KV cache", "%s, %s", model.Bytes(m.KVBytes), r.Device.KVFormat)
	if x := r.Device.Memory; x != nil {
		p.line("GPU memory", "%s planned, %s allocated, %s taken by the driver's count; %s with the %s before it", model.Bytes(x.Planned), model.Bytes(x.Held),
			model.Bytes(x.Taken), model.Bytes(x.Taken+x.Before), model.Bytes(x.Before))
	}
	if r.Bandwidth > 0 {
		p.line("memory", "%.1f GB/s read, measured in this run", r.Bandwidth/1e9)
	}
	if r.Arithmetic > 0 {
		p.line("arithmetic", "%.3g TFLOP/s, measured in this run", r.Arithmetic/1e12)
	}
	p.line("a token", "reads %.3f GB at one stream and an empty context, computes %.2f GFLOP in a prompt", m.BytesToken/1e9, m.FlopsToken/1e9)
	for _, n := range r.Notes {
		p.line("note", "%s", n)
	}
	if len(r.Decode) > 0 {
		fmt.Fprintf(w, "\n%-7s %8s %8s %12s %12s %10s %10s %14s\n", "decode", "batch", "context", "tokens/s", "best", "ms a step", "GB a step", "of bandwidth")
		for _, d := range r.Decode {
			fmt.Fprintf(w, "%-7s %8d %8d %12.2f %12.2f %10.2f %10.3f %14s\n", "", d.Batch, d.Context, d.Tokens, d.BestTokens, d.MedianMs, d.StepBytes/1e9, shares(d.OfMemory, d.BestOfMemory))
		}
	}
	if len(r.Prefill) > 0 {
		fmt.Fprintf(w, "\n%-7s %8s %17s %12s %16s %14s %14s\n", "prefill", "tokens", "tokens/s", "best", "first token, ms", "of arithmetic", "of bandwidth")
		for _, x := range r.Prefill {
			fmt.Fprintf(w, "%-7s %8d %17.2f %12.2f %16.1f %14s %14s\n", "", x.Prompt, x.Tokens, x.BestTokens, x.MedianMs, shares(x.OfArithmetic, x.BestOfArithmetic), percent(x.OfMemory))
		}
	}
	fmt.Fprintln(w, "\nMedians, the best of each row beside them. Experts are counted as routing at random would choose them.")
}

// shares prints a median and a best.
func shares(median, best float64) string {
	if median == 0 {
		return "-"
	}
	return fmt.Sprintf("%s (%s)", percent(median), percent(best))
}

func percent(share float64) string {
	if share == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*share)
}
