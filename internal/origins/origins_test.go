package origins

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/workflow"
)

func TestList(t *testing.T) {
	list, err := Parse([]string{
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
		"https://a.runcomfy.net/100%":          true,
		"https://evil.org%.runcomfy.net/":      false,
		"https://a.runcomfy.net/\x00":          false,
	} {
		u, err := ParseURL(address)
		if err == nil {
			err = list.Check(u)
		}
		if (err == nil) != allowed {
			t.Errorf("%s: error %v, want allowed %t", address, err, allowed)
		}
		var refused *workflow.OutputRefused
		if err != nil && !errors.As(err, &refused) {
			t.Errorf("%s: error %T, want *workflow.OutputRefused", address, err)
		}
	}
	if err := (List{}).Check(&url.URL{Scheme: "https", Host: "a.runcomfy.net"}); err == nil {
		t.Error("the zero value allows an origin, want an error")
	}
}

func TestParseURLEscapes(t *testing.T) {
	u, err := ParseURL(`https://a.runcomfy.net/%3D%3d/é "b" 100%.mp4?c=5%&d=%2B`)
	if want := "/%3D%3d/%C3%A9%20%22b%22%20100%25.mp4?c=5%25&d=%2B"; err != nil || u.RequestURI() != want {
		t.Errorf("%v, error %v; want %s", u, err, want)
	}
}

func TestParseNamesEveryMistake(t *testing.T) {
	bad := []string{
		"", "a.example.com", "ftp://a.example.com", "https://a.example.com/", "https://a.example.com?x", "https://u@a.example.com",
		"http://*.example.com", "https://*.example.com:8443", "https://*.com", "https://*", "https://a.*.example.com", "https://*.127.0.0.1",
		"https://a_b!.example.com", "https://%zz",
	}
	_, err := Parse(bad)
	if err == nil {
		t.Fatal("no error, want one that names every mistake")
	}
	for _, entry := range bad {
		if !strings.Contains(err.Error(), fmt.Sprintf("origin %q: ", entry)) {
			t.Errorf("%q is not in the error", entry)
		}
	}
	if _, err := Parse(nil); err == nil {
		t.Error("no error for an empty list, want one")
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
			t.Errorf("%s: public %t, want %t", address, got, want)
		}
	}
}
