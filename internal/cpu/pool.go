package cpu

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// A job is one operation cut into independent items. Items are claimed one by one, so a result may not depend on
// which worker computes it.
type job interface {
	do(w *worker, item int)
}

// worker is a thread's scratch memory.
type worker struct {
	k      *kernels
	tile   []float32  // decoded weight rows, [tileRows, widest input]
	y      []float32  // products of a tile, [batch rows, tileRows]
	scores []float32  // attention scores of a group of heads, [group, context]
	sums   []float32  // unfinished sums of a panel, eight lanes each, [tileRows, panelRows, 8]
	scales []float32  // un-nested scales of a tile
	same   [8]float32 // results of one row, taken several times
	draw   drawScratch
}

// pool keeps its workers parked between operations; the caller is the first of them.
type pool struct {
	workers []*worker
	start   []chan struct{} // one for each worker but the first
	wg      sync.WaitGroup

	job  job
	n    int
	next atomic.Int64
	err  atomic.Pointer[error]
}

func newPool(workers []*worker) *pool {
	p := &pool{workers: workers}
	for _, w := range workers[1:] {
		c := make(chan struct{})
		p.start = append(p.start, c)
		go func() {
			for range c {
				p.work(w)
				p.wg.Done()
			}
		}()
	}
	return p
}

// run does the n items of j and returns when all are done. No allocation: j lives in the session.
func (p *pool) run(j job, n int) {
	p.job, p.n = j, n
	p.next.Store(0)
	helpers := min(len(p.start), n-1)
	p.wg.Add(max(helpers, 0))
	for i := range helpers {
		p.start[i] <- struct{}{}
	}
	p.work(p.workers[0])
	p.wg.Wait()
}

// work claims items until none is left. A fault while reading a mapping (the file shrank, the disk failed) arrives as
// a panic and becomes the step's error instead of the end of the process.
func (p *pool) work(w *worker) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err := fmt.Errorf("cpu operation %T failed: %v", p.job, r)
			p.err.CompareAndSwap(nil, &err)
			p.next.Store(int64(p.n))
		}
	}()
	for {
		i := int(p.next.Add(1)) - 1
		if i >= p.n {
			return
		}
		p.job.do(w, i)
	}
}

// takeErr returns the first failure since the last call.
func (p *pool) takeErr() error {
	if e := p.err.Swap(nil); e != nil {
		return *e
	}
	return nil
}

func (p *pool) close() {
	for _, c := range p.start {
		close(c)
	}
}
