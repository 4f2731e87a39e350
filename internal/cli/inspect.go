package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"hearth/internal/checkpoint"
	"hearth/internal/cpu"
	"hearth/internal/cuda"
	"hearth/internal/device"
	"hearth/internal/dtype"
	"hearth/internal/model"
)

func newInspect(s Streams) *cobra.Command {
	var (
		asJSON, verify, checksums bool
		gpu                       string
		files                     hubFlags
		length                    int
	)
	c := &cobra.Command{
		Use:   "inspect [MODEL]",
		Short: "Show what a checkpoint holds and whether it fits",
		Long: `Inspect reads a checkpoint's headers: its layout, its shapes against its configuration, bytes by part and format,
the KV cache a token takes, and whether it fits this machine's processor and GPU, or a named card, with the reasons. With --verify it reads every
value too, and fails if one is such as no sound checkpoint has.`,
		Example: "  hearth inspect ./gpt-oss-20b --gpu rtx3090\n  hearth inspect ./gpt-oss-20b --json | jq .parts",
		Args:    atMost(1, "a model: a folder, a file or ORG/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := openModel(cmd.Context(), s.Err, modelArg(args), &files)
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := inspect(c, gpu, length, s)
			if err != nil {
				return err
			}
			if verify || checksums {
				r.Verify = verifyValues(c, checksums, s.Err)
			}
			if err := r.write(s.Out, asJSON, c.Tensors()); err != nil {
				return err
			}
			if r.Verify != nil && len(r.Verify.Findings) > 0 {
				return errFindings
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&verify, "verify", false, "read every value and report NaN, absurd scales and transposed experts")
	c.Flags().BoolVar(&checksums, "checksums", false, "with --verify, also print the SHA-256 of each tensor")
	c.Flags().StringVar(&gpu, "gpu", "", "plan for a card, such as rtx3090, whether or not it is here")
	c.Flags().IntVar(&length, "max-model-len", 0, "plan for a context of this many positions (default: the model's own)")
	files.add(c.Flags())
	return c
}

// report is what inspect found; its JSON form is for scripts.
type report struct {
	Path      string      `json:"path"`
	Layout    string      `json:"layout"`
	SizeBytes int64       `json:"size_bytes"`
	Config    shapeReport `json:"config"`
	Tensors   int         `json:"tensors"`
	Parts     []part      `json:"parts"`
	KV        kvReport    `json:"kv_cache"`
	Tokenizer string      `json:"tokenizer"`
	Notes     []string    `json:"notes"`
	Fits      []fit       `json:"fits"`

	Verify *verifyReport `json:"verify,omitempty"`
}

type shapeReport struct {
	Layers       int     `json:"layers"`
	Hidden       int     `json:"hidden"`
	Intermediate int     `json:"intermediate"`
	Heads        int     `json:"heads"`
	KVHeads      int     `json:"kv_heads"`
	HeadDim      int     `json:"head_dim"`
	Experts      int     `json:"experts"`
	TopK         int     `json:"experts_per_token"`
	Vocab        int     `json:"vocabulary"`
	MaxPosition  int     `json:"max_positions"`
	Window       int     `json:"sliding_window"`
	WindowLayers int     `json:"sliding_layers"`
	Parameters   int64   `json:"parameters"`
	BytesToken   int64   `json:"bytes_read_per_token"`
	BitsWeight   float64 `json:"bits_per_parameter"`
}

// part is one role of weights in one format.
type part struct {
	Role    string `json:"role"`
	Format  string `json:"format"`
	Tensors int    `json:"tensors"`
	Bytes   int64  `json:"bytes"`
}

type kvReport struct {
	BytesPerToken  int64 `json:"bytes_per_token_bf16"`
	BytesPerWindow int64 `json:"bytes_per_sequence_windows_bf16"`
	Context        int   `json:"context"`
	BytesAtContext int64 `json:"bytes_at_context_bf16"`
}

// fit is the verdict for one place to run.
type fit struct {
	Where     string   `json:"where"`
	Fits      bool     `json:"fits"`
	Available int64    `json:"available_bytes"`
	Needed    int64    `json:"needed_bytes"`
	Weights   int64    `json:"weight_bytes,omitempty"` // of what is needed; a GPU's
	KV        int64    `json:"kv_cache_bytes,omitempty"`
	Step      int64    `json:"activation_bytes,omitempty"`
	Reasons   []string `json:"reasons"`
}

// openModel opens a checkpoint for commands that only look at it.
func openModel(ctx context.Context, w io.Writer, arg string, files *hubFlags) (*checkpoint.Checkpoint, error) {
	path, _, err := resolveModel(ctx, w, arg, files)
	if err != nil {
		return nil, err
	}
	return checkpoint.Open(path)
}

func inspect(c *checkpoint.Checkpoint, gpu string, context int, s Streams) (*report, error) {
	k := c.Config()
	if context < 0 || context > k.MaxPosition {
		return nil, fmt.Errorf("--max-model-len %d: the model was made for 1 to %d positions", context, k.MaxPosition)
	}
	if context == 0 {
		context = k.MaxPosition
	}
	r := &report{Path: c.Path(), Layout: c.Layout().String(), SizeBytes: c.Size(), Notes: c.Notes(), Tokenizer: c.TokenizerFile()}
	r.Config = shapes(c)
	r.Parts, r.Tensors = parts(c)
	full, window := model.KVPerToken(k, dtype.BF16)
	r.KV = kvReport{BytesPerToken: full, BytesPerWindow: window * int64(min(r.Config.Window, context)), Context: context}
	r.KV.BytesAtContext = full*int64(context) + r.KV.BytesPerWindow

	cpuDevice, err := cpu.New(cpu.Options{})
	if err != nil {
		return nil, err
	}
	r.Fits = append(r.Fits, fitsMachine(c, cpuDevice.Info(), context))
	if err := r.fitsHere(c, s); err != nil {
		return nil, err
	}
	if gpu != "" {
		chosen, err := findCard(gpu)
		if err != nil {
			return nil, err
		}
		verdict, err := r.fitsCard(c, chosen)
		if err != nil {
			return nil, err
		}
		r.Fits = append(r.Fits, verdict)
	}
	return r, nil
}

func shapes(c *checkpoint.Checkpoint) shapeReport {
	k := c.Config()
	r := shapeReport{
		Layers: k.Layers, Hidden: k.Hidden, Intermediate: k.Intermediate, Heads: k.Heads, KVHeads: k.KVHeads, HeadDim: k.HeadDim,
		Experts: k.Experts, TopK: k.TopK, Vocab: k.Vocab, MaxPosition: k.MaxPosition,
	}
	for _, w := range k.Windows {
		if w > 0 {
			r.Window, r.WindowLayers = max(r.Window, w), r.WindowLayers+1
		}
	}
	H, I, q, kv, E := int64(k.Hidden), int64(k.Intermediate), int64(k.Heads*k.HeadDim), int64(k.KVHeads*k.HeadDim), int64(k.Experts)
	expert := 3*H*I + 2*I + H
	layer := 2*H + H*(q+2*kv) + q + 2*kv + q*H + H + int64(k.Heads) + E*H + E + E*expert
	r.Parameters = int64(k.Layers)*layer + 2*int64(k.Vocab)*H + H

	// A decoded token reads everything but the embedding (one row of it) and the experts that were not chosen.
	for _, t := range c.Tensors() {
		switch t.Canonical {
		case checkpoint.RoleEmbed:
			r.BytesToken += t.Bytes / int64(k.Vocab)
		case checkpoint.RoleExperts:
			r.BytesToken += t.Bytes * int64(k.TopK) / E
		default:
			r.BytesToken += t.Bytes
		}
	}
	r.BitsWeight = float64(c.Size()) * 8 / float64(r.Parameters)
	return r
}

func parts(c *checkpoint.Checkpoint) ([]part, int) {
	type key struct{ role, format string }
	sums := map[key]*part{}
	tensors := c.Tensors()
	for _, t := range tensors {
		k := key{string(t.Canonical), t.Format.String()}
		if sums[k] == nil {
			sums[k] = &part{Role: k.role, Format: k.format}
		}
		sums[k].Tensors++
		sums[k].Bytes += t.Bytes
	}
	out := make([]part, 0, len(sums))
	for _, p := range sums {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b part) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Format, b.Format))
	})
	return out, len(tensors)
}

// fitsMachine judges the CPU of this machine: weights stay in the page cache, keys and values are float32.
func fitsMachine(c *checkpoint.Checkpoint, info device.Info, context int) fit {
	full, window := model.KVPerToken(c.Config(), info.KVFormat)
	kv := full * int64(context)
	for _, w := range c.Config().Windows {
		if w > 0 {
			kv += window * int64(min(w, context))
			break
		}
	}
	f := fit{Where: "this machine's CPU", Available: info.Free, Needed: c.Size() + kv}
	switch {
	case info.Free == 0:
		f.Reasons = append(f.Reasons, "this system does not tell how much memory is free")
	case c.Size() > info.Free:
		f.Reasons = append(f.Reasons, fmt.Sprintf("weights of %s are more than the free memory: every token would read the disk", model.Bytes(c.Size())))
	case f.Needed > info.Free:
		per := max(full, 1)
		f.Reasons = append(f.Reasons, fmt.Sprintf("weights fit, a context of %d does not: %d positions would", context, max(0, (info.Free-c.Size())/per)))
	default:
		f.Fits = true
		f.Reasons = append(f.Reasons, fmt.Sprintf("weights stay in the page cache, KV cache in float32 takes %s at %d positions", model.Bytes(kv), context))
	}
	return f
}

// fitsGPU judges a GPU as serve would plan it: weights in their own format, keys and values of one sequence in BF16.
func (r *report) fitsGPU(c model.Weights, where string, info device.Info, s device.Sizer) (fit, error) {
	q := model.Request{MaxSeqs: 1, MaxTokens: gpuTokens}
	f := fit{Where: where, Available: max(q.Usable(info), 0)}
	limits, err := q.Limits()
	if err != nil {
		return f, err
	}
	need, err := model.NewFootprint(c, s, limits)
	if errors.Is(err, device.ErrNotSupported) {
		f.Reasons = append(f.Reasons, err.Error())
		return f, nil
	}
	if err != nil {
		return f, err
	}
	q.Fixed = need.Bytes()
	roomy := device.Info{Memory: 1 << 50, Free: 1 << 50, KVFormat: info.KVFormat}
	whole, err := model.NewPlan(c.Config(), roomy, model.Request{MaxSeqs: 1, MaxTokens: gpuTokens, Fixed: q.Fixed, MaxContext: r.KV.Context})
	if err != nil {
		return f, err
	}
	f.Weights, f.KV, f.Step, f.Needed = need.Weights, whole.KVBytes, need.Step, q.Fixed+whole.KVBytes
	f.Fits = f.Needed <= f.Available
	rest := f.Available - q.Fixed - whole.PerSequence
	switch {
	case f.Fits:
		f.Reasons = append(f.Reasons, fmt.Sprintf("one sequence of %d positions fits, with room for %d positions more", r.KV.Context, (f.Available-f.Needed)/max(whole.PerToken, 1)))
	case rest > 0:
		f.Reasons = append(f.Reasons, fmt.Sprintf("weights fit, a context of %d does not: --max-model-len %d would", r.KV.Context, rest/max(whole.PerToken, 1)))
	default:
		f.Reasons = append(f.Reasons, fmt.Sprintf("weights of %s are more than the %s that may be used", model.Bytes(need.Weights), model.Bytes(f.Available)))
		if r.Config.BitsWeight > 8 {
			f.Reasons = append(f.Reasons, "a 4-bit form of the same model (MXFP4 or NF4) takes about a third of it")
		}
	}
	f.Reasons = append(f.Reasons, fmt.Sprintf("weights %s, keys and values %s, activations %s; %s of %s are taken already, by the driver for a start, and a tenth is left free",
		model.Bytes(f.Weights), model.Bytes(f.KV), model.Bytes(f.Step), model.Bytes(info.Memory-info.Free), model.Bytes(info.Memory)))
	return f, nil
}

// fitsCard judges a card from its data sheet.
func (r *report) fitsCard(c model.Weights, k cuda.Card) (fit, error) {
	p, err := cuda.OnPaper(k, reserved, cuda.Options{})
	if err != nil {
		return fit{}, err
	}
	f, err := r.fitsGPU(c, k.Name, p.Info(), p)
	if f.Fits {
		f.Reasons = append(f.Reasons, fmt.Sprintf("at most %.0f tokens a second at one stream: %d GB/s over %s read a token",
			float64(k.Bandwidth)/float64(r.Config.BytesToken), k.Bandwidth/1e9, model.Bytes(r.Config.BytesToken)))
	}
	return f, err
}

// fitsHere judges the GPU of this machine that --device auto would take. Where there is none, there is nothing to say:
// hearth doctor has the reasons.
func (r *report) fitsHere(c model.Weights, s Streams) (err error) {
	f := deviceFlags{device: "auto", gpus: s.gpus}
	d, _, err := f.openGPU(nil)
	if err != nil || d == nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	info := d.Info()
	verdict, err := r.fitsGPU(c, "this machine's "+info.Name, info, d)
	r.Fits = append(r.Fits, verdict)
	return err
}
