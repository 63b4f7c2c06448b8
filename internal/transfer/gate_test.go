package transfer

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/origins"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// A host that resolves to a private address is refused if only a wildcard matches it. It is
// accepted if the host itself is listed.
func TestPrivateAddressIsRefusedAtConnect(t *testing.T) {
	data := random(100_000, 1)
	for _, address := range [][4]byte{{127, 0, 0, 1}, {10, 0, 0, 1}, {169, 254, 169, 254}} {
		o, b := newOrigin(t, data), newBucket(t)
		c := o.copier(t, b)
		var err error
		if c.Origins, err = origins.Parse([]string{"https://*.example.com"}); err != nil {
			t.Fatal(err)
		}
		c.dialer.Resolver = resolver(address)
		_, err = c.Copy(t.Context(), "https://cdn.example.com/talk.mp4?"+secret, toTestKey)
		checkError(t, err, &workflow.OutputRefused{}, "cdn.example.com:443: the name resolves to an address that is not public")
		b.check(t, testKey, nil)
	}

	o, b := newOrigin(t, data), newBucket(t)
	c := o.copier(t, b)
	listed := strings.Replace(o.server.URL, "127.0.0.1", "cdn.example.com", 1)
	var err error
	if c.Origins, err = origins.Parse([]string{listed}); err != nil {
		t.Fatal(err)
	}
	c.dialer.Resolver = resolver([4]byte{127, 0, 0, 1})
	if _, err := c.Copy(t.Context(), listed+"/talk.mp4", toTestKey); err != nil {
		t.Fatal(err)
	}
	b.check(t, testKey, data)
}

func TestRedirects(t *testing.T) {
	data := random(300_000, 1)
	const target = "https://SECOND/talk.mp4?" + secret
	for name, tt := range map[string]struct { // FIRST and SECOND stand for the addresses of the two servers
		to      string // the Location
		from    int    // requests before this number are not redirected
		list    string // another listed origin, besides the first server
		hops    int    // how often the second server redirects to itself
		refused string // in the error; empty if the file is copied
	}{
		"to a listed origin":                               {to: target, list: "https://SECOND"},
		"with characters that a URL may not contain":       {to: target + `&name="é b.mp4"`, list: "https://SECOND"},
		"relative, keeping escapes":                        {to: "/a%3Db/talk.mp4?" + secret},
		"to an origin that is not listed":                  {to: target, refused: "SECOND: not an allowed origin"},
		"to an origin that is not listed, during the copy": {to: target, from: 4, refused: "SECOND: not an allowed origin"},
		"with a user name":                                 {to: "https://user:secret@FIRST/talk.mp4?" + secret, refused: "user name"},
		"to plain http, even if it is listed":              {to: "http://SECOND/talk.mp4?" + secret, list: "http://SECOND", refused: "another scheme"},
		"to another scheme":                                {to: "file:///etc/passwd?" + secret, refused: "FIRST: a redirect from https to another scheme"},
		"to an invalid address":                            {to: "https://[::1/?" + secret, refused: "no valid address"},
		"five times":                                       {to: target, list: "https://SECOND", hops: 4},
		"six times":                                        {to: target, list: "https://SECOND", hops: 5, refused: "more than 5 redirects"},
	} {
		t.Run(name, func(t *testing.T) {
			first, second, b := newOrigin(t, data), newOrigin(t, data), newBucket(t)
			addresses := strings.NewReplacer("FIRST", first.server.Listener.Addr().String(), "SECOND", second.server.Listener.Addr().String())
			first.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n < tt.from || strings.HasPrefix(r.URL.Path, "/a=") {
					return false
				}
				w.Header().Set("Set-Cookie", "a=b")
				w.Header().Set("Location", addresses.Replace(tt.to))
				w.WriteHeader(http.StatusFound)
				return true
			}
			second.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n > tt.hops {
					return false
				}
				http.Redirect(w, r, second.url(), http.StatusTemporaryRedirect)
				return true
			}
			c := first.copier(t, b)
			if tt.list != "" {
				var err error
				if c.Origins, err = origins.Parse([]string{first.server.URL, addresses.Replace(tt.list)}); err != nil {
					t.Fatal(err)
				}
			}
			_, err := c.Copy(t.Context(), first.url(), toTestKey)
			if tt.refused != "" {
				checkError(t, err, &workflow.OutputRefused{}, addresses.Replace(tt.refused))
				b.check(t, testKey, nil)
				if tt.list == "" && second.count() > 0 {
					t.Errorf("the second server got %d requests, want none", second.count())
				}
				return
			}
			checkError(t, err, nil, "")
			b.check(t, testKey, data)
			for _, r := range append(first.requests, second.requests...) {
				for _, header := range []string{"Referer", "Cookie", "Authorization"} {
					if r.Header.Get(header) != "" {
						t.Errorf("the header %s %q was sent, want none", header, r.Header.Get(header))
					}
				}
				if p := r.RequestURI; strings.HasPrefix(p, "/a") && p != "/a%3Db/talk.mp4?"+secret {
					t.Errorf("requested %s, want the escapes as they were", p)
				}
			}
			// All requests after the redirect go to the second server.
			if n := first.count(); tt.list != "" && n != 1 {
				t.Errorf("the first server got %d requests, want 1", n)
			}
		})
	}
}

// The target of a redirect may expire. If the target refuses a range, the range is requested
// again at the URL that was given to Copy.
func TestExpiredRedirect(t *testing.T) {
	data := random(300_000, 1)
	o, b := newOrigin(t, data), newBucket(t)
	served := map[string]int{}
	redirects := 0
	o.fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		if r.URL.Path == "/talk.mp4" {
			redirects++
			w.Header().Set("Location", fmt.Sprintf("/signed/%d", redirects))
			w.WriteHeader(http.StatusSeeOther)
			return true
		}
		if served[r.URL.Path]++; served[r.URL.Path] > 5 {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	}
	if _, err := o.copier(t, b).Copy(t.Context(), o.url(), toTestKey); err != nil {
		t.Fatal(err)
	}
	if redirects < 2 {
		t.Errorf("%d redirects, want at least 2: the first target expires", redirects)
	}
	b.check(t, testKey, data)
}
