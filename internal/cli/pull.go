package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"hearth/internal/hub"
	"hearth/internal/model"
)

// hubFlags say which files of a repository on a Hugging Face hub are meant, and where they are kept.
type hubFlags struct {
	revision string
	layout   string
	file     string
	dir      string
}

func (f *hubFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.revision, "revision", "", "branch, tag or commit of ORG/NAME (default main)")
	fs.StringVar(&f.layout, "layout", "", "which copy of the model in ORG/NAME: root, or original for original/ (default root)")
	fs.StringVar(&f.file, "file", "", "which GGUF file of ORG/NAME")
	fs.StringVar(&f.dir, "download-dir", "", "folder of the hub cache (default: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub)")
}

func newPull(s Streams) *cobra.Command {
	var (
		f                hubFlags
		include, exclude []string
	)
	c := &cobra.Command{
		Use:   "pull ORG/NAME[@REVISION]",
		Short: "Download a model from a Hugging Face hub",
		Long: `Pull downloads one copy of a model into the official Hugging Face cache, which Python's libraries share, and prints its
path. A download that was stopped goes on where it was; every file is compared with the hub's checksum before it gets its
name. Access tokens come from HF_TOKEN or the token file, another hub from HF_ENDPOINT.`,
		Example: `  hearth pull openai/gpt-oss-20b
  hearth pull openai/gpt-oss-20b --layout original
  hearth pull ggml-org/gpt-oss-20b-GGUF --file gpt-oss-20b-mxfp4.gguf
  hearth serve "$(hearth pull openai/gpt-oss-20b@main)"`,
		Args: exactly(1, "a repository, ORG/NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			ref, err := f.ref(args[0])
			if err != nil {
				return &usageError{c.CommandPath(), err}
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			report := &pullReport{w: s.Err, name: ref.String()}
			r, err := client.Pull(c.Context(), ref, hub.Selection{Layout: f.layout, File: f.file, Include: include, Exclude: exclude}, report)
			report.finish()
			if err != nil {
				return err
			}
			(&printer{w: s.Err, width: 10}).line("pulled", "%s at commit %s: %s, files: %d, fetched now: %d", ref, r.Commit, model.Bytes(size(r.Files)), len(r.Files), r.Fetched)
			_, err = fmt.Fprintln(s.Out, r.Path)
			return err
		},
	}
	f.add(c.Flags())
	c.Flags().StringArrayVar(&include, "include", nil, "only files that match this pattern, instead of one copy of the model; may be repeated")
	c.Flags().StringArrayVar(&exclude, "exclude", nil, "no files that match this pattern; may be repeated")
	return c
}

func size(files []hub.File) (n int64) {
	for _, f := range files {
		n += f.Size
	}
	return n
}

// ref reads ORG/NAME[@REVISION] together with --revision.
func (f *hubFlags) ref(arg string) (hub.Ref, error) {
	ref, ok := hub.ParseRef(arg)
	switch {
	case !ok:
		return ref, fmt.Errorf("%q is no repository: want ORG/NAME or ORG/NAME@REVISION", arg)
	case f.revision == "":
		return ref, nil
	case ref.Revision != "":
		return ref, fmt.Errorf("%q names a revision, and --revision another: give one of them", arg)
	}
	if ref, ok = hub.ParseRef(arg + "@" + f.revision); !ok {
		return ref, fmt.Errorf("--revision %q cannot be a branch, tag or commit", f.revision)
	}
	return ref, nil
}

// client talks to the hub of the environment.
func (f *hubFlags) client() (*hub.Client, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // HF_HOME may name the folder instead
	}
	o, err := hub.FromEnvironment(os.Getenv, home)
	if err != nil {
		return nil, err
	}
	if f.dir != "" {
		o.CacheDir = f.dir
	}
	o.UserAgent = "hearth/" + Version
	return hub.New(o)
}

// resolveModel turns the argument of a command into a path that a reader opens and a name for people. What exists here
// is taken as it is; hearth-demo is the embedded model; ORG/NAME is taken from the hub cache after one question to the hub, or downloaded.
func resolveModel(ctx context.Context, w io.Writer, arg string, f *hubFlags) (path, name string, err error) {
	missing := modelExists(arg)
	if arg == demoName && missing != nil {
		path, err = unpackDemo()
		return path, demoName, err
	}
	ref, refErr := f.ref(arg)
	if _, plain := hub.ParseRef(arg); missing == nil || !plain {
		if missing == nil && (f.revision != "" || f.layout != "" || f.file != "") {
			missing = fmt.Errorf("%s is here: --revision, --layout and --file are for ORG/NAME on a hub; name the folder or file itself", arg)
		}
		return arg, arg, missing
	}
	if refErr != nil {
		return "", "", refErr
	}
	client, err := f.client()
	if err != nil {
		return "", "", err
	}
	report := &pullReport{w: w, name: ref.String()}
	r, err := client.Resolve(ctx, ref, hub.Selection{Layout: f.layout, File: f.file}, report)
	report.finish()
	if errors.Is(err, hub.RepositoryNotFound) || errors.Is(err, hub.Offline) || errors.Is(err, hub.Unreachable) {
		err = fmt.Errorf("no such folder here, and not fetched: %w", err)
	}
	return r.Path, ref.Repo, err
}

// pullReport shows a pull on the terminal or in a log.
type pullReport struct {
	w    io.Writer
	name string

	mu       sync.Mutex
	done     int64
	progress *progress
}

// Begin starts the progress line.
func (r *pullReport) Begin(_ int, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done, r.progress = 0, newProgress(r.w, "fetching "+r.name, total, false)
}

// Add moves it.
func (r *pullReport) Add(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += n
	r.progress.set(r.done)
}

// Note prints a line above it.
func (r *pullReport) Note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if isTerminal(r.w) {
		text = "\r" + text + "\x1b[K"
	}
	fmt.Fprintln(r.w, text)
}

func (r *pullReport) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.progress != nil {
		r.progress.finish()
	}
}
