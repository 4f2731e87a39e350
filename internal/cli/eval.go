package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"hearth/demo"
	"hearth/internal/engine"
	"hearth/internal/eval"
	"hearth/internal/harmony"
)

type evalFlags struct {
	model     modelFlags
	items     string
	reference string
	plot      string
	asJSON    bool
	failures  bool
	limit     int
	ablate    []string
}

func newEval(s Streams) *cobra.Command {
	var f evalFlags
	c := &cobra.Command{
		Use:   "eval [MODEL]",
		Short: "Score a model on held-out items",
		Long: `Eval asks a model every item of a held-out set, greedily, and prints exact match by skill and tokens a second. With
--reference it also compares distributions: mean KL divergence and how often both think the same token most likely, over
the reference's own answers, whose activations stay float32. Without MODEL it scores the embedded demo model on the set that comes with it.`,
		Example: "  hearth eval\n  hearth eval ./converted-to-nf4 --reference ./original --plot nf4.svg",
		Args:    atMost(1, "a model folder or file"),
		RunE: func(c *cobra.Command, args []string) error {
			return runEval(c.Context(), s, args, &f)
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.items, "items", "", "items, one JSON object a line (default: those of the demo model)")
	fs.StringVar(&f.reference, "reference", "", "compare distributions with this model's; hearth-demo is the embedded one")
	fs.StringVar(&f.plot, "plot", "", "draw exact match by skill into this SVG file")
	fs.BoolVar(&f.asJSON, "json", false, "print JSON, wrong answers included")
	fs.BoolVar(&f.failures, "failures", false, "list the wrong answers")
	fs.IntVar(&f.limit, "limit", 0, "ask only this many items, spread evenly")
	fs.StringSliceVar(&f.ablate, "ablate", nil, "switch off sinks, windows or both, as engines without them do")
	f.model.add(fs, s)
	return c
}

func runEval(ctx context.Context, s Streams, args []string, f *evalFlags) error {
	if f.limit < 0 {
		return fmt.Errorf("--limit %d: want the number of items, or 0 for all", f.limit)
	}
	items, err := evalItems(f.items)
	if err != nil {
		return err
	}
	items = spread(items, f.limit)
	reference := f.model // the reference keeps what is switched off or rounded
	reference.where.activations = "float32"
	for _, part := range f.ablate {
		switch part {
		case "sinks":
			f.model.off.Sinks = true
		case "windows":
			f.model.off.Windows = true
		default:
			return fmt.Errorf("--ablate %q: want sinks, windows, or both with a comma", part)
		}
	}
	subject, r, err := evalSubject(ctx, s.Err, modelArg(args), &f.model)
	if err != nil {
		return err
	}
	defer r.Close()
	for _, note := range r.model.Notes() {
		fmt.Fprintln(s.Err, note)
	}
	o := eval.Options{Parallel: r.plan.MaxSeqs}
	if f.reference != "" {
		ref, rr, err := evalSubject(ctx, s.Err, f.reference, &reference)
		if err != nil {
			return fmt.Errorf("--reference: %w", err)
		}
		defer rr.Close()
		o.Reference = ref
	}
	p := newProgress(s.Err, "asking", int64(len(items)), true)
	o.Progress = func(done, _ int) { p.set(int64(done)) }
	report, err := eval.Run(ctx, subject, items, o)
	p.finish()
	if err != nil {
		return err
	}
	if f.plot != "" {
		if err := os.WriteFile(f.plot, []byte(report.SVG("Exact match by skill: "+filepath.Base(r.checkpoint.Path()))), 0o644); err != nil {
			return fmt.Errorf("--plot: %w", err)
		}
	}
	if f.asJSON {
		e := json.NewEncoder(s.Out)
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	report.Print(s.Out)
	if f.failures {
		for _, x := range report.Failures {
			fmt.Fprintf(s.Out, "\n%s\n  want %q\n  got  %q\n", x.ID, x.Want, x.Got)
		}
	}
	return nil
}

// evalItems reads the named file, or the demo's own items.
func evalItems(path string) ([]eval.Item, error) {
	var in io.Reader
	if path == "" {
		path = "the embedded items"
		r, err := demo.Items()
		if err != nil {
			return nil, err
		}
		in = r
	} else {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("--items: %w", err)
		}
		defer file.Close()
		in = file
	}
	items, err := eval.ReadItems(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return items, nil
}

// spread keeps n items, evenly over the set; 0 keeps all.
func spread(items []eval.Item, n int) []eval.Item {
	if n == 0 || n >= len(items) {
		return items
	}
	out := make([]eval.Item, n)
	for i := range out {
		out[i] = items[i*len(items)/n]
	}
	return out
}

// evalSubject loads a model to be asked. Prefix caching stays on: the system message is the same in all items.
func evalSubject(ctx context.Context, w io.Writer, arg string, f *modelFlags) (*eval.Subject, *loaded, error) {
	path, _, err := resolveModel(ctx, w, arg, &f.hub)
	if err != nil {
		return nil, nil, err
	}
	r, err := load(path, f, slog.New(slog.DiscardHandler), engine.Observer(nil))
	if err != nil {
		return nil, nil, err
	}
	return &eval.Subject{
		Engine: r.engine, Harmony: r.harmony, EOS: r.eos(), Vocab: r.checkpoint.Config().Vocab,
		Prompt: harmony.PromptOptions{Identity: harmony.DefaultIdentity, KnowledgeCutoff: harmony.DefaultKnowledgeCutoff},
	}, r, nil
}
