// Package access checks the requests to the local stack: whether a request is addressed to
// this machine, and whether the request is signed with the keys of the stack or goes to a
// secret path. These checks are necessary because every user of this machine, and every page
// in a browser on it, can reach the ports of the stack. Guard checks whether the role of a
// function allows the function's request.
package access

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Hosts are the names of this machine, in lower case and without a port.
type Hosts []string

// Loopback returns 127.0.0.1, localhost and the further names.
func Loopback(further ...string) Hosts { return append(Hosts{"127.0.0.1", "localhost"}, further...) }

// check returns an error if a request is addressed to another host, or comes from
// a page of another host. After DNS rebinding, the request of a foreign page reaches this
// machine, but is addressed to the host of the page.
func (h Hosts) check(r *http.Request) error {
	if !h.has(r.Host) {
		return fmt.Errorf("this server does not serve the host %q; use %s", r.Host, strings.Join(h, " or "))
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

// Handler returns a handler that responds with 403 to each request for which h.check
// returns an error, and passes the others on to next.
func (h Hosts) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h.check(r); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Below returns a handler that passes the requests below a secret path on to next, for clients that
// cannot sign requests. Requests for other paths do not reach next.
func Below(secret string, next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/"+secret+"/", http.StripPrefix("/"+secret, next))
	return mux
}
