package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"hearth/internal/device"
	"hearth/internal/model"
)

type benchFlags struct {
	where  deviceFlags
	hub    hubFlags
	work   benchWork
	shape  string
	format string
	layers int
	limits time.Duration
	plot   string
	asJSON bool
}

func newBench(s Streams) *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench [MODEL]",
		Short: "Time decode and prefill against this machine's limits",
		Long: `Bench times a model's steps, without a server around them: decode over batch sizes and contexts, prefill over prompt
lengths. It measures the device's memory bandwidth and arithmetic in the same run and gives every speed as a share of what
they allow. With --shape the weights are made up, on a GPU by itself, so that no model is needed; without either it times the embedded
demo model. Keys and values of a context are made up too.`,
		Example: `  hearth bench --shape gpt-oss-20b --format mxfp4
  hearth bench ./gpt-oss-20b --batch 1,8 --context 0,4096 --prompt 128,2048 --plot speed.svg`,
		Args: atMost(1, "a model: a folder, a file or ORG/NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if f.shape == "" && c.Flags().Changed("format") {
				return errors.New("--format: goes with --shape")
			}
			return runBench(c.Context(), s, args, &f)
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.shape, "shape", "", "make up a model of this shape: gpt-oss-20b, gpt-oss-120b or tiny")
	fs.StringVar(&f.format, "format", "mxfp4", "format of its experts: mxfp4, nf4, nf4-dq or bf16; or gguf: MXFP4 and Q8_0 as llama.cpp's files have them")
	fs.IntVar(&f.layers, "layers", 0, "make up only so many layers, where memory is short (default: all)")
	fs.Var(&f.work.batches, "batch", "sequences that decode together, or none (default 1,8; on a GPU 1,8,32,128)")
	fs.Var(&f.work.contexts, "context", "positions before them (default 0; on a GPU 0,4096)")
	fs.Var(&f.work.prompts, "prompt", "tokens of a prompt, or none (default 128; on a GPU 128,2048)")
	fs.IntVar(&f.work.tokens, "tokens", 0, "decode steps timed for each batch and context (default 16; on a GPU 64)")
	fs.IntVar(&f.work.repeat, "repeat", 3, "times that each prompt is computed")
	fs.DurationVar(&f.limits, "limits", 500*time.Millisecond, "time for measuring each of the device's limits, before and after; 0: no shares are given")
	fs.BoolVar(&f.asJSON, "json", false, "print JSON")
	fs.StringVar(&f.plot, "plot", "", "draw the shares into this SVG file")
	f.where.add(fs, s)
	fs.IntVar(&f.work.chunk, "max-num-batched-tokens", 0, "tokens of a prompt computed in one step (default 512; on a GPU 2048)")
	f.hub.add(fs)
	return c
}

// fillDefaults chooses what a user did not, by the kind of device.
func (w *benchWork) fillDefaults(kind string) {
	d := benchWork{batches: sizes{1, 8}, contexts: sizes{0}, prompts: sizes{128}, tokens: 16, chunk: 512}
	if kind == "cuda" {
		d = benchWork{batches: sizes{1, 8, 32, 128}, contexts: sizes{0, 4096}, prompts: sizes{128, 2048}, tokens: 64, chunk: 2048}
	}
	w.trim = w.batches == nil || w.contexts == nil
	for _, v := range []struct{ of, or *sizes }{{&w.batches, &d.batches}, {&w.contexts, &d.contexts}, {&w.prompts, &d.prompts}} {
		if *v.of == nil {
			*v.of = *v.or
		}
	}
	for _, v := range []struct{ of, or *int }{{&w.tokens, &d.tokens}, {&w.chunk, &d.chunk}} {
		if *v.of == 0 {
			*v.of = *v.or
		}
	}
}

func runBench(ctx context.Context, s Streams, args []string, f *benchFlags) (err error) {
	if len(args) > 0 && f.shape != "" {
		return fmt.Errorf("%s and --shape %s: name one model", args[0], f.shape)
	}
	if f.limits < 0 {
		return fmt.Errorf("--limits %v: want a time, or 0 for no shares", f.limits)
	}
	d, why, err := f.where.open(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDevice(d)) }()
	info := d.Info()
	f.work.fillDefaults(info.Kind)
	r := &benchReport{
		Version: Version, Decode: []benchDecode{}, Prefill: []benchPrefill{}, Notes: []string{},
		Device: benchDevice{Name: info.Name, Kind: info.Kind, Detail: info.Detail, KVFormat: info.KVFormat.String()},
	}
	if why != "" {
		r.Notes = append(r.Notes, "on the CPU: "+why)
	}
	weights, done, err := f.source(ctx, s, args, d, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := f.bench(ctx, s, d, weights, r); err != nil {
		return err
	}
	if err := r.write(s.Out, f.asJSON); err != nil || f.plot == "" {
		return err
	}
	if err := os.WriteFile(f.plot, []byte(r.svg()), 0o644); err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	return nil
}

// write prints the report.
func (r *benchReport) write(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	r.print(w)
	return nil
}

// source is the model to time: made up, or a checkpoint.
func (f *benchFlags) source(ctx context.Context, s Streams, args []string, d device.Device, r *benchReport) (w model.Weights, done func() error, err error) {
	if f.shape != "" {
		m, err := newMade(f.shape, f.format, f.layers, benchSeed)
		if err != nil {
			return nil, nil, err
		}
		r.Model.Name, r.Model.Source = f.shape, m.String()
		done = func() error { return nil }
		if _, ok := d.(device.Maker); ok {
			r.Notes = append(r.Notes, "weights are made up on the GPU; every layer has its own")
			return madeThere{m.outlined()}, done, nil
		}
		r.Notes = append(r.Notes, "every layer has weights of its own; the embedding, of which a token reads one row, has the head's content")
		return m, done, nil
	}
	if f.layers != 0 {
		return nil, nil, errors.New("--layers: goes with --shape")
	}
	c, err := openModel(ctx, s.Err, modelArg(args), &f.hub)
	if err != nil {
		return nil, nil, err
	}
	r.Model.Name, r.Model.Source = c.Path(), fmt.Sprintf("%s: %s", c.Path(), c.Layout())
	return c, c.Close, nil
}

func (f *benchFlags) bench(ctx context.Context, s Streams, d device.Device, w model.Weights, r *benchReport) error {
	c, work := w.Config(), &f.work
	if err := work.check(c); err != nil {
		return err
	}
	info := d.Info()
	sizer, _ := d.(device.Sizer)
	budget, err := f.budget(w, &info, sizer)
	if err != nil {
		return err
	}
	for _, p := range work.choose(c, info.KVFormat, budget) {
		r.Notes = append(r.Notes, fmt.Sprintf("left out, since keys and values of %d sequences at position %d do not fit; --batch and --context insist", p.batch, p.context))
	}
	limits := work.room(c)
	r.Model.Layers, r.Model.PrefillChunk, r.Model.KVBytes = c.Layers, work.chunk, kvBytes(c, info.KVFormat, &limits)
	if err := f.fits(w, d, r.Model.KVBytes); err != nil {
		return err
	}
	if sizer != nil {
		need, err := footprint(w, sizer, limits)
		if err != nil {
			return err
		}
		r.Device.Memory = &benchMemory{Planned: need.Bytes() + r.Model.KVBytes}
		if err := f.fitsShare(r.Device.Memory.Planned, &info); err != nil {
			return err
		}
	}
	if err := r.meter(d, f.limits); err != nil {
		return err
	}
	if err := f.load(ctx, s, d, w, limits, r); err != nil {
		return err
	}
	if err := r.meter(d, f.limits); err != nil { // with the model's memory free again
		return err
	}
	r.judge()
	return nil
}

// load loads the model, times it and closes it.
func (f *benchFlags) load(ctx context.Context, s Streams, d device.Device, w model.Weights, limits device.Limits, r *benchReport) (err error) {
	before, start := d.Info(), time.Now()
	bar := newProgress(s.Err, "loading layers", int64(r.Model.Layers), true)
	m, err := model.Load(w, d, model.Plan{Limits: limits, MaxContext: w.Config().MaxPosition}, func(done, _ int) { bar.set(int64(done)) })
	bar.finish()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	r.Notes = append(r.Notes, m.Notes()...)
	r.Model.LoadSeconds = time.Since(start).Seconds()
	c := &cost{m.Reads(), w.Config()}
	r.Model.WeightBytes = c.Dense + c.Experts + c.Head
	r.Model.BytesToken, r.Model.FlopsToken = c.decodeBytes(1, 0), c.rowFlops()
	if err := f.work.run(ctx, s, m, c, limits, r); err != nil {
		return err
	}
	if x := r.Device.Memory; x != nil {
		held, after := m.Memory(), d.Info()
		x.Held, x.Taken, x.Before = held.Weights+held.KV+held.Activation, before.Free-after.Free, before.Memory-before.Free
	}
	return nil
}

// run times everything.
func (w *benchWork) run(ctx context.Context, s Streams, m *model.Model, c *cost, l device.Limits, r *benchReport) error {
	if err := m.Prime(benchSeed); err != nil {
		return err
	}
	run := newBenchRun(m, c.config, l)
	if err := warmNow(ctx, s.Err, m); err != nil {
		return err
	}
	bar := newProgress(s.Err, "timing", int64(len(w.points)+len(w.prompts)), true)
	defer bar.finish()
	for _, p := range w.points {
		t, err := run.decode(ctx, p.batch, p.context, w.tokens)
		if err != nil {
			return err
		}
		r.addDecode(p.batch, p.context, w.tokens, t, c.decodeBytes(p.batch, p.context+warmSteps+w.tokens/2))
		bar.set(int64(len(r.Decode)))
	}
	for _, prompt := range w.prompts {
		t, err := run.prefill(ctx, prompt, w.chunk, w.repeat)
		if err != nil {
			return err
		}
		r.addPrefill(prompt, w.repeat, t, c.prefillFlops(prompt), c.prefillBytes(prompt, w.chunk))
		bar.set(int64(len(r.Decode) + len(r.Prefill)))
	}
	return nil
}

// meter measures the device's limits and keeps the better of all measurements.
func (r *benchReport) meter(d device.Device, t time.Duration) error {
	m, ok := d.(device.Meter)
	if !ok || t <= 0 {
		return nil
	}
	for _, x := range []struct {
		best    *float64
		measure func(time.Duration) (float64, error)
	}{{&r.Bandwidth, m.ReadBandwidth}, {&r.Arithmetic, m.Arithmetic}} {
		v, err := x.measure(t)
		if err != nil && !errors.Is(err, device.ErrNotSupported) {
			return err
		}
		*x.best = max(*x.best, v)
	}
	return nil
}
