package cpu

import (
	"errors"
	"fmt"
	"runtime"
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
	first  int                   // share to begin with
	tile   []float32             // decoded weight rows, [tileRows, widest input]
	raw    []float32             // the same before they are brought into a level's order
	y      []float32             // products of a tile, [batch rows, tileRows]
	odd    []float32             // the same of rows that are stored apart
	scores []float32             // attention scores of a block's heads, [tokens, group, positions]
	sums   []float32             // sums of a panel's products: of four weight rows after four, [panelRows, 4, lanes]
	at     []int                 // where a batch's rows of activations begin, in bytes
	heads  []float32             // attention output of a block's heads
	act    [tileRows / 2]float32 // activations of a tile's pairs of rows
	scales []float32             // un-nested scales of a tile, one for 64 weights
	tables [][32]byte            // and the values of codes under them
	draw   drawScratch

	batch batchScratch // of a few rows of activations

	codes      []int8    // a row of weights that are integers
	codeScales []float32 // and of their scales, one for 32

	tiles *tileScratch // of products of BF16; nil where there are none
}

// pool shares the items of one operation after another among its workers; the caller is the first of them. Each has a range
// of its own, so that it reads memory in one long run, and whoever is through helps the others. The others
// look for the next operation for a bounded time, giving way to other threads, and then park: a worker that only spins
// ruins a machine whose cores are wanted elsewhere, one that parks at once costs a wake-up for each of some hundred
// operations a token. Whoever comes late finds the operation closed; nobody waits for a worker that did not start.
//
// Where memory is in several NUMA nodes, every node's workers are pinned to its processors, and meet the same weights again
// in each step. Only the caller, whose thread is not ours, is pinned to nothing.
type pool struct {
	workers []*worker
	helpers []helper
	done    chan struct{} // the last worker to leave a closed operation
	ended   sync.WaitGroup

	// state counts the operations in its upper bits and the helpers inside in its lower ones; the bit open between.
	state atomic.Uint64

	job    job
	nodes  int
	shares []share // of each worker
	err    atomic.Pointer[error]
}

// share is a range of items. It has a cache line of its own.
type share struct {
	next atomic.Int64
	end  int64
	_    [112]byte
}

const (
	open      = 1 << 16 // helpers may enter
	operation = 1 << 17 // counts operations
)

// helper is a worker's place to park.
type helper struct {
	parked atomic.Bool
	wake   chan struct{}
}

// spins is how often a worker looks for news before it parks, tight how often before it gives way each time: together
// some tens of microseconds, longer than the serial parts of a step.
const (
	spins = 400
	tight = 200
)

// newPool starts the workers; nodes are the processors of each NUMA node, fewer than two if that does not matter.
func newPool(workers []*worker, nodes [][]int) *pool {
	nodes = nodes[:min(len(nodes), len(workers))]
	p := &pool{workers: workers, helpers: make([]helper, len(workers)-1), nodes: max(1, len(nodes)), shares: make([]share, len(workers)), done: make(chan struct{}, 1)}
	for i := range p.helpers {
		h, w := &p.helpers[i], workers[i+1]
		h.wake = make(chan struct{}, 1)
		w.first = i + 1
		p.ended.Go(func() {
			if len(nodes) > 1 {
				runtime.LockOSThread() // it ends with the worker
				pin(nodes[w.first*len(nodes)/len(workers)])
			}
			p.help(h, w)
		})
	}
	return p
}

// run does the n items of j and returns when all are done. No allocation: j lives in the session.
func (p *pool) run(j job, n int) {
	p.job = j
	p.cut(n)
	if n < 2 || len(p.helpers) == 0 {
		p.work(p.workers[0])
		return
	}
	s := (p.state.Load()/operation + 1) * operation
	p.state.Store(s + open) // nobody is inside
	for i := range min(len(p.helpers), n-1) {
		if h := &p.helpers[i]; h.parked.Load() && h.parked.CompareAndSwap(true, false) {
			h.wake <- struct{}{}
		}
	}
	p.work(p.workers[0])
	p.state.Add(^uint64(open - 1)) // close
	for i := 0; p.state.Load() != s; i++ {
		if i < tight {
			continue
		}
		if i < spins {
			runtime.Gosched()
			continue
		}
		<-p.done // or a leftover of an earlier operation: look again
	}
}

// cut gives each worker its share of n items.
func (p *pool) cut(n int) {
	for i := range p.shares {
		p.shares[i].next.Store(int64(n * i / len(p.shares)))
		p.shares[i].end = int64(n * (i + 1) / len(p.shares))
	}
}

// help takes part in one operation after another until close.
func (p *pool) help(h *helper, w *worker) {
	var seen uint64
	for idle := 0; ; idle++ {
		s := p.state.Load()
		if s == stopped {
			return
		}
		if s&open != 0 && s/operation != seen {
			if !p.state.CompareAndSwap(s, s+1) {
				continue // another helper came or left
			}
			seen, idle = s/operation, 0
			p.work(w)
			if left := p.state.Add(^uint64(0)); left%operation == 0 {
				select {
				case p.done <- struct{}{}:
				default:
				}
			}
			continue
		}
		if idle < tight {
			continue
		}
		if idle < spins {
			runtime.Gosched()
			continue
		}
		p.park(h, seen)
		idle = 0
	}
}

// stopped is the state of a closed pool.
const stopped = ^uint64(0)

// park sleeps until run or close wakes the helper, unless there is news already.
func (p *pool) park(h *helper, seen uint64) {
	h.parked.Store(true)
	if s := p.state.Load(); s == stopped || s&open != 0 && s/operation != seen {
		if h.parked.CompareAndSwap(true, false) {
			return
		}
	}
	<-h.wake // sent by whoever took parked back
}

// work claims items until none is left, those of the worker's own share first. A fault while reading a mapping (the file
// shrank, the disk failed) arrives as a panic and becomes the step's error instead of the end of the process.
func (p *pool) work(w *worker) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err := fmt.Errorf("cpu operation %T failed: %v", p.job, r)
			if isFault(r) {
				err = errUnreadable
			}
			p.err.CompareAndSwap(nil, &err)
			for i := range p.shares {
				p.shares[i].next.Store(p.shares[i].end)
			}
		}
	}()
	for i := range p.shares {
		part := &p.shares[(w.first+i)%len(p.shares)]
		for {
			item := part.next.Add(1) - 1
			if item >= part.end {
				break
			}
			p.job.do(w, int(item))
		}
	}
}

// errUnreadable stands for a fault in a mapping.
var errUnreadable = errors.New("weights cannot be read: the checkpoint's file was cut short, or its disk failed")

func isFault(recovered any) bool {
	_, fault := recovered.(interface{ Addr() uintptr })
	return fault
}

// takeErr returns the first failure since the last call.
func (p *pool) takeErr() error {
	if e := p.err.Swap(nil); e != nil {
		return *e
	}
	return nil
}

// close ends the helpers and waits for them. No operation may be running.
func (p *pool) close() {
	p.state.Store(stopped)
	for i := range p.helpers {
		if h := &p.helpers[i]; h.parked.CompareAndSwap(true, false) {
			h.wake <- struct{}{}
		}
	}
	p.ended.Wait()
}
