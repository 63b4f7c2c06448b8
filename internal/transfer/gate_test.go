package transfer

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/origins"
	"github.com/lipdrop/lipdrop/internal/workflow"
)

// A host that resolves to a private address is refused, unless the host itself is listed, and
// not only a wildcard that matches it.
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
		_, err = c.Copy(t.Context(), "https://cdn.example.com/talk.mp4?"+secret, named)
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
	if _, err := c.Copy(t.Context(), listed+"/talk.mp4", named); err != nil {
		t.Fatal(err)
	}
	b.check(t, testKey, data)
}

func TestRedirects(t *testing.T) {
	data := random(300_000, 1)
	plain := func(o *origin) string { return strings.Replace(o.server.URL, "https:", "http:", 1) }
	for name, tt := range map[string]struct {
		to   func(first, second *origin) string // the Location
		from int                                // requests before this number are not redirected
		list func(first, second *origin) string // another listed origin, besides the first server
		want any
		text func(first, second *origin) string
		hops int // how often second redirects to itself
	}{
		"to a listed origin": {
			to:   func(_, second *origin) string { return second.url() },
			list: func(_, second *origin) string { return second.server.URL },
		},
		"with characters that a URL may not contain": {
			to:   func(_, second *origin) string { return second.url() + `&name="é b.mp4"` },
			list: func(_, second *origin) string { return second.server.URL },
		},
		"relative, keeping escapes": {
			to: func(first, _ *origin) string { return "/a%3Db/talk.mp4?" + secret },
		},
		"to an origin that is not listed": {
			to:   func(_, second *origin) string { return second.url() },
			want: &workflow.OutputRefused{},
			text: func(_, second *origin) string {
				return second.server.Listener.Addr().String() + ": not an allowed origin"
			},
		},
		"to an origin that is not listed, during the copy": {
			to:   func(_, second *origin) string { return second.url() },
			from: 4, want: &workflow.OutputRefused{},
			text: func(_, second *origin) string {
				return second.server.Listener.Addr().String() + ": not an allowed origin"
			},
		},
		"with a user name": {
			to: func(first, _ *origin) string {
				return strings.Replace(first.url(), "https://", "https://user:secret@", 1)
			},
			want: &workflow.OutputRefused{}, text: func(*origin, *origin) string { return "user name" },
		},
		"to plain http, even if it is listed": {
			to:   func(_, second *origin) string { return plain(second) + "/talk.mp4?" + secret },
			list: func(_, second *origin) string { return plain(second) },
			want: &workflow.OutputRefused{}, text: func(*origin, *origin) string { return "another scheme" },
		},
		"to another scheme": {
			to:   func(*origin, *origin) string { return "file:///etc/passwd?" + secret },
			want: &workflow.OutputRefused{},
			text: func(first, _ *origin) string {
				return first.server.Listener.Addr().String() + ": a redirect from https to another scheme"
			},
		},
		"to an invalid address": {
			to:   func(*origin, *origin) string { return "https://[::1/?" + secret },
			want: &workflow.OutputRefused{}, text: func(*origin, *origin) string { return "no valid address" },
		},
		"five times": {
			to:   func(_, second *origin) string { return second.url() },
			list: func(_, second *origin) string { return second.server.URL },
			hops: 4,
		},
		"six times": {
			to:   func(_, second *origin) string { return second.url() },
			list: func(_, second *origin) string { return second.server.URL },
			hops: 5, want: &workflow.OutputRefused{}, text: func(*origin, *origin) string { return "more than 5 redirects" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			first, second, b := newOrigin(t, data), newOrigin(t, data), newBucket(t)
			first.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n < tt.from || strings.HasPrefix(r.URL.Path, "/a=") {
					return false
				}
				w.Header().Set("Set-Cookie", "a=b")
				w.Header().Set("Location", tt.to(first, second))
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
			if tt.list != nil {
				var err error
				if c.Origins, err = origins.Parse([]string{first.server.URL, tt.list(first, second)}); err != nil {
					t.Fatal(err)
				}
			}
			_, err := c.Copy(t.Context(), first.url(), named)
			if tt.want != nil {
				checkError(t, err, tt.want, tt.text(first, second))
				b.check(t, testKey, nil)
				if tt.list == nil && second.count() > 0 {
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
			if n := first.count(); tt.list != nil && n != 1 {
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
	if _, err := o.copier(t, b).Copy(t.Context(), o.url(), named); err != nil {
		t.Fatal(err)
	}
	if redirects < 2 {
		t.Errorf("%d redirects, want at least 2: the first target expires", redirects)
	}
	b.check(t, testKey, data)
}
