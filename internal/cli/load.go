package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"hearth/internal/checkpoint"
	"hearth/internal/convert"
	"hearth/internal/device"
	"hearth/internal/engine"
	"hearth/internal/harmony"
	"hearth/internal/model"
	"hearth/internal/tokenizer"
)

// modelFlags are what serve and chat share: which device, how much room, which tokenizer.
type modelFlags struct {
	off model.Ablation // only eval sets it

	where         deviceFlags
	maxModelLen   int
	maxSeqs       int
	maxTokens     int
	blockSize     int
	kvBytes       byteSize
	tokenizer     string
	noPrefixCache bool
	maxQueue      int
	quantization  string
	dtype         string
	progress      io.Writer // where loading is shown; nil: nowhere
	hub           hubFlags
}

func (f *modelFlags) add(fs *pflag.FlagSet, s Streams) {
	f.where.add(fs, s)
	fs.IntVar(&f.maxModelLen, "max-model-len", 0, "positions a conversation may reach (default: the model's, or what fits)")
	fs.IntVar(&f.maxSeqs, "max-num-seqs", 0, "sequences that run at once (default 16)")
	fs.IntVar(&f.maxTokens, "max-num-batched-tokens", 0, "tokens computed in one step (default 512, on a GPU 2048)")
	fs.IntVar(&f.blockSize, "block-size", 0, "positions in a page of the KV cache, a multiple of 16 (default 16)")
	fs.Var(&f.kvBytes, "kv-cache-memory-bytes", "room for keys and values, such as 4GiB (default: a quarter of the free memory; on a GPU all that is left)")
	fs.StringVar(&f.tokenizer, "tokenizer", "", "tokenizer.json, or a folder that holds one (default: the model's own)")
	fs.BoolVar(&f.noPrefixCache, "no-enable-prefix-caching", false, "compute every prompt from its first token")
	fs.StringVar(&f.quantization, "quantization", "", "quantise the experts while loading: bitsandbytes (NF4), mxfp4, or none (default: as stored)")
	fs.StringVar(&f.dtype, "dtype", "auto", "round everything else to float16, bfloat16 or float32 (auto: as stored)")
	fs.IntVar(&f.maxQueue, "max-queue", 0, "requests that may wait before new ones get 429 (default 1024)")
	f.hub.add(fs)
}

// loaded is a model that answers: everything serve and chat need.
type loaded struct {
	checkpoint *checkpoint.Checkpoint
	weights    *convert.Requantised
	warnings   []string // of weights, before they were read
	model      *model.Model
	plan       model.Plan
	engine     *engine.Engine
	tokenizer  *tokenizer.Tokenizer
	harmony    *harmony.Encoding // nil when the tokenizer has no Harmony markers
	on         device.Device
	device     device.Info
	gpu        gpu // given back at the end; nil: none

	stopWarming func() // nil: nothing to stop
	loading     time.Duration
}

func (r *loaded) Close() error {
	if r.stopWarming != nil {
		r.stopWarming()
	}
	var errs []error
	if r.engine != nil {
		errs = append(errs, r.engine.Close())
	}
	if r.model != nil {
		errs = append(errs, r.model.Close())
	}
	if r.gpu != nil {
		errs = append(errs, r.gpu.Close())
	}
	return errors.Join(append(errs, r.checkpoint.Close())...)
}

// load opens a checkpoint, plans its memory, loads it on a device and starts an engine.
func load(path string, f *modelFlags, log *slog.Logger, observer engine.Observer) (_ *loaded, err error) {
	if err := modelExists(path); err != nil {
		return nil, err
	}
	c, err := checkpoint.Open(path)
	if err != nil {
		return nil, err
	}
	r := &loaded{checkpoint: c}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	// Reading a vocabulary takes as long as starting a GPU.
	tokenizer := make(chan error, 1)
	go func() { tokenizer <- r.loadTokenizer(f.tokenizer) }()
	err = r.chooseWeights(f, log)
	if err == nil {
		err = r.place(f, log)
	}
	if err := cmp.Or(<-tokenizer, err); err != nil {
		return nil, err
	}
	if err := r.loadWeights(f); err != nil {
		return nil, err
	}
	r.engine, err = engine.New(r.model, engine.Options{MaxQueue: f.maxQueue, PrefixCache: !f.noPrefixCache, Log: log, Observer: observer})
	return r, err
}

// modelExists answers a wrong path before any reader does, with what can be done about it.
func modelExists(path string) error {
	_, err := os.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parts := strings.Split(path, "/"); len(parts) == 2 && parts[0] != "." && parts[0] != ".." && parts[0] != "" {
		return fmt.Errorf("%s: no such folder here; if it is a Hugging Face repository, download it with 'hearth pull %s' and name the folder that this prints", path, path)
	}
	return fmt.Errorf("%s: no such file or folder: name a folder with *.safetensors files", path)
}

// loadTokenizer takes the tokenizer that the flag names, else the model's own, else the built-in one.
func (r *loaded) loadTokenizer(flag string) (err error) {
	switch file := r.checkpoint.TokenizerFile(); {
	case flag != "":
		if st, err := os.Stat(flag); err == nil && st.IsDir() {
			flag = filepath.Join(flag, "tokenizer.json")
		}
		r.tokenizer, err = tokenizer.LoadFile(flag)
	case file != "":
		r.tokenizer, err = tokenizer.LoadFile(file)
	default:
		tokens, special, ok := r.checkpoint.Vocabulary()
		if ok {
			r.tokenizer, err = tokenizer.New(tokens, special)
		} else {
			r.tokenizer, err = tokenizer.O200kHarmony()
		}
	}
	if err != nil {
		return err
	}
	r.harmony, err = harmony.New(r.tokenizer)
	if err != nil {
		return fmt.Errorf("%s: %w: name another with --tokenizer", r.tokenizer.Name(), err)
	}
	return nil
}

// describe prints what was loaded, and how.
func (r *loaded) describe(p *printer) {
	c, plan := r.checkpoint, &r.plan
	p.line("model", "%s: %s, %s", c.Path(), c.Layout(), model.Bytes(c.Size()))
	k := c.Config()
	p.line("", "%d layers, %d experts of which %d, hidden %d, vocabulary %d", k.Layers, k.Experts, k.TopK, k.Hidden, k.Vocab)
	p.line("tokenizer", "%s", r.tokenizer.Name())
	p.line("device", "%s: %s", r.device.Name, r.device.Detail)
	m := r.model.Memory()
	if m.Weights == 0 {
		p.line("weights", "%s read in place from the file's mapping, in their own format", model.Bytes(m.Mapped))
	} else {
		p.line("weights", "%s on the device after %.2f s, %.1f GB/s; the embedding's %s are read in place, a row a token", model.Bytes(m.Weights),
			r.loading.Seconds(), float64(m.Weights)/1e9/r.loading.Seconds(), model.Bytes(m.Mapped))
	}
	p.line("KV cache", "%s (%s): %d positions a sequence, %d in all, %d sequences at once", model.Bytes(plan.KVBytes), r.device.KVFormat,
		plan.MaxContext, plan.FullPages*plan.PageSize, plan.MaxSeqs)
	p.line("workspace", "%s for steps of at most %d tokens", model.Bytes(m.Activation), plan.MaxTokens)
	r.describeChanges(p)
	r.describeNotes(p)
}

// describeNotes prints what was decided on the way: by the checkpoint's reader, the plan and the device.
func (r *loaded) describeNotes(p *printer) {
	for _, n := range slices.Concat(r.checkpoint.Notes(), r.plan.Notes, r.model.Notes()) {
		p.line("note", "%s", n)
	}
}

// byteSize is a flag that takes 1073741824, 512MiB, 4GiB or 4GB.
type byteSize int64

func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return model.Bytes(int64(*b))
}

func (b *byteSize) Type() string { return "size" }

func (b *byteSize) Set(s string) error {
	units := []struct {
		suffix string
		factor float64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || n <= 0 || n*u.factor > 1<<60 {
			break
		}
		*b = byteSize(n * u.factor)
		return nil
	}
	return fmt.Errorf("%q is not a size: write 4GiB or 512MiB", s)
}
