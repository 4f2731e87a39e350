package cli

import (
	"fmt"
	"slices"
	"strings"
)

// card is a GPU that a user may plan for without having it here. Memory is what the card is sold with; a driver and
// its context keep some of it (reserved).
type card struct {
	Name       string
	Capability string // CUDA compute capability
	Memory     int64  // bytes
	Bandwidth  int    // GB/s, data sheet
}

const (
	gib = int64(1) << 30
	// reserved covers the driver's own share, the CUDA context and a step's activations.
	reserved = 3 * gib / 2
)

// cards are the data sheets, by the name that --gpu takes.
func cards() map[string]card {
	return map[string]card{
		"rtx3060":   {"NVIDIA GeForce RTX 3060", "8.6", 12 * gib, 360},
		"rtx3080":   {"NVIDIA GeForce RTX 3080", "8.6", 10 * gib, 760},
		"rtx3090":   {"NVIDIA GeForce RTX 3090", "8.6", 24 * gib, 936},
		"rtx3090ti": {"NVIDIA GeForce RTX 3090 Ti", "8.6", 24 * gib, 1008},
		"rtx4060ti": {"NVIDIA GeForce RTX 4060 Ti 16 GB", "8.9", 16 * gib, 288},
		"rtx4080":   {"NVIDIA GeForce RTX 4080", "8.9", 16 * gib, 717},
		"rtx4090":   {"NVIDIA GeForce RTX 4090", "8.9", 24 * gib, 1008},
		"rtx5080":   {"NVIDIA GeForce RTX 5080", "12.0", 16 * gib, 960},
		"rtx5090":   {"NVIDIA GeForce RTX 5090", "12.0", 32 * gib, 1792},
		"a10":       {"NVIDIA A10", "8.6", 24 * gib, 600},
		"a6000":     {"NVIDIA RTX A6000", "8.6", 48 * gib, 768},
		"l4":        {"NVIDIA L4", "8.9", 24 * gib, 300},
		"l40s":      {"NVIDIA L40S", "8.9", 48 * gib, 864},
		"a100":      {"NVIDIA A100 80 GB", "8.0", 80 * gib, 2039},
		"a100-40":   {"NVIDIA A100 40 GB", "8.0", 40 * gib, 1555},
		"h100":      {"NVIDIA H100 SXM", "9.0", 80 * gib, 3350},
		"h200":      {"NVIDIA H200", "9.0", 141 * gib, 4800},
	}
}

func findCard(name string) (card, error) {
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
	return card{}, fmt.Errorf("--gpu %q is not a card I know: one of %s", name, strings.Join(names, ", "))
}
