// Package config is what the functions read at cold start: the environment,
// every mistake of it at once, and the API token from Secrets Manager.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Env reads settings from an environment. A mistake is kept, and the reading
// goes on: ask Err once all are read.
type Env struct {
	Getenv func(string) string
	errs   []error
}

// Err returns every mistake so far, or nil.
func (e *Env) Err() error { return errors.Join(e.errs...) }

func (e *Env) mistake(name, format string, args ...any) {
	e.errs = append(e.errs, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
}

// Required returns a variable that must be set.
func (e *Env) Required(name string) string {
	value := e.Getenv(name)
	if value == "" {
		e.mistake(name, "is not set")
	}
	return value
}

// Optional returns a variable, or a default where it is not set.
func (e *Env) Optional(name, byDefault string) string {
	if value := e.Getenv(name); value != "" {
		return value
	}
	return byDefault
}

// Hours returns a variable that is a number of hours above 0 and up to a limit;
// fractions are fine.
func (e *Env) Hours(name string, byDefault, limit float64) time.Duration {
	return time.Duration(e.number(name, byDefault, limit) * float64(time.Hour))
}

// GiB returns a variable that is a number of gibibytes above 0 and up to a
// limit, in bytes; fractions are fine.
func (e *Env) GiB(name string, byDefault, limit float64) int64 {
	return int64(e.number(name, byDefault, limit) * (1 << 30))
}

// Count returns a variable that is a whole number from 1 up to a limit.
func (e *Env) Count(name string, byDefault, limit float64) int {
	n := e.number(name, byDefault, limit)
	if n != float64(int(n)) || n < 1 {
		e.mistake(name, "%g is not a whole number", n)
		return int(byDefault)
	}
	return int(n)
}

func (e *Env) number(name string, byDefault, limit float64) float64 {
	value := e.Getenv(name)
	if value == "" {
		return byDefault
	}
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || !(n > 0 && n <= limit) {
		e.mistake(name, "%q is not a number above 0 and up to %g", value, limit)
		return byDefault
	}
	return n
}

// Folders returns the folders of a comma-separated variable. Each is inbox/ or
// below it, and ends in a slash.
func (e *Env) Folders(name, byDefault string) []string {
	folders := e.List(name, byDefault)
	for _, folder := range folders {
		if !strings.HasPrefix(folder, "inbox/") || !strings.HasSuffix(folder, "/") {
			e.mistake(name, "%q is not a folder such as inbox/shared/", folder)
		}
	}
	return folders
}

// BaseURL returns a variable that is the address of an API, which the token is
// sent to: https, or plain http to this machine alone (a loopback address, or
// host.docker.internal for a function that runs in a container on it).
// Not set, it is empty, and the client's default counts.
func (e *Env) BaseURL(name string) string {
	value := e.Getenv(name)
	if value == "" {
		return ""
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		e.mistake(name, "is not the address of an API, such as https://model-api.runcomfy.net")
	case u.Scheme == "https":
	case u.Scheme == "http" && thisMachine(u.Hostname()):
	default:
		e.mistake(name, "must be https: the token would travel in the clear to %s", u.Host)
	}
	return strings.TrimSuffix(value, "/")
}

func thisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || host == "host.docker.internal" || ip != nil && ip.IsLoopback()
}

// List returns the entries of a comma-separated variable.
func (e *Env) List(name, byDefault string) []string {
	var entries []string
	for entry := range strings.SplitSeq(e.Optional(name, byDefault), ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			entries = append(entries, entry)
		}
	}
	return entries
}
