package ui

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"
)

// shell decides which requests reach the page. Every user of the machine, and every
// page in a browser on the machine, can connect to the port.
//
// The token in the printed URL is exchanged for a cookie. A browser sends a cookie of
// 127.0.0.1 to every port of 127.0.0.1, so the servers of other users could get the cookie.
// To prevent this, the page is below a random path, and the cookie is for this path only.
type shell struct {
	host  string // such as 127.0.0.1:40123
	token string
	path  string // such as /x7…/
	// session is the value of the cookie.
	session string
	// proof is in each response to a request that the page sends with the cookie. After the
	// command has ended, another user's server may get the port. A page that is still open
	// then sends the cookie to that server. The server does not know the proof, so the page
	// ignores the server's responses.
	proof string
	// media is where images, videos and sounds may come from: see presignedPrefix.
	media string
	next  http.Handler // serves the paths below path
}

const (
	cookieName  = "lipdrop"
	proofHeader = "Lipdrop-Proof"
)

func newShell(address net.Addr, media string, next http.Handler) *shell {
	return &shell{
		host: address.String(), media: media, next: next,
		// rand.Text has at least 128 random bits.
		token: rand.Text(), path: "/" + strings.ToLower(rand.Text()) + "/", session: rand.Text(), proof: rand.Text(),
	}
}

// url returns the URL to open in a browser.
func (s *shell) url() string { return "http://" + s.host + "/?token=" + s.token }

func (s *shell) origin() string { return "http://" + s.host }

// ServeHTTP implements http.Handler.
func (s *shell) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.setHeaders(w.Header())
	if err := s.checkOrigin(r); err != nil {
		refuse(w, err.Error())
		return
	}
	if r.URL.Path == "/" {
		s.exchange(w, r)
		return
	}
	cookie, err := r.Cookie(cookieName)
	if err != nil || !equalSecrets(cookie.Value, s.session) || !strings.HasPrefix(r.URL.Path, s.path) {
		refuse(w, "open the address that `lipdrop ui` has printed")
		return
	}
	w.Header().Set(proofHeader, s.proof)
	if err := checkBody(w, r); err != nil {
		http.Error(w, err.Error(), http.StatusUnsupportedMediaType)
		return
	}
	http.StripPrefix(strings.TrimSuffix(s.path, "/"), s.next).ServeHTTP(w, r)
}

// refuse refuses a request and ends its connection. It does not wait for the rest of the
// request's body: otherwise a slow client would keep its connection for as long as it wants.
func refuse(w http.ResponseWriter, reason string) {
	w.Header().Set("Connection", "close") // because the deadline below would also end later requests on this connection
	_ = http.NewResponseController(w).SetReadDeadline(time.Now())
	http.Error(w, reason, http.StatusForbidden)
}

// setHeaders sets the headers of every response.
func (s *shell) setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", strings.Join([]string{
		"default-src 'self'", "img-src 'self' " + s.media, "media-src " + s.media, "object-src 'none'",
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
	}, "; "))
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// checkOrigin returns an error if a request is for another host, comes from a page of another
// origin, or changes something and has no Origin. After DNS rebinding, the requests of a foreign
// page can reach this server, but they still name the host of that page.
func (s *shell) checkOrigin(r *http.Request) error {
	if r.Host != s.host {
		return errors.New("the request is for another server; open the address that `lipdrop ui` has printed")
	}
	for _, origin := range r.Header.Values("Origin") {
		if origin != s.origin() {
			return errors.New("a page of another origin may not use this server")
		}
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		// Browsers send most of these requests without Origin, but with Sec-Fetch-Site.
		// The first request, which has the token, may come from a page of any origin.
		if from := r.Header.Get("Sec-Fetch-Site"); from != "" && from != "same-origin" && from != "none" && r.URL.Path != "/" {
			return errors.New("a page of another origin may not use this server")
		}
		return nil
	}
	if r.Header.Get("Origin") == "" {
		return errors.New("a request that changes something needs the header Origin")
	}
	return nil
}

// exchange sets the cookie if the request has the token, and leads the browser to the
// page, so that the token leaves the address bar. The response is a page, not an HTTP
// redirect: if the person followed a link on another page, a browser would not send the
// cookie with the redirected request.
func (s *shell) exchange(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || !equalSecrets(r.URL.Query().Get("token"), s.token) {
		refuse(w, "the token is missing or wrong; open the address that `lipdrop ui` has printed")
		return
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // no Secure: the page is on loopback, without TLS
		Name: cookieName, Value: s.session, Path: s.path, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(`<!doctype html><html lang="en"><meta http-equiv="refresh" content="0;url=` + s.path + `"><title>lipdrop</title><a href="` + s.path + `">lipdrop</a></html>`))
}

const (
	// maxJSON is the largest JSON body that a request may have, in bytes. The largest JSON
	// body that the page sends is the list of the files that a person drops.
	maxJSON = 4 << 20

	// maxPart is the largest part of a file that a request carries, in bytes.
	maxPart = 8 << 20

	partType = "application/octet-stream"
)

// checkBody limits the size of a request's body. It returns an error unless the content type is
// JSON or, for a path that ends in /part, partType. A form on another page can send neither type.
func checkBody(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err == nil && kind == "application/json":
		r.Body = http.MaxBytesReader(w, r.Body, maxJSON)
	case err == nil && kind == partType && strings.HasSuffix(r.URL.Path, "/part"):
		r.Body = http.MaxBytesReader(w, r.Body, maxPart)
	default:
		return errors.New("the request must have the content type application/json, or application/octet-stream if it is a part of a file")
	}
	return nil
}

// equalSecrets compares secrets in constant time.
func equalSecrets(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
