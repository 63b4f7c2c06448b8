// Package access decides which requests the local stack serves: those that are
// addressed to this machine, and of them those that are signed with its keys.
// The ports of the stack are open to every user of the machine and to every page
// in a browser on it.
package access

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Hosts are the names that this machine is addressed by, in lower case and
// without a port.
type Hosts []string

// Loopback returns the names of a machine for itself, and further ones.
func Loopback(further ...string) Hosts { return append(Hosts{"127.0.0.1", "localhost"}, further...) }

// Check returns an error if a request is addressed to another host, or comes
// from a page of another host. A page whose own name is made to point to this
// machine (DNS rebinding) sends that name.
func (h Hosts) Check(r *http.Request) error {
	if !h.has(r.Host) {
		return fmt.Errorf("this server is not %q", r.Host)
	}
	for _, origin := range r.Header.Values("Origin") {
		if page, err := url.Parse(origin); err != nil || !h.has(page.Host) {
			return fmt.Errorf("a page of %q may not use this server", origin)
		}
	}
	return nil
}

func (h Hosts) has(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return slices.Contains(h, strings.ToLower(host))
}

// Handler returns a handler that answers 403 to requests that Check refuses, and
// passes on the others.
func (h Hosts) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h.Check(r); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Below returns a handler that serves next below a path that only those know who
// were given it, for clients that cannot sign. Everything else is not found.
func Below(secret string, next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/"+secret+"/", http.StripPrefix("/"+secret, next))
	return mux
}
