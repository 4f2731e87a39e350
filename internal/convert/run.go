package convert

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"hearth/internal/checkpoint"
)

// partialSuffix is added to the destination's name while it is incomplete.
const partialSuffix = ".partial"

// Stage is what a run is doing.
type Stage string

// The stages.
const (
	StageMeasure Stage = "measuring"
	StageCheck   Stage = "checking what is there"
	StageWrite   Stage = "writing"
	StageVerify  Stage = "verifying"
)

// Progress is told of a stage's bytes, by one goroutine at a time.
type Progress func(s Stage, done, total int64)

// RunOptions say how to run; the zero value uses every core.
type RunOptions struct {
	Threads  int
	Progress Progress
}

// Report is the outcome of a run.
type Report struct {
	Written, Resumed int64 // bytes of tensors: of this run, and found from an earlier one
	Verified         int   // pieces whose values were read back and compared
	Parts            []Part
}

// errNotExact is wrapped by the refusal of a lossy plan.
var errNotExact = errors.New("the conversion would change values")

// Measure carries out the inexact parts of a plan without writing anything and gives their errors.
func (p *Plan) Measure(ctx context.Context, o RunOptions) ([]Part, error) {
	var todo []int
	total := int64(0)
	for i := range p.pieces {
		if it := p.pieces[i].item; it != nil && !it.exact {
			todo = append(todo, i)
			total += p.pieces[i].bytes
		}
	}
	r := &run{plan: p, src: p.src, progress: o.meter(StageMeasure, 0, total)}
	if err := r.each(ctx, o.workers(p), todo, func(w *worker, i int) error {
		res, err := w.do(&p.pieces[i])
		r.finished(i, &res)
		return err
	}); err != nil {
		return nil, err
	}
	parts := p.Parts()
	for _, it := range p.items {
		it.error = Error{}
	}
	return parts, nil
}

// run is a run under way.
type run struct {
	plan     *Plan
	src      *parts
	files    []*target
	journal  *journal
	progress *meter

	mu   sync.Mutex
	sums []uint32
}

// finished keeps a piece's error with its item.
func (r *run) finished(i int, res *result) {
	it := r.plan.pieces[i].item
	r.mu.Lock()
	if it != nil {
		it.error.add(&res.error)
	}
	if r.sums != nil {
		r.sums[i] = res.sum
	}
	r.mu.Unlock()
	r.progress.add(r.plan.pieces[i].bytes)
}

// lookAhead is how far in front of the workers the disk reads.
const lookAhead = 96 << 20

// each lets workers take pieces in order. Weights are fetched from the disk ahead of them.
func (r *run) each(ctx context.Context, workers int, todo []int, do func(w *worker, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	next, fetched := 0, 0
	ahead := int64(0) // bytes between the two
	take := func() (at int, more bool) {
		mu.Lock()
		defer mu.Unlock()
		if at = next; at >= len(todo) {
			return 0, false
		}
		for ; fetched < len(todo) && ahead < lookAhead; fetched++ {
			r.src.ahead(&r.plan.pieces[todo[fetched]])
			ahead += r.plan.pieces[todo[fetched]].bytes
		}
		ahead -= r.plan.pieces[todo[at]].bytes
		next++
		return at, true
	}
	for range workers {
		g.Go(func() error {
			w := &worker{src: r.src, files: r.files}
			for {
				at, more := take()
				if !more {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(w, todo[at]); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// Run carries out the plan: it writes into DESTINATION.partial, or goes on with what an interrupted run of the same plan
// left there, reads everything back, and renames at the end. On failure nothing is under the final name.
func (p *Plan) Run(ctx context.Context, o RunOptions) (*Report, error) {
	if p.opt.RequireExact && !p.Exact() {
		parts, err := p.Measure(ctx, o)
		if err != nil {
			return nil, err
		}
		for _, x := range parts {
			if !x.Exact && !x.Error.Exact() {
				return nil, fmt.Errorf("--require-exact: %w: %s from %s to %s: %v; nothing was written", errNotExact, x.Kind, x.From, x.To, x.Error)
			}
		}
	}
	dir := p.dst + partialSuffix
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	j, entries, err := p.openJournal(dir)
	if err != nil {
		return nil, err
	}
	defer j.file.Close()
	r := &run{plan: p, src: p.src, journal: j, sums: make([]uint32, len(p.pieces))}
	defer r.close()
	if err := r.create(dir); err != nil {
		if len(entries) == 0 { // nothing is lost
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return nil, err
	}
	report, err := r.write(ctx, o, entries)
	if err != nil {
		return nil, err
	}
	// What is in memory already is read back while the disk still writes.
	synced := make(chan error, 1)
	go func() { synced <- r.sync(dir) }()
	report.Verified, err = r.verify(ctx, o, dir)
	if serr := <-synced; serr != nil {
		return nil, serr
	}
	if err != nil {
		return nil, fmt.Errorf("verification failed, so nothing is at %s (run the same command again to redo what is wrong in %s): %w", p.dst, dir, err)
	}
	if err := r.publish(dir); err != nil {
		return nil, err
	}
	report.Parts = p.Parts()
	return report, nil
}

// create makes the files in their full size and writes what does not depend on the weights. A disk without room for them
// is known now.
func (r *run) create(dir string) error {
	if err := r.roomFor(dir); err != nil {
		return err
	}
	for _, x := range r.plan.files {
		f, err := openTarget(filepath.Join(dir, x.name), x.size)
		if err != nil {
			return err
		}
		r.files = append(r.files, f)
		if err := f.writePlain(x.header, 0); err != nil {
			return writeError(err)
		}
	}
	for _, x := range r.plan.extra {
		if err := os.WriteFile(filepath.Join(dir, x.name), x.data, 0o644); err != nil {
			return writeError(err)
		}
	}
	return nil
}

// roomFor compares the disk's free space with what the files in the folder lack.
func (r *run) roomFor(dir string) error {
	free, ok := freeSpace(dir)
	if !ok {
		return nil
	}
	lack := int64(0)
	for _, x := range r.plan.files {
		fi, err := os.Stat(filepath.Join(dir, x.name))
		if err != nil {
			lack += x.size
		} else {
			lack += max(0, x.size-onDisk(fi))
		}
	}
	if lack > free {
		return fmt.Errorf("the disk of %s has %s free, %s too few: the files take %s", dir, gigabytes(free), gigabytes(lack-free), gigabytes(r.plan.Bytes()))
	}
	return nil
}

func gigabytes(n int64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }

func (r *run) close() {
	for _, f := range r.files {
		f.Close() // after a success, closed already
	}
	r.src.files.close()
}

// write does the pieces that an earlier run did not, or did and lost.
func (r *run) write(ctx context.Context, o RunOptions, entries []entry) (*Report, error) {
	report := &Report{}
	done, err := r.resume(ctx, o, entries)
	if err != nil {
		return nil, err
	}
	var todo []int
	total := int64(0)
	for i := range r.plan.pieces {
		n := r.plan.pieces[i].bytes
		total += n
		if done[i] {
			report.Resumed += n
		} else {
			todo = append(todo, i)
			report.Written += n
		}
	}
	r.progress = o.meter(StageWrite, report.Resumed, total)
	return report, r.each(ctx, o.workers(r.plan), todo, func(w *worker, i int) error {
		res, err := w.do(&r.plan.pieces[i])
		if err != nil {
			return err
		}
		r.finished(i, &res)
		return r.journal.add(i, &res)
	})
}

// resume reads back what an earlier run recorded and says which pieces are there.
func (r *run) resume(ctx context.Context, o RunOptions, entries []entry) ([]bool, error) {
	done := make([]bool, len(r.plan.pieces))
	byPiece := map[int]*entry{}
	var todo []int
	total := int64(0)
	for i := range entries {
		e := &entries[i]
		if byPiece[e.Piece] == nil {
			todo = append(todo, e.Piece)
			total += r.plan.pieces[e.Piece].bytes
		}
		byPiece[e.Piece] = e
	}
	if len(todo) == 0 {
		return done, nil
	}
	r.progress = o.meter(StageCheck, 0, total)
	var mu sync.Mutex
	err := r.each(ctx, o.workers(r.plan), todo, func(w *worker, i int) error {
		e := byPiece[i]
		if !w.holds(e, r.plan.files) {
			return nil
		}
		r.finished(i, &result{sum: e.Sum, error: e.Error.error()})
		mu.Lock()
		defer mu.Unlock()
		done[i] = true
		return nil
	})
	return done, err
}

// sync makes sure that everything is on the disk.
func (r *run) sync(dir string) error {
	for _, f := range r.files {
		if err := f.Sync(); err != nil {
			return writeError(err)
		}
		if err := f.Close(); err != nil {
			return writeError(err)
		}
	}
	return syncFolder(dir)
}

// verify opens what was written as any reader would and compares the checksums of its values.
func (r *run) verify(ctx context.Context, o RunOptions, dir string) (int, error) {
	p := r.plan
	path := dir
	if p.single {
		path = filepath.Join(dir, p.files[0].name)
	}
	c, err := checkpoint.Open(path)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := sameConfig(p.src.src.Config(), c.Config()); err != nil {
		return 0, err
	}
	total := int64(0)
	todo := make([]int, len(p.pieces))
	for i := range p.pieces {
		todo[i] = i
		total += p.pieces[i].bytes
	}
	back := &run{plan: p, src: newParts(c), progress: o.meter(StageVerify, 0, total)}
	defer back.close()
	return len(todo), back.each(ctx, o.workers(p), todo, func(w *worker, i int) error {
		sum, err := w.fingerprint(&p.pieces[i])
		if err == nil && sum != r.sums[i] {
			err = errors.New("the values read back are not those that were written")
		}
		if err != nil {
			return fmt.Errorf("%v: %w", &p.pieces[i], err)
		}
		back.progress.add(p.pieces[i].bytes)
		return nil
	})
}

// sameConfig compares what decides about a model's output. Token ids belong to the tokenizer.
func sameConfig(a, b *checkpoint.Config) error {
	x, y := *a, *b
	x.EOS, y.EOS, x.Windows, y.Windows = nil, nil, nil, nil
	x.Pad, y.Pad, x.BOS, y.BOS = 0, 0, 0, 0
	if !slices.Equal(a.Windows, b.Windows) {
		return fmt.Errorf("the configuration reads back with other windows: %v, not %v", b.Windows, a.Windows)
	}
	if fmt.Sprint(x) != fmt.Sprint(y) {
		return fmt.Errorf("the configuration reads back as %+v, not %+v", y, x)
	}
	return nil
}

// publish gives the result its final name. The journal goes first, so that it is never part of a result.
func (r *run) publish(dir string) error {
	p := r.plan
	if _, err := os.Lstat(p.dst); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s has come into being meanwhile; the finished files are in %s", p.dst, dir)
	}
	if err := os.Remove(filepath.Join(dir, journalName)); err != nil {
		return err
	}
	if !p.single {
		if err := os.Rename(dir, p.dst); err != nil {
			return err
		}
		return syncFolder(filepath.Dir(p.dst))
	}
	if err := os.Rename(filepath.Join(dir, p.files[0].name), p.dst); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(p.dst))
}

// identity hashes what a conversion depends on: source files with their times, options, and the plan itself.
func (p *Plan) identity(c *checkpoint.Checkpoint) (sum [32]byte) {
	h := sha256.New()
	e := json.NewEncoder(h) // a hash takes everything
	path, _ := filepath.Abs(c.Path())
	_ = e.Encode([]any{"hearth convert 1", path, p.opt, p.Tensors, p.Files()})
	seen := map[string]bool{}
	for _, t := range c.Tensors() {
		if seen[t.File] {
			continue
		}
		seen[t.File] = true
		if fi, err := os.Stat(filepath.Join(folder(c.Path()), t.File)); err == nil {
			_ = e.Encode([]any{t.File, fi.Size(), fi.ModTime().UnixNano()})
		}
	}
	h.Sum(sum[:0])
	return sum
}

// workers is how many pieces may be under way: all cores, within half a gigabyte of buffers.
func (o *RunOptions) workers(p *Plan) int {
	largest := int64(0)
	for i := range p.pieces {
		if p.pieces[i].item != nil {
			largest = max(largest, p.pieces[i].bytes)
		}
	}
	const budget, floats = 512 << 20, 24 << 20
	n := o.Threads
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	n += 2 // while some wait for the disk
	return max(1, min(n, int(budget/(2*largest+floats))))
}

// meter counts bytes for a progress function.
type meter struct {
	mu          sync.Mutex
	f           Progress
	stage       Stage
	done, total int64
}

// meter begins a stage, of which some may be done already.
func (o *RunOptions) meter(s Stage, done, total int64) *meter {
	m := &meter{f: o.Progress, stage: s, done: done, total: total}
	m.add(0)
	return m
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	if m.f != nil {
		m.f(m.stage, m.done, m.total)
	}
}

// writeError names a full disk as such.
func writeError(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the disk is full: free some space and run the same command again: %w", err)
	}
	return err
}

// syncFolder makes the names in a folder durable, where the system can.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) && runtime.GOOS != "windows" {
		return err
	}
	return nil
}
