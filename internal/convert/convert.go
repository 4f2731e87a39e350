// Package convert rewrites a GPT-OSS checkpoint in another layout, and requantises its weights where that is asked for,
// into files or on the way to a device. A conversion is planned first, to the last byte, then carried out in bounded
// pieces by all cores, read back and verified, and only then given its final name. It never changes a value without
// saying so and by how much, never overwrites a file and never holds more than a few pieces of the model in memory.
package convert

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hearth/internal/checkpoint"
	"hearth/internal/dtype"
)

// Target is a layout that can be written.
type Target string

// The targets.
const (
	HFMXFP4    Target = "hf-mxfp4"    // Hugging Face MXFP4
	HFBF16     Target = "hf-bf16"     // Hugging Face, experts in plain numbers [experts, in, out]
	OpenAI     Target = "openai"      // OpenAI's original names
	UnslothBNB Target = "unsloth-bnb" // one bitsandbytes tensor for each expert
	FusedNF4   Target = "fused-nf4"   // one bitsandbytes tensor for each layer and projection, [experts, out, in]
	GGUF       Target = "gguf"        // llama.cpp
)

// Targets lists the targets as --to takes them.
func Targets() []string {
	return []string{string(HFMXFP4), string(HFBF16), string(OpenAI), string(UnslothBNB), string(FusedNF4), string(GGUF)}
}

// What --experts and --dense take. Auto keeps what the target can hold and otherwise takes the target's own format.
const (
	Auto  = ""
	Keep  = "keep"
	NF4   = "nf4"
	NF4DQ = "nf4-dq" // double-quantised: 8-bit scales
	MXFP4 = "mxfp4"
	BF16  = "bf16"
	F16   = "f16"
	Q8_0  = "q8_0"
)

// Options say what to write.
type Options struct {
	To           Target
	Experts      string // Auto, Keep, NF4, NF4DQ, MXFP4 or BF16
	Dense        string // Auto (as Keep), Keep, BF16, F16, Q8_0 or NF4
	KeepNested   bool   // FusedNF4: keep 8-bit scales, which only this program reads
	RequireExact bool   // refuse a plan that would change any value
	ShardBytes   int64  // longest weight file; 0: 5 GB
	Tokenizer    string // tokenizer.json for a GGUF, where the source has none
	Name         string // the model's name in a GGUF; "": that of the source's folder or file
}

// expertChoices says which formats of experts a target has a form for.
var expertChoices = map[Target][]string{
	HFMXFP4: {MXFP4}, OpenAI: {MXFP4}, HFBF16: {BF16}, UnslothBNB: {NF4, NF4DQ, BF16}, FusedNF4: {NF4, NF4DQ}, GGUF: {MXFP4, BF16},
}

// denseChoices says the same of attention, embedding and head.
var denseChoices = map[Target][]string{
	HFMXFP4: {BF16, F16}, OpenAI: {BF16, F16}, HFBF16: {BF16, F16}, UnslothBNB: {BF16, F16, NF4}, FusedNF4: {BF16, F16, NF4},
	GGUF: {BF16, F16, Q8_0},
}

const defaultShard = 5_000_000_000

func (o *Options) check() error {
	experts, ok := expertChoices[o.To]
	switch {
	case !ok:
		return fmt.Errorf("--to %q: want one of %s", o.To, strings.Join(Targets(), ", "))
	case o.Experts != Auto && o.Experts != Keep && !slices.Contains(experts, o.Experts):
		return fmt.Errorf("--experts %s: %s has no form for that; possible are keep, %s", o.Experts, o.To, strings.Join(experts, ", "))
	case o.Dense != Auto && o.Dense != Keep && !slices.Contains(denseChoices[o.To], o.Dense):
		return fmt.Errorf("--dense %s: %s has no form for that; possible are keep, %s", o.Dense, o.To, strings.Join(denseChoices[o.To], ", "))
	case o.To == FusedNF4 && o.Experts == NF4DQ && !o.KeepNested:
		return fmt.Errorf("--experts %s: %s has double-quantised scales only with --keep-nested; leave one out or give both", o.Experts, o.To)
	case o.KeepNested && o.Experts == NF4:
		return fmt.Errorf("--keep-nested and --experts %s exclude each other: it has float32 scales; %s has nested ones", o.Experts, NF4DQ)
	case o.KeepNested && o.To != FusedNF4:
		return fmt.Errorf("--keep-nested belongs to --to %s", FusedNF4)
	case o.ShardBytes < 0:
		return fmt.Errorf("--max-shard-size %d is negative", o.ShardBytes)
	}
	return nil
}

// Tensor is one tensor of the output.
type Tensor struct {
	Name   string
	DType  string // as the format of the file names it
	Shape  []int  // outermost axis first
	Bytes  int64
	File   string // base name
	Offset int64  // of its first byte in the file
	How    string // how it is made from the source

	gguf  uint32 // type id in a GGUF
	file  int
	fixed []byte // contents that are known beforehand
}

// Part is a row of the plan's summary: one kind of weight, and what becomes of it.
type Part struct {
	Kind     Kind
	From, To string // formats
	Bytes    int64  // written
	Exact    bool   // by construction; otherwise the error is measured
	Error    *Error // set after a measurement or a run, nil where Exact
}

// Plan is a conversion that has been worked out to the last byte and not begun.
type Plan struct {
	Tensors []*Tensor
	Notes   []string

	src    *parts
	opt    Options
	dst    string
	single bool // the destination is one file
	items  []*item
	pieces []piece
	files  []outFile
	extra  []sideFile
	state  [32]byte // identifies source, options and plan, for resuming
}

// outFile is one weight file.
type outFile struct {
	name   string
	header []byte
	size   int64
}

// sideFile is a small file that goes with the weights.
type sideFile struct {
	name string
	data []byte
}

// Check refuses what no checkpoint at src could be converted to: options that exclude each other, a destination that is
// taken. New does so too; a source that must be fetched first is better refused before.
func Check(src, dst string, o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	return checkPlaces(src, filepath.Clean(dst), o.To)
}

// New plans the conversion of an open checkpoint into dst, a folder or, for a GGUF, a name ending in .gguf. It refuses
// what it cannot do before anything is written. The checkpoint must stay open while the plan is used.
func New(c *checkpoint.Checkpoint, dst string, o Options) (*Plan, error) {
	if err := Check(c.Path(), dst, o); err != nil {
		return nil, err
	}
	if o.ShardBytes == 0 {
		o.ShardBytes = defaultShard
	}
	dst = filepath.Clean(dst)
	p := &Plan{src: newParts(c), opt: o, dst: dst, single: o.To == GGUF && strings.EqualFold(filepath.Ext(dst), ".gguf")}
	b := &builder{plan: p, cfg: c.Config(), small: smallFormat(c)}
	p.src.planned(b.small != dtype.Invalid || o.To == GGUF)
	defer p.src.planned(false)
	if err := checkpoint.Guard(func() error { return b.model(c) }); err != nil {
		return nil, fmt.Errorf("%s to %s: %w", c.Path(), o.To, err)
	}
	b.cut()
	p.state = p.identity(c)
	return p, nil
}

// checkPlaces makes sure that nothing is overwritten.
func checkPlaces(src, dst string, to Target) error {
	a, err := filepath.Abs(src)
	if err != nil {
		return err
	}
	b, err := filepath.Abs(dst)
	if err != nil {
		return err
	}
	if a == b || a == b+partialSuffix || sameFile(src, dst) {
		return fmt.Errorf("%s is the source: a checkpoint cannot be converted in place; name another destination", dst)
	}
	if _, err := os.Lstat(dst); err == nil {
		return fmt.Errorf("%s exists already: name a destination that does not, or remove it", dst)
	} else if !os.IsNotExist(err) {
		return err
	}
	if fi, err := os.Stat(filepath.Dir(b)); err != nil {
		return err
	} else if !fi.IsDir() {
		return fmt.Errorf("%s is not a folder", filepath.Dir(b))
	}
	if to != GGUF && strings.EqualFold(filepath.Ext(dst), ".gguf") {
		return fmt.Errorf("%s: --to %s writes a folder, not a GGUF file", dst, to)
	}
	return nil
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// Destination is where the result will lie.
func (p *Plan) Destination() string { return p.dst }

// Bytes is the size of all weight files.
func (p *Plan) Bytes() (n int64) {
	for _, f := range p.files {
		n += f.size
	}
	return n
}

// Files lists the names of everything that will be written.
func (p *Plan) Files() (names []string) {
	for _, f := range p.files {
		names = append(names, f.name)
	}
	for _, f := range p.extra {
		names = append(names, f.name)
	}
	return names
}

// Parts sums the plan up, a row for each kind of weight and format.
func (p *Plan) Parts() (rows []Part) {
	type key struct {
		kind     Kind
		from, to string
		exact    bool
	}
	at := map[key]int{}
	for _, it := range p.items {
		k := key{it.weight.kind(), it.from, it.to, it.exact}
		i, ok := at[k]
		if !ok {
			i = len(rows)
			at[k] = i
			rows = append(rows, Part{Kind: k.kind, From: k.from, To: k.to, Exact: k.exact})
		}
		rows[i].Bytes += it.bytes
		if it.error.n > 0 {
			if rows[i].Error == nil {
				rows[i].Error = &Error{}
			}
			rows[i].Error.add(&it.error)
		}
	}
	return rows
}

// Exact says whether every part is exact by construction.
func (p *Plan) Exact() bool {
	return !slices.ContainsFunc(p.items, func(it *item) bool { return !it.exact })
}
