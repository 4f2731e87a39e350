package cpu

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// countJob counts how often each item is done.
type countJob struct{ done []atomic.Int32 }

func (j *countJob) do(_ *worker, item int) { j.done[item].Add(1) }

func newTestPool(t *testing.T, threads int, nodes ...[]int) *pool {
	workers := make([]*worker, threads)
	for i := range workers {
		workers[i] = &worker{}
	}
	p := newPool(workers, nodes)
	t.Cleanup(p.close)
	return p
}

// Every item of every operation is done exactly once before run returns, whether helpers are awake, late or parked.
func TestPoolDoesEveryItemOnce(t *testing.T) {
	for _, c := range []struct {
		threads int
		nodes   [][]int
	}{{threads: 1}, {threads: 2}, {threads: 3}, {threads: 9}, {9, [][]int{{0}, {0, 1}}}, {2, [][]int{{0}, {0}, {0}}}} {
		p := newTestPool(t, c.threads, c.nodes...)
		for round := range 2000 {
			n := round % 7
			j := &countJob{make([]atomic.Int32, n)}
			if round%500 == 0 {
				letHelpersPark(p)
			}
			p.run(j, n)
			for i := range j.done {
				if done := j.done[i].Load(); done != 1 {
					t.Fatalf("%d threads, %d nodes, operation %d: item %d of %d done %d times", c.threads, len(c.nodes), round, i, n, done)
				}
			}
		}
	}
}

// letHelpersPark waits until all helpers have parked, which they do when they find nothing to do.
func letHelpersPark(p *pool) {
	for i := range p.helpers {
		for !p.helpers[i].parked.Load() {
			runtime.Gosched()
		}
	}
}

// A worker does its own share first, item after item, and then what others have left of theirs.
func TestPoolSharesAreRuns(t *testing.T) {
	p := newTestPool(t, 3)
	for w, want := range [][]int{{0, 1, 2, 5, 6, 7, 8}, {5, 6, 7, 8, 0, 1, 2}, {6, 7, 8, 0, 1, 2, 5}} {
		var got []int
		p.job = itemFunc(func(_ *worker, item int) { got = append(got, item) })
		p.cut(9)
		p.shares[1].next.Store(5) // 3 and 4 are done
		p.work(p.workers[w])
		if !slices.Equal(got, want) {
			t.Errorf("worker %d does %v, want %v", w, got, want)
		}
	}
}

type panicJob struct{ at int }

func (j *panicJob) do(_ *worker, item int) {
	if item == j.at {
		panic(errors.New("page is gone"))
	}
}

// A fault in one item is the step's error, and the pool goes on.
func TestPoolReportsAFault(t *testing.T) {
	p := newTestPool(t, 3)
	p.run(&panicJob{at: 5}, 9)
	if err := p.takeErr(); err == nil || !strings.Contains(err.Error(), "page is gone") {
		t.Errorf("error is %v", err)
	}
	j := &countJob{make([]atomic.Int32, 9)}
	p.run(j, 9)
	for i := range j.done {
		if j.done[i].Load() != 1 {
			t.Errorf("item %d done %d times after a fault", i, j.done[i].Load())
		}
	}
	if err := p.takeErr(); err != nil {
		t.Errorf("the fault is reported twice: %v", err)
	}
}

// itemFunc is a job for tests.
type itemFunc func(w *worker, item int)

func (f itemFunc) do(w *worker, item int) { f(w, item) }
