package hub

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Kind says why a request to the hub or the cache failed: errors.Is(err, hub.Gated).
type Kind string

// The kinds. Every error of this package that a person can do something about wraps one of them.
const (
	RepositoryNotFound Kind = "repository not found"
	RevisionNotFound   Kind = "revision not found"
	FileNotFound       Kind = "file not found"
	Gated              Kind = "access must be granted"
	Unauthorized       Kind = "token refused"
	RateLimited        Kind = "too many requests"
	Unreachable        Kind = "hub not reached"
	ServerFault        Kind = "hub failed"
	Offline            Kind = "offline"
	NoSpace            Kind = "no space"
	Corrupt            Kind = "wrong bytes"
	BadListing         Kind = "listing not understood"
	Unfit              Kind = "no fitting files"
)

func (k Kind) Error() string { return string(k) }

// problem is one clear line with its kind and cause.
type problem struct {
	kind Kind
	text string
	err  error
}

func (p *problem) Error() string   { return p.text }
func (p *problem) Unwrap() []error { return []error{p.kind, p.err} }

func fail(kind Kind, cause error, format string, args ...any) error {
	if cause == nil {
		cause = kind
	}
	return &problem{kind, fmt.Sprintf(format, args...), cause}
}

// statusError turns a refusal of the hub into advice. what is the file asked for, or "" for the listing.
func (c *Client) statusError(resp *http.Response, ref Ref, what string) error {
	page := c.o.Endpoint + "/" + ref.Repo
	name := ref.String()
	if what != "" {
		name += ": " + what
	}
	code, status := resp.Header.Get("X-Error-Code"), resp.StatusCode
	token := "set HF_TOKEN to a token made at " + c.o.Endpoint + "/settings/tokens"
	if c.o.Token != "" {
		token = "the token in use (HF_TOKEN or the token file) does not have it"
	}
	switch {
	case code == "GatedRepo":
		return fail(Gated, nil, "%s: its owner grants access by licence: accept it at %s, then %s", name, page, token)
	case code == "RevisionNotFound":
		return fail(RevisionNotFound, nil, "%s: the repository has no revision %q: see %s/tree/main for its branches and tags", ref.Repo, ref.revision(), page)
	case code == "EntryNotFound":
		return fail(FileNotFound, nil, "%s: no such file in this revision: see %s/tree/%s", name, page, ref.revision())
	case code == "RepoNotFound" || status == http.StatusNotFound && what == "":
		return fail(RepositoryNotFound, nil, "%s: no such model repository at %s, or it is private: check the spelling; for a private one %s", ref.Repo, c.o.Endpoint, token)
	case status == http.StatusNotFound:
		return fail(FileNotFound, nil, "%s: the hub answers 404 for it", name)
	case status == http.StatusUnauthorized && c.o.Token != "":
		return fail(Unauthorized, nil, "%s: the hub refuses the token: replace HF_TOKEN or the token file with one made at %s/settings/tokens, or remove it", name, c.o.Endpoint)
	case status == http.StatusUnauthorized:
		return fail(RepositoryNotFound, nil, "%s: no such model repository at %s, or it is private or gated: check the spelling; else %s", name, c.o.Endpoint, token)
	case status == http.StatusForbidden:
		return fail(Gated, nil, "%s: access denied (403): accept the licence at %s if there is one, and %s", name, page, token)
	case status == http.StatusTooManyRequests:
		return fail(RateLimited, nil, "%s: the hub asks to slow down (429): try again later; signed-in users get more: %s", name, token)
	}
	return fail(ServerFault, nil, "%s: the hub answers %s: try again later", name, resp.Status)
}

// transportError says in one line why a request got no answer.
func (c *Client) transportError(err error, host string) error {
	var (
		dns       *net.DNSError
		op        *net.OpError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		uerr      *url.Error
	)
	if errors.As(err, &uerr) {
		err = uerr.Err // its text repeats the whole signed address
	}
	offline := "; HF_HUB_OFFLINE=1 uses only what was downloaded before"
	switch {
	case errors.As(err, &authority):
		return fail(Unreachable, err, "%s: its certificate is signed by nobody this system trusts: behind a company proxy, name the proxy's certificate in SSL_CERT_FILE", host)
	case errors.As(err, &name), errors.As(err, &invalid):
		return fail(Unreachable, err, "%s: its certificate is not valid (%v): check the clock, the address and the proxy", host, err)
	case errors.Is(err, http.ErrSchemeMismatch):
		return fail(Unreachable, err, "%s: answers without TLS: check HF_ENDPOINT and HTTPS_PROXY", host)
	case errors.As(err, &op) && op.Op == "proxyconnect", strings.Contains(err.Error(), "proxyconnect"):
		return fail(Unreachable, err, "the proxy for %s does not answer (%v): check HTTPS_PROXY and NO_PROXY", host, err)
	case errors.As(err, &dns):
		return fail(Unreachable, err, "%s: the name is not known: check the network%s", host, offline)
	case errors.Is(err, errStalled):
		return fail(Unreachable, err, "%s: sent nothing for %s%s", host, c.o.Stall, offline)
	}
	return fail(Unreachable, err, "%s: %v%s", host, err, offline)
}

// permanent says that asking again cannot help.
func permanent(err error) bool {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		dns       *net.DNSError
	)
	return errors.As(err, &authority) || errors.As(err, &name) || errors.As(err, &invalid) || errors.Is(err, http.ErrSchemeMismatch) ||
		errors.As(err, &dns) && dns.IsNotFound
}

// diskError adds advice to a failed write.
func (c *Client) diskError(err error) error {
	if diskFull(err) {
		return fail(NoSpace, err, "%s: the disk is full: free some space, or name another folder in HF_HUB_CACHE; what was fetched is kept", c.o.CacheDir)
	}
	return fmt.Errorf("hub cache: %w", err)
}

func canceled(ctx context.Context) bool { return ctx.Err() != nil }
