package cuda

import (
	"errors"
	"fmt"
)

// graphs keeps captured steps, one for each shape. Replaying one costs a single call of the driver, and the GPU about a
// microsecond a kernel instead of several.
type graphs struct {
	c    *context
	most int // kept at once
	all  map[stepShape]*graph
	turn uint64
}

type graph struct {
	exec uintptr
	used uint64 // turn of the last replay
}

func newGraphs(c *context, most int) *graphs {
	return &graphs{c: c, most: most, all: map[stepShape]*graph{}}
}

// run replays the step of this shape. The first time, record enqueues its kernels, which are captured. A failure to
// capture is an error of the queue: running the kernels one by one instead would only hide it.
func (g *graphs) run(q *queue, key stepShape, record func()) {
	if q.err != nil {
		return
	}
	e := g.all[key]
	if e == nil {
		exec, err := g.capture(q, record)
		if err != nil {
			q.fail(fmt.Errorf("capturing a step of %d tokens: %w", key.tokens, err))
			return
		}
		g.evict(q)
		e = &graph{exec: exec}
		g.all[key] = e
	}
	g.turn++
	e.used = g.turn
	q.call("cuGraphLaunch", func(d *driver) status { return d.graphLaunch(e.exec, g.c.stream) })
}

// capture turns what record enqueues into an executable graph.
func (g *graphs) capture(q *queue, record func()) (exec uintptr, err error) {
	c := g.c
	c.enter()
	defer c.leave()
	if err := c.note("cuStreamBeginCapture", c.d.captureBegin(c.stream)); err != nil {
		return 0, err
	}
	q.capturing = true
	record()
	q.capturing = false
	recorded := q.err
	q.err = nil
	if c.lost != nil {
		return 0, errors.Join(recorded, c.lost)
	}
	graph, s := c.d.captureEnd(c.stream) // also after an error: the stream must leave its capture
	err = c.note("cuStreamEndCapture", s)
	if s == success {
		if err == nil && recorded == nil {
			var log string
			exec, log, s = c.d.graphInstantiate(graph)
			err = c.noteLog("cuGraphInstantiate", s, log)
		}
		err = errors.Join(err, c.note("cuGraphDestroy", c.d.graphDestroy(graph)))
	}
	if recorded != nil {
		return 0, recorded // the cause; the rest follows from it
	}
	return exec, err
}

// evict makes room for one more.
func (g *graphs) evict(q *queue) {
	if len(g.all) < g.most {
		return
	}
	var key stepShape
	var old *graph
	for k, e := range g.all {
		if old == nil || e.used < old.used {
			key, old = k, e
		}
	}
	delete(g.all, key)
	q.call("cuGraphExecDestroy", func(d *driver) status { return d.execDestroy(old.exec) })
}

// close destroys all of them. Nothing may be running.
func (g *graphs) close(q *queue) {
	for _, e := range g.all {
		q.call("cuGraphExecDestroy", func(d *driver) status { return d.execDestroy(e.exec) })
	}
	g.all = map[stepShape]*graph{}
}
