package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Back-off between attempts doubles from the first to the largest pause; a server may ask for up to patience.
const (
	firstPause   = time.Second
	largestPause = 30 * time.Second
	patience     = 5 * time.Minute
	redirects    = 5
)

var errStalled = errors.New("no byte arrived")

// temporary is a failure after which the same request may succeed, not before after has passed.
type temporary struct {
	err   error
	after time.Duration
}

func (t *temporary) Error() string { return t.err.Error() }
func (t *temporary) Unwrap() error { return t.err }

// again runs f until it succeeds, fails for good, or fails so many times in a row without a byte gained.
func (c *Client) again(ctx context.Context, what string, attempts int, rep Report, f func() (gained bool, err error)) error {
	for failures := 0; ; {
		gained, err := f()
		var t *temporary
		switch {
		case err == nil:
			return nil
		case canceled(ctx):
			return ctx.Err()
		case !errors.As(err, &t):
			return err
		case gained:
			failures = 0
		}
		if failures++; failures >= attempts || t.after > patience {
			return t.err
		}
		pause := c.pause(failures, t.after)
		rep.Note(fmt.Sprintf("%s: %v: trying again in %s", what, t.err, pause.Round(100*time.Millisecond)))
		if err := c.sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// pause spreads clients that failed together: between half of the doubled time and all of it, never less than asked.
func (c *Client) pause(failures int, after time.Duration) time.Duration {
	d := min(firstPause<<min(failures-1, 10), largestPause)
	return max(time.Duration(float64(d)*(0.5+c.jitter()/2)), after)
}

// exchanged is an answer whose body must be read and closed within the stall limit.
type exchanged struct {
	*http.Response
	c     *Client
	ctx   context.Context // the request's own: its cause tells a stall from the caller's cancellation
	timer *time.Timer
	stop  context.CancelCauseFunc
	hub   http.Header // of the last answer that came from the hub itself, not from storage
	onHub bool        // this answer is the hub's
}

// Read gives the body and pushes the stall limit on with every byte.
func (x *exchanged) Read(b []byte) (int, error) {
	n, err := x.Body.Read(b)
	if n > 0 {
		x.timer.Reset(x.c.o.Stall)
	}
	return n, err
}

func (x *exchanged) close() {
	x.timer.Stop()
	x.stop(nil)
	x.Body.Close()
}

// broken names the failure of a read.
func (x *exchanged) broken(err error) error {
	if cause := context.Cause(x.ctx); errors.Is(cause, errStalled) {
		err = cause
	}
	return &temporary{err: x.c.transportError(err, x.Request.URL.Host)}
}

// exchange sends one request and follows redirects: within the hub with the token, to any other place without it. A
// from of 0 or more asks for the bytes from there on. A HEAD stops where the hub hands over to storage.
func (c *Client) exchange(ctx context.Context, method, address string, from int64) (*exchanged, error) {
	u, err := parseHTTP(address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	x := &exchanged{c: c, ctx: ctx, stop: stop, hub: http.Header{}}
	x.timer = time.AfterFunc(c.o.Stall, func() { stop(errStalled) })
	for range redirects {
		if err := c.send(x, method, u, from); err != nil {
			x.timer.Stop()
			stop(nil)
			return nil, err
		}
		location := x.Header.Get("Location")
		if x.StatusCode < 300 || x.StatusCode > 399 || location == "" {
			return x, nil
		}
		next, err := u.Parse(location)
		if err == nil && u.Scheme == "https" && next.Scheme != "https" {
			err = errors.New("leaves TLS")
		}
		if err == nil {
			_, err = parseHTTP(next.String())
		}
		if err != nil {
			x.close()
			return nil, fail(ServerFault, err, "%s: redirects to %.80q, which %v", u.Host, location, err)
		}
		if method == http.MethodHead && originOf(next) != c.origin {
			return x, nil
		}
		x.Body.Close()
		u = next
	}
	x.close()
	return nil, fail(ServerFault, nil, "%s: redirects more than %d times", u.Host, redirects)
}

// send does one hop of an exchange.
func (c *Client) send(x *exchanged, method string, u *url.URL, from int64) error {
	r, err := http.NewRequestWithContext(x.ctx, method, u.String(), nil)
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", c.o.UserAgent)
	r.Header.Set("Accept-Encoding", "identity")
	if from > 0 {
		r.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
	}
	x.onHub = originOf(u) == c.origin
	if x.onHub && c.o.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	x.Response, err = c.http.Do(r)
	if err != nil {
		if cause := context.Cause(x.ctx); errors.Is(cause, errStalled) {
			err = cause
		}
		e := c.transportError(err, u.Host)
		if permanent(err) {
			return e
		}
		return &temporary{err: e}
	}
	x.timer.Reset(c.o.Stall)
	if x.onHub {
		x.hub = x.Header
	}
	return nil
}

// refused turns a status of 400 or more into an error, temporary where asking again can help.
func (c *Client) refused(x *exchanged, ref Ref, what string) error {
	err := c.statusError(x.Response, ref, what)
	if !x.onHub {
		// Storage refuses an address whose signature ran out; the next attempt gets a fresh one from the hub.
		return &temporary{err: fail(ServerFault, nil, "%s: %s: storage at %s answers %s", ref, what, x.Request.URL.Host, x.Status), after: c.retryAfter(x.Header)}
	}
	switch x.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &temporary{err: err, after: c.retryAfter(x.Header)}
	}
	return err
}

// retryAfter reads how long a server asks to wait: Retry-After in seconds or as a date, or the hub's own
// RateLimit: "api";r=0;t=55.
func (c *Client) retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		for p := range strings.SplitSeq(h.Get("RateLimit"), ";") {
			if t, ok := strings.CutPrefix(strings.TrimSpace(p), "t="); ok {
				v = t
			}
		}
	}
	if n, err := strconv.Atoi(v); err == nil && n >= 0 {
		return time.Duration(min(n, 1<<30)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(c.now()), 0)
	}
	return 0
}

// contentRange is the part of a file that a 206 answer carries.
type contentRange struct {
	first, last, total int64 // bytes first to last, both included, of total; total is -1 where the server leaves it out
}

// parseContentRange reads "bytes FIRST-LAST/TOTAL" or "bytes FIRST-LAST/*".
func parseContentRange(s string) (r contentRange, err error) {
	bad := fmt.Errorf("Content-Range %.80q is not understood", s)
	unit, rest, _ := strings.Cut(s, " ")
	span, total, ok := strings.Cut(rest, "/")
	first, last, dash := strings.Cut(span, "-")
	if !strings.EqualFold(unit, "bytes") || !ok || !dash {
		return r, bad
	}
	number := func(s string) int64 {
		if n, err := strconv.ParseUint(s, 10, 63); err == nil && s[0] != '+' {
			return int64(n)
		}
		return -1
	}
	r.first, r.last, r.total = number(first), number(last), -1
	if total != "*" {
		if r.total = number(total); r.total < 0 {
			return contentRange{}, bad
		}
	}
	if r.first < 0 || r.last < r.first || r.total >= 0 && r.last >= r.total {
		return contentRange{}, bad
	}
	return r, nil
}

// discard reads the rest of a short body, so that its connection can be used again.
func discard(r io.Reader) { io.Copy(io.Discard, io.LimitReader(r, 64<<10)) }
