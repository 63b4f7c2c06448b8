package transfer

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/workflow"
)

func TestOrigins(t *testing.T) {
	origins, err := ParseOrigins([]string{
		"https://*.runcomfy.net", "https://*.Example.COM", "https://files.example.org:8443", "http://127.0.0.1:9000", "https://[::1]:9001",
	})
	if err != nil {
		t.Fatal(err)
	}
	for address, allowed := range map[string]bool{
		"https://a.runcomfy.net/x":             true,
		"https://A.b.C.runcomfy.net/x":         true,
		"https://a.runcomfy.net:443/x":         true,
		"https://a.example.com/x":              true,
		"https://files.example.org:8443/x":     true,
		"http://127.0.0.1:9000/x":              true,
		"https://[::1]:9001/x":                 true,
		"https://runcomfy.net/x":               false,
		"https://.runcomfy.net/x":              false,
		"https://a..runcomfy.net/x":            false,
		"https://a.runcomfy.net./x":            false,
		"https://aruncomfy.net/x":              false,
		"https://a.runcomfy.net.evil.org/x":    false,
		"https://evil.org/a.runcomfy.net":      false,
		"https://evil.org#.runcomfy.net":       false,
		"https://evil.org?.runcomfy.net":       false,
		"https://evil.org\\.runcomfy.net/":     false,
		"https://evil.org\u3002.runcomfy.net/": false,
		"https://evil.org%2f.runcomfy.net/":    false,
		"https://user@a.runcomfy.net/x":        false,
		"https://a.runcomfy.net@evil.org/x":    false,
		"https://a.runcomfy.net:8443/x":        false,
		"http://a.runcomfy.net/x":              false,
		"http://a.runcomfy.net:443/x":          false,
		"ftp://a.runcomfy.net/x":               false,
		"//a.runcomfy.net/x":                   false,
		"/x":                                   false,
		"https:///x":                           false,
		"https://files.example.org/x":          false,
		"https://127.0.0.1:9000/x":             false,
		"http://127.0.0.1:9001/x":              false,
		"http://2130706433:9000/x":             false,
		"https://[::ffff:127.0.0.1]:9001/x":    false,
		"https://a.runcomfy.net/%zz":           false,
		"https://a.runcomfy.net/\x00":          false,
	} {
		u, err := parseSource(address)
		if err == nil {
			err = origins.check(u)
		}
		if (err == nil) != allowed {
			t.Errorf("%s: error %v", address, err)
		}
		var refused *workflow.OutputRefused
		if err != nil && !errors.As(err, &refused) {
			t.Errorf("%s: error %T", address, err)
		}
	}
	if err := (Origins{}).check(&url.URL{Scheme: "https", Host: "a.runcomfy.net"}); err == nil {
		t.Error("the zero value allows an origin")
	}
}

func TestParseOriginsNamesEveryMistake(t *testing.T) {
	bad := []string{
		"", "a.example.com", "ftp://a.example.com", "https://a.example.com/", "https://a.example.com?x", "https://u@a.example.com",
		"http://*.example.com", "https://*.example.com:8443", "https://*.com", "https://*", "https://a.*.example.com", "https://*.127.0.0.1",
		"https://a_b!.example.com", "https://%zz",
	}
	_, err := ParseOrigins(bad)
	if err == nil {
		t.Fatal("no error")
	}
	for _, entry := range bad {
		if !strings.Contains(err.Error(), fmt.Sprintf("origin %q: ", entry)) {
			t.Errorf("%q is not in the error", entry)
		}
	}
	if _, err := ParseOrigins(nil); err == nil {
		t.Error("an empty list is allowed")
	}
}

func TestPublicAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"93.184.215.14": true, "8.8.8.8": true, "172.15.0.1": true, "172.32.0.1": true, "100.128.0.1": true, "2606:4700::1": true, "2a00::1": true,
		"::ffff:8.8.8.8": true,
		"10.1.2.3":       false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false, "127.0.0.1": false, "127.9.9.9": false,
		"169.254.169.254": false, "0.0.0.0": false, "0.1.2.3": false, "100.64.0.1": false, "100.127.255.255": false, "192.0.0.8": false,
		"198.18.0.1": false, "224.0.0.1": false, "239.1.1.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd00:ec2::254": false, "ff02::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::127.0.0.1": false, "64:ff9b::a00:1": false, "64:ff9b:1::1": false,
		"2001::1": false, "2001:db8::1": false, "2002:a00:1::": false,
	} {
		if got := isPublic(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
}

// A name on the list that resolves to a private address is not connected to,
// unless that very host is listed.
func TestPrivateAddressIsRefusedAtConnect(t *testing.T) {
	data := random(100_000, 1)
	for _, address := range [][4]byte{{127, 0, 0, 1}, {10, 0, 0, 1}, {169, 254, 169, 254}} {
		o, b := newOrigin(t, data), newBucket(t)
		c := o.copier(t, b)
		c.Origins, _ = ParseOrigins([]string{"https://*.example.com"})
		c.resolver = resolver(address)
		_, err := c.Copy(t.Context(), "https://cdn.example.com/talk.mp4?"+secret, named)
		checkError(t, err, &workflow.OutputRefused{}, "cdn.example.com:443: the name resolves to an address that is not public")
		b.check(t, testKey, nil)
	}

	o, b := newOrigin(t, data), newBucket(t)
	c := o.copier(t, b)
	listed := strings.Replace(o.server.URL, "127.0.0.1", "cdn.example.com", 1)
	c.Origins, _ = ParseOrigins([]string{listed})
	c.resolver = resolver([4]byte{127, 0, 0, 1})
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
		from int                                // the request that is redirected first; 0: the first
		list func(first, second *origin) string // listed besides first
		want any
		text func(first, second *origin) string
		hops int // the second's redirects to itself
	}{
		"onto the list": {
			to:   func(_, second *origin) string { return second.url() },
			list: func(_, second *origin) string { return second.server.URL },
		},
		"relative, keeping escapes": {
			to: func(first, _ *origin) string { return "/a%3Db/talk.mp4?" + secret },
		},
		"off the list": {
			to:   func(_, second *origin) string { return second.url() },
			want: &workflow.OutputRefused{},
			text: func(_, second *origin) string {
				return second.server.Listener.Addr().String() + ": not an allowed origin"
			},
		},
		"off the list in mid-copy": {
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
		"to plain http, even where it is listed": {
			to:   func(_, second *origin) string { return plain(second) + "/talk.mp4?" + secret },
			list: func(_, second *origin) string { return plain(second) },
			want: &workflow.OutputRefused{}, text: func(*origin, *origin) string { return "plain http" },
		},
		"to another scheme": {
			to:   func(*origin, *origin) string { return "file:///etc/passwd?" + secret },
			want: &workflow.OutputRefused{}, text: func(*origin, *origin) string { return "plain http" },
		},
		"to what is no address": {
			to:   func(*origin, *origin) string { return "https://%zz/?" + secret },
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
				if c.Origins, err = ParseOrigins([]string{first.server.URL, tt.list(first, second)}); err != nil {
					t.Fatal(err)
				}
			}
			_, err := c.Copy(t.Context(), first.url(), named)
			if tt.want != nil {
				checkError(t, err, tt.want, tt.text(first, second))
				b.check(t, testKey, nil)
				if tt.list == nil && second.count() > 0 {
					t.Error("the second server was asked")
				}
				return
			}
			checkError(t, err, nil, "")
			b.check(t, testKey, data)
			for _, r := range append(first.requests, second.requests...) {
				for _, header := range []string{"Referer", "Cookie", "Authorization"} {
					if r.Header.Get(header) != "" {
						t.Errorf("%s %q was sent", header, r.Header.Get(header))
					}
				}
				if p := r.RequestURI; strings.HasPrefix(p, "/a") && p != "/a%3Db/talk.mp4?"+secret {
					t.Errorf("requested %s", p)
				}
			}
			// The ranges are asked for where the first redirect led.
			if n := first.count(); tt.list != nil && n != 1 {
				t.Errorf("the first server was asked %d times", n)
			}
		})
	}
}

// What a redirect led to may expire: a range that is refused there is asked for
// at the given address again.
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
	b.check(t, testKey, data)
}
