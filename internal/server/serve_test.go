package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hearth/internal/engine"
	"hearth/internal/model"
)

// TestServe: Serve lets an open request finish, refuses new ones and returns.
func TestServe(t *testing.T) {
	started, gate := make(chan struct{}, 1), make(chan struct{})
	m := &fakeModel{answer: func([]int32, uint64) []int32 { return nil }}
	m.step = func() error {
		select {
		case started <- struct{}{}:
		default:
		}
		<-gate
		return nil
	}
	r := newRigOf(t, m, engine.Options{})
	l, stop, done := r.serve()
	answer := make(chan int, 1)
	go func() { answer <- status(l, `{"prompt":[1],"max_tokens":1}`) }()
	<-started
	stop()
	for !r.server.draining.Load() { // set just before Shutdown
	}
	if w := r.do(http.MethodGet, "/health", ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("health while draining: %d", w.Code)
	}
	close(gate)
	if code := <-answer; code != http.StatusOK {
		t.Errorf("the open request got %d", code)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) { // who asks for the port may meet another process there
		t.Errorf("the listener is not closed after the end: %v", err)
	}
}

// TestServeDrainLimit: a request that does not end in time is ended.
func TestServeDrainLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		m := &fakeModel{
			answer: func([]int32, uint64) []int32 { return nil },
			step:   func() error { <-hold; return nil },
		}
		const drain = 10 * time.Second
		r := newRigOf(t, m, engine.Options{}, func(o *Options) { o.Drain = drain })
		defer close(hold)
		pipes, stop := r.pipe()
		answer := make(chan int, 1)
		client := &http.Client{Transport: &http.Transport{DialContext: pipes.dial, DisableKeepAlives: true}}
		go func() { answer <- statusOf(client, "http://pipe", `{"prompt":[1],"max_tokens":1}`) }()
		synctest.Wait() // the step holds
		begin := time.Now()
		stop()
		if code := <-answer; code != http.StatusServiceUnavailable {
			t.Errorf("the open request got %d", code)
		}
		if took := time.Since(begin); took < drain || took > drain+time.Second {
			t.Errorf("draining took %v", took)
		}
	})
}

// TestServeLostDevice: when the model's device is gone, the request gets an error and Serve returns it, so that the program
// ends.
func TestServeLostDevice(t *testing.T) {
	m := &fakeModel{answer: func([]int32, uint64) []int32 { return nil }}
	m.step = func() error { return fmt.Errorf("cuLaunchKernel: %w", model.ErrLost) }
	r := newRigOf(t, m, engine.Options{})
	l, stop, done := r.serve()
	defer stop()
	if code := status(l, `{"prompt":[1],"max_tokens":1}`); code != http.StatusInternalServerError {
		t.Errorf("the open request got %d", code)
	}
	if err := <-done; !errors.Is(err, model.ErrLost) {
		t.Errorf("Serve returned %v", err)
	}
}

// serve starts the rig's server on a free port.
func (r *rig) serve() (l net.Listener, stop func(), done chan error) {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(r.t.Context())
	done = make(chan error, 1)
	go func() { done <- r.server.Serve(ctx, l) }()
	return l, stop, done
}

// status asks for a completion and returns the answer's status, 0 if there was no answer.
func status(l net.Listener, body string) int {
	return statusOf(http.DefaultClient, "http://"+l.Addr().String(), body)
}

func statusOf(c *http.Client, url, body string) int {
	resp, err := c.Post(url+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// TestDisconnect: a client that goes away ends the engine's work for it, through the whole of net/http.
func TestDisconnect(t *testing.T) {
	for _, stream := range []bool{true, false} {
		t.Run(fmt.Sprintf("stream %t", stream), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testDisconnect(t, stream) })
		})
	}
}

func testDisconnect(t *testing.T, stream bool) {
	const after = 10 // steps
	ctx, leave := context.WithCancel(t.Context())
	ended := make(finishes, 3)
	steps := 0
	m := &fakeModel{
		answer: func([]int32, uint64) []int32 { return nil },
		step: func() error {
			if steps++; steps == after {
				leave()
			}
			time.Sleep(time.Second) // until everything else waits: the server has seen the client leave
			return nil
		},
	}
	r := newRigOf(t, m, engine.Options{Observer: ended})
	pipes, stop := r.pipe()
	defer stop()
	client := &http.Client{Transport: &http.Transport{DialContext: pipes.dial, DisableKeepAlives: true}}
	body := fmt.Sprintf(`{"prompt":[1],"n":3,"max_tokens":2000,"stream":%t}`, stream)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://pipe/v1/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if stream != (err == nil) {
		t.Fatalf("a stream begins before the client leaves, a plain answer does not: %v", err)
	}
	if err == nil {
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("the whole answer came")
		}
		resp.Body.Close()
	}
	for range 3 {
		if reason := <-ended; reason != engine.ReasonAbort || steps > after {
			t.Errorf("a request ended with %v after %d steps", reason, steps)
		}
	}
	r.quiet(t.Context())
}

// TestTimeouts: no limit on an answer, but on a client that does not send or does not read.
func TestTimeouts(t *testing.T) {
	slow := func(t *testing.T) (*rig, finishes) {
		ended := make(finishes, 1)
		m := &fakeModel{
			answer: func([]int32, uint64) []int32 { return nil },
			step:   func() error { time.Sleep(20 * time.Second); return nil },
		}
		return newRigOf(t, m, engine.Options{Observer: ended}), ended
	}
	// talk sends text on a new connection and reads the answer, if it is wanted.
	talk := func(t *testing.T, r *rig, text string) net.Conn {
		pipes, stop := r.pipe()
		t.Cleanup(stop)
		c, err := pipes.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		return c
	}
	post := func(body string, length int) string {
		return fmt.Sprintf("POST /v1/completions HTTP/1.1\r\nHost: pipe\r\nContent-Length: %d\r\n\r\n%s", length, body)
	}
	for _, c := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"an answer may take longer than any read or write", func(t *testing.T) {
			r, ended := slow(t)
			const body = `{"prompt":[1],"max_tokens":30}`
			c := talk(t, r, post(body, len(body)))
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatal(resp, err)
			}
			if reason := <-ended; reason != engine.ReasonLength {
				t.Errorf("the request ended with %v", reason)
			}
		}},
		{"a client that sends half a body", func(t *testing.T) {
			r, _ := slow(t)
			c := talk(t, r, post(`{"prompt":`, 100))
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != http.StatusRequestTimeout {
				t.Fatal(resp, err)
			}
		}},
		{"a client that does not read", func(t *testing.T) {
			r, ended := slow(t)
			const body = `{"prompt":[1],"max_tokens":30,"stream":true}`
			talk(t, r, post(body, len(body)))
			if reason := <-ended; reason != engine.ReasonAbort {
				t.Errorf("the request ended with %v", reason)
			}
		}},
		{"a client that does not read a plain answer", func(t *testing.T) {
			r, ended := slow(t)
			const body = `{"prompt":[1],"max_tokens":1}`
			c := talk(t, r, post(body, len(body)))
			if reason := <-ended; reason != engine.ReasonLength {
				t.Errorf("the request ended with %v", reason)
			}
			time.Sleep(61 * time.Second)
			if got, _ := io.ReadAll(c); len(got) > 0 {
				t.Errorf("the server still held the answer after a minute: %q", got)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) { synctest.Test(t, c.do) })
	}
}

// pipe serves the rig in the process. stop waits for the end.
func (r *rig) pipe() (l *pipeListener, stop func()) {
	l = newPipeListener()
	ctx, cancel := context.WithCancel(r.t.Context())
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := r.server.Serve(ctx, l); err != nil {
			r.t.Error(err)
		}
	}()
	return l, func() { cancel(); <-served }
}

// pipeListener is a network within the process, for time that a test controls.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
