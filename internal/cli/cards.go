package cli

import (
	"fmt"
	"slices"
	"strings"

	"hearth/internal/cuda"
)

const (
	gib = int64(1) << 30
	// reserved is about what a card's driver keeps of its memory, with one CUDA context.
	reserved = 3 * gib / 4
)

// cards are the GPUs that a user may plan for without having them here, by the name that --gpu takes. Memory and bandwidth
// (GB/s) are what they are sold with.
func cards() map[string]cuda.Card {
	sheet := func(name string, major, minor, sms int, memory, bandwidth int64) cuda.Card {
		return cuda.Card{Name: name, Major: major, Minor: minor, SMs: sms, Memory: memory * gib, Bandwidth: bandwidth * 1e9}
	}
	return map[string]cuda.Card{
		"rtx3060":   sheet("NVIDIA GeForce RTX 3060", 8, 6, 28, 12, 360),
		"rtx3080":   sheet("NVIDIA GeForce RTX 3080", 8, 6, 68, 10, 760),
		"rtx3090":   sheet("NVIDIA GeForce RTX 3090", 8, 6, 82, 24, 936),
		"rtx3090ti": sheet("NVIDIA GeForce RTX 3090 Ti", 8, 6, 84, 24, 1008),
		"rtx4060ti": sheet("NVIDIA GeForce RTX 4060 Ti 16 GB", 8, 9, 34, 16, 288),
		"rtx4080":   sheet("NVIDIA GeForce RTX 4080", 8, 9, 76, 16, 717),
		"rtx4090":   sheet("NVIDIA GeForce RTX 4090", 8, 9, 128, 24, 1008),
		"rtx5080":   sheet("NVIDIA GeForce RTX 5080", 12, 0, 84, 16, 960),
		"rtx5090":   sheet("NVIDIA GeForce RTX 5090", 12, 0, 170, 32, 1792),
		"a10":       sheet("NVIDIA A10", 8, 6, 72, 24, 600),
		"a6000":     sheet("NVIDIA RTX A6000", 8, 6, 84, 48, 768),
		"l4":        sheet("NVIDIA L4", 8, 9, 58, 24, 300),
		"l40s":      sheet("NVIDIA L40S", 8, 9, 142, 48, 864),
		"a100":      sheet("NVIDIA A100 80 GB", 8, 0, 108, 80, 2039),
		"a100-40":   sheet("NVIDIA A100 40 GB", 8, 0, 108, 40, 1555),
		"h100":      sheet("NVIDIA H100 SXM", 9, 0, 132, 80, 3350),
		"h200":      sheet("NVIDIA H200", 9, 0, 132, 141, 4800),
	}
}

func findCard(name string) (cuda.Card, error) {
	all := cards()
	key := strings.NewReplacer(" ", "", "_", "", "nvidia", "", "geforce", "").Replace(strings.ToLower(name))
	if c, ok := all[key]; ok {
		return c, nil
	}
	names := make([]string, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	slices.Sort(names)
	return cuda.Card{}, fmt.Errorf("--gpu %q is not a card I know: one of %s", name, strings.Join(names, ", "))
}
