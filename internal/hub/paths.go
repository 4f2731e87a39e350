package hub

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

// checkPath accepts a path inside a repository: relative, with slashes, without . and .. and control characters. A hub
// never sends another, since git cannot hold one; a server that does is broken or hostile.
func checkPath(p string) error {
	switch {
	case p == "" || len(p) > 1024:
		return errors.New("is empty or longer than 1024 bytes")
	case !utf8.ValidString(p):
		return errors.New("is not UTF-8")
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("holds a control character")
	case strings.Contains(p, `\`):
		return errors.New("holds a backslash")
	}
	for part := range strings.SplitSeq(p, "/") {
		switch part {
		case "":
			return errors.New("is absolute or has an empty part")
		case ".", "..":
			return fmt.Errorf("holds %q", part)
		}
	}
	return nil
}

// checkPortable refuses names that mean something else on Windows (devices, streams, trailing dots). They are legal in
// a repository, so only a file that is to be fetched must pass.
func checkPortable(p string) error {
	for part := range strings.SplitSeq(p, "/") {
		base, _, _ := strings.Cut(part, ".")
		base = strings.ToUpper(strings.TrimRight(base, " "))
		switch {
		case strings.ContainsAny(part, `:*?"<>|`):
			return errors.New("holds a character that not every system allows")
		case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " "):
			return errors.New("ends in a dot or a blank")
		case isDevice(base):
			return fmt.Errorf("%s is the name of a device on Windows", base)
		}
	}
	return nil
}

func isDevice(base string) bool {
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	port := strings.HasPrefix(base, "COM") || strings.HasPrefix(base, "LPT")
	rest := ""
	if port {
		rest = base[3:]
	}
	return port && utf8.RuneCountInString(rest) == 1 && strings.ContainsAny(rest, "0123456789¹²³")
}

// escapePath quotes every part of a path for a URL, keeping the slashes.
func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// parseHTTP reads an absolute http or https address without a user name in it.
func parseHTTP(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("is not an address")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("want http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("names no host")
	case u.User != nil:
		return nil, errors.New("holds a user name: use HF_TOKEN for access")
	}
	return u, nil
}

// originOf gives scheme://host:port with the port written out, the unit in which the token is trusted.
func originOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
