package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hearth/internal/checkpoint"
	"hearth/internal/convert"
	"hearth/internal/model"
)

// convertFlags are the flags of convert.
type convertFlags struct {
	to      string
	options convert.Options
	shard   byteSize
	dryRun  bool
	threads int
	hub     hubFlags
}

func newConvert(s Streams) *cobra.Command {
	var f convertFlags
	c := &cobra.Command{
		Use:   "convert SRC DST --to LAYOUT",
		Short: "Write a checkpoint in another layout",
		Long: `Convert rewrites a checkpoint in another layout, losslessly wherever the values allow it, and says so: "exact", or the
measured error of every part that had to be requantised. SRC is a folder, a GGUF file, or ORG/NAME on a Hugging Face hub,
which is fetched as by serve. Layouts are
  hf-mxfp4     Hugging Face MXFP4, as openai/gpt-oss-20b
  hf-bf16      Hugging Face, experts in plain numbers
  openai       OpenAI's original names
  unsloth-bnb  one bitsandbytes 4-bit tensor for each expert
  fused-nf4    one bitsandbytes 4-bit tensor for each layer and projection, [experts, out, in]
  gguf         llama.cpp; DST may be a file name ending in .gguf

It writes to DST.partial, reads everything back from the disk, compares checksums of the values, and only then renames.
Stopped half-way, the same command goes on where it stopped.`,
		Example: `  hearth convert ./gpt-oss-20b-unsloth-bnb-4bit ./gpt-oss-20b-nf4 --to fused-nf4
  hearth convert openai/gpt-oss-20b gpt-oss-20b.gguf --to gguf --require-exact
  hearth convert ./gpt-oss-20b-BF16 ./gpt-oss-20b-4bit --to unsloth-bnb --experts nf4-dq`,
		Args: exactly(2, "a source and a destination"),
		RunE: func(c *cobra.Command, args []string) error {
			if f.to == "" {
				return &usageError{c.CommandPath(), fmt.Errorf("%s needs --to: one of %s", c.CommandPath(), strings.Join(convert.Targets(), ", "))}
			}
			return runConvert(c.Context(), s, args[0], args[1], &f)
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.to, "to", "", "layout to write: "+strings.Join(convert.Targets(), ", "))
	fs.StringVar(&f.options.Experts, "experts", "", "format of the experts: keep, nf4, nf4-dq, mxfp4 or bf16 (default: kept where the layout can, else the layout's own)")
	fs.StringVar(&f.options.Dense, "dense", "", "format of attention, embedding and head: keep, bf16, f16, q8_0 (gguf) or nf4 (attention only) (default keep)")
	fs.BoolVar(&f.options.KeepNested, "keep-nested", false, "fused-nf4: keep double-quantised scales; smaller, read by hearth alone")
	fs.BoolVar(&f.options.RequireExact, "require-exact", false, "refuse, before anything is written, what would change a value")
	fs.Var(&f.shard, "max-shard-size", "longest weight file, such as 2GB (default 5GB)")
	fs.StringVar(&f.options.Tokenizer, "tokenizer", "", "tokenizer.json to use where the source has none")
	fs.BoolVar(&f.dryRun, "dry-run", false, "print the plan, every tensor of it, and write nothing")
	fs.IntVar(&f.threads, "threads", 0, "CPU threads (default: every core)")
	f.hub.add(fs)
	return c
}

func runConvert(ctx context.Context, s Streams, src, dst string, f *convertFlags) error {
	o := f.options
	o.To, o.ShardBytes = convert.Target(f.to), int64(f.shard)
	if err := convert.Check(src, dst, o); err != nil { // before anything is fetched
		return err
	}
	path, name, err := resolveModel(ctx, s.Err, src, &f.hub)
	if err != nil {
		return err
	}
	if name != path {
		o.Name = filepath.Base(name)
	}
	c, err := checkpoint.Open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	plan, err := convert.New(c, dst, o)
	if err != nil {
		return err
	}
	p := &printer{w: s.Err, width: 10}
	p.line("from", "%s: %s, %s", src, c.Layout(), model.Bytes(c.Size()))
	p.line("to", "%s: %s, %s", plan.Destination(), f.to, model.Bytes(plan.Bytes()))
	for _, n := range slices.Concat(c.Notes(), plan.Notes) {
		p.line("note", "%s", n)
	}
	if f.dryRun {
		if err := printTensors(s.Out, plan); err != nil {
			return err
		}
		return printParts(s.Out, plan.Parts())
	}
	for _, x := range plan.Parts() {
		if !x.Exact {
			p.line("warning", "%s: %s is requantised to %s; the error is measured on the way", x.Kind, x.From, x.To)
		}
	}
	start := time.Now()
	bar := &stages{w: s.Err}
	report, err := plan.Run(ctx, convert.RunOptions{Threads: f.threads, Progress: bar.progress})
	bar.finish()
	if err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			p.line("stopped", "run the same command again to go on from here")
		}
		return err
	}
	if err := printParts(s.Out, report.Parts); err != nil {
		return err
	}
	seconds := time.Since(start).Seconds()
	resumed := ""
	if report.Resumed > 0 {
		resumed = fmt.Sprintf(" (%s of it found from an earlier run)", model.Bytes(report.Resumed))
	}
	p.line("done", "%s%s in %.1f s, %s/s; read back and verified in %d pieces", model.Bytes(plan.Bytes()), resumed, seconds,
		model.Bytes(int64(float64(report.Written)/max(seconds, 1e-3))), report.Verified)
	return nil
}

// stages shows a bar for each stage of a conversion in turn.
type stages struct {
	w     io.Writer
	stage convert.Stage
	bar   *progress
}

func (b *stages) progress(s convert.Stage, done, total int64) {
	if s != b.stage || b.bar == nil {
		b.finish()
		b.stage, b.bar = s, newProgress(b.w, string(s), total, false)
	}
	b.bar.set(done)
}

func (b *stages) finish() {
	if b.bar != nil {
		b.bar.finish()
	}
	b.bar = nil
}

// printParts prints what became of each kind of weight. Small tensors are always exact.
func printParts(w io.Writer, parts []convert.Part) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "part\tfrom\tto\tsize\tvalues")
	for _, x := range parts {
		values := "exact"
		switch {
		case !x.Exact && x.Error == nil:
			values = "requantised: the error is measured when it is done"
		case !x.Exact:
			values = x.Error.String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", x.Kind, x.From, x.To, model.Bytes(x.Bytes), values)
	}
	fmt.Fprintf(t, "%s\t\t\t\texact\n", convert.KindVectors)
	return t.Flush()
}

// printTensors prints every tensor of a plan.
func printTensors(w io.Writer, plan *convert.Plan) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "tensor\tdtype\tshape\tfile\toffset\tbytes\tvalues")
	for _, x := range plan.Tensors {
		fmt.Fprintf(t, "%s\t%s\t%v\t%s\t%d\t%d\t%s\n", x.Name, x.DType, x.Shape, x.File, x.Offset, x.Bytes, x.How)
	}
	return t.Flush()
}
