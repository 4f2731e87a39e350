package cuda

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"hearth/internal/device"
	"hearth/internal/testgpu"
)

// A captured step does what its kernels did when they were enqueued one by one, each time anew; the one that was not used
// for longest makes room.
func TestGraphs(t *testing.T) {
	m, c := simContext(t, testgpu.Config{})
	q := c.queue
	b, err := c.alloc(64, useWorkspace)
	if err != nil {
		t.Fatal(err)
	}
	defer c.free(b)
	g := newGraphs(c, 2)
	defer g.close(q)
	captures := 0
	step := func(tokens int) []byte {
		q.set(b.ptr, byte(tokens), 64)
		g.run(q, stepShape{tokens: tokens}, func() {
			captures++
			q.copy(b.ptr+32, b.ptr, 32)
			q.zero(b.ptr, 16)
		})
		got := make([]byte, 64)
		q.download(got, b.ptr)
		if err := q.sync(); err != nil {
			t.Fatal(err)
		}
		return got
	}
	for i, tokens := range []int{1, 2, 1, 3, 1, 2} { // 3 evicts 2, 2 comes back and evicts 3
		got := step(tokens)
		want := slices.Concat(make([]byte, 16), slices.Repeat([]byte{byte(tokens)}, 48))
		if !slices.Equal(got, want) {
			t.Errorf("step %d of %d tokens: %v", i, tokens, got)
		}
	}
	if captures != 4 || len(m.execs) != 2 {
		t.Errorf("%d captures, %d kept: want 4 and 2", captures, len(m.execs))
	}
}

// A failure in any call of a capture is an error, leaves the stream out of the capture, and nothing behind.
func TestCaptureFails(t *testing.T) {
	for call, want := range map[string]string{
		"cuStreamBeginCapture": "cuStreamBeginCapture",
		"cuMemsetD8Async":      "cuMemsetD8Async",
		"cuStreamEndCapture":   "cuStreamEndCapture",
		"cuGraphInstantiate":   "cuGraphInstantiate",
		"cuGraphDestroy":       "cuGraphDestroy",
		"cuGraphLaunch":        "cuGraphLaunch",
	} {
		t.Run(call, func(t *testing.T) {
			m, c := simContext(t, testgpu.Config{})
			b, err := c.alloc(64, useWorkspace)
			if err != nil {
				t.Fatal(err)
			}
			defer c.free(b)
			q, g := c.queue, newGraphs(c, 2)
			defer g.close(q)
			run := func() error {
				g.run(q, stepShape{tokens: 5}, func() { q.zero(b.ptr, 64) })
				return q.sync()
			}
			m.failAfter(call, 1, invalidValue)
			if err := run(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v", err)
			}
			if m.capturing {
				t.Error("the stream is still capturing")
			}
			if call == "cuGraphDestroy" { // the graph that could not be destroyed
				clear(m.graphs)
				clear(m.execs)
			}
			if err := run(); err != nil {
				t.Errorf("the next step: %v", err)
			}
		})
	}
}

func TestNoCopiesWhileCapturing(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	q, g := c.queue, newGraphs(c, 2)
	for want, do := range map[string]func(){
		"capturing a step of 7 tokens: upload while a graph is captured":   func() { q.upload(1, []byte{1}) },
		"capturing a step of 7 tokens: download while a graph is captured": func() { q.download([]byte{1}, 1) },
		"capturing a step of 7 tokens: sync while a graph is captured":     func() { q.fail(q.sync()) },
	} {
		g.run(q, stepShape{tokens: 7}, do)
		if err := q.sync(); err == nil || err.Error() != want {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestLostWhileCapturing(t *testing.T) {
	m, c := simContext(t, testgpu.Config{})
	q, g := c.queue, newGraphs(c, 2)
	m.failAfter("cuMemsetD8Async", 1, launchFailed)
	g.run(q, stepShape{tokens: 1}, func() { q.zero(1, 1) })
	if err := q.sync(); !errors.Is(err, device.ErrLost) {
		t.Errorf("error %v", err)
	}
	if n := m.calls["cuStreamEndCapture"]; n != 0 {
		t.Errorf("the driver was called %d times after the loss", n)
	}
	m.capturing = false
}
