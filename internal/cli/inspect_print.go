package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"hearth/internal/checkpoint"
	"hearth/internal/model"
)

func (r *report) write(w io.Writer, asJSON bool, tensors []checkpoint.TensorInfo) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	r.print(w)
	if r.Verify != nil {
		r.Verify.print(w, tensors)
	}
	return nil
}

// print writes the report as a person reads it.
func (r *report) print(w io.Writer) {
	p := &printer{w: w, width: 10}
	k := &r.Config
	p.line("model", "%s", r.Path)
	p.line("layout", "%s, %s in %d tensors", r.Layout, model.Bytes(r.SizeBytes), r.Tensors)
	p.line("shape", "%d layers, hidden %d, %d heads of %d (%d KV), %d experts of %d, %d used", k.Layers, k.Hidden, k.Heads, k.HeadDim, k.KVHeads,
		k.Experts, k.Intermediate, k.TopK)
	p.line("", "vocabulary %d, %d positions, window %d on %d layers", k.Vocab, k.MaxPosition, k.Window, k.WindowLayers)
	p.line("", "%s parameters, %.2f bits each; a token reads %s", count(k.Parameters), k.BitsWeight, model.Bytes(k.BytesToken))
	p.line("", "every tensor has the shape that the configuration asks for")
	if r.Tokenizer != "" {
		p.line("tokenizer", "%s", r.Tokenizer)
	} else {
		p.line("tokenizer", "none in the folder")
	}
	fmt.Fprintf(w, "\n%-18s %-8s %8s %12s %7s\n", "part", "format", "tensors", "bytes", "share")
	for _, q := range r.Parts {
		fmt.Fprintf(w, "%-18s %-8s %8d %12s %6.1f%%\n", q.Role, q.Format, q.Tensors, model.Bytes(q.Bytes), 100*float64(q.Bytes)/float64(max(r.SizeBytes, 1)))
	}
	fmt.Fprintln(w)
	p.line("KV cache", "%s a token and %s of windows a sequence (BF16): %s at %d positions", model.Bytes(r.KV.BytesPerToken),
		model.Bytes(r.KV.BytesPerWindow), model.Bytes(r.KV.BytesAtContext), r.KV.Context)
	for _, f := range r.Fits {
		verdict := "does not fit"
		if f.Fits {
			verdict = "fits"
		}
		p.line("fit", "%s: %s; needs %s, has %s", f.Where, verdict, model.Bytes(f.Needed), model.Bytes(f.Available))
		for _, why := range f.Reasons {
			p.line("", "%s", why)
		}
	}
	for _, n := range r.Notes {
		p.line("note", "%s", n)
	}
}

// count prints a number of parameters as people say it.
func count(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f billion", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.2f million", float64(n)/1e6)
	}
	return fmt.Sprint(n)
}
