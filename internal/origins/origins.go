// Package origins decides which URLs an output may be fetched from. The origin must be
// listed in OutputOrigins. A host that only a wildcard matches must resolve to a public
// IP address.
package origins

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"github.com/lipdrop/lipdrop/internal/workflow"
)

// A List lists the origins that outputs may be fetched from. The zero value allows nothing.
type List struct {
	exact    map[string]bool // "https://host:port"
	suffixes []string        // ".example.com", for https on its default port
}

// Parse parses a list of origins. An entry is one of:
//
//   - https://*.example.com: every name below example.com, at any depth, on the
//     default port. It does not include example.com itself.
//   - One exact origin. It may have another port, a literal IP address or plain
//     http, and it may be on a private network.
//
// The error names every invalid entry.
func Parse(entries []string) (List, error) {
	l := List{exact: map[string]bool{}}
	var errs []error
	for _, entry := range entries {
		suffix, wildcard := strings.CutPrefix(strings.ToLower(entry), "https://*.")
		u, err := url.Parse(entry)
		switch {
		case wildcard && isName(suffix) && strings.Contains(suffix, "."):
			l.suffixes = append(l.suffixes, "."+suffix)
		case err == nil && defaultPorts[u.Scheme] != "" && strings.EqualFold(u.Scheme+"://"+u.Host, entry) && isHost(u.Hostname()):
			l.exact[Of(u)] = true
		default:
			errs = append(errs, fmt.Errorf("origin %q: neither an origin such as https://files.example.com:8443 nor a wildcard such as https://*.example.com", entry))
		}
	}
	if len(entries) == 0 {
		errs = append(errs, errors.New("no origin is listed"))
	}
	if len(errs) > 0 {
		return List{}, errors.Join(errs...)
	}
	return l, nil
}

// unsafe matches a character that a URL may not contain, or a whole escape such as %20. It does
// not match control characters below a space: url.Parse refuses a URL with such a character.
var unsafe = regexp.MustCompile("%[0-9A-Fa-f]{2}|[% \"<>\\\\^`{|}\x7f-\U0010FFFF]")

// ParseURL parses the URL of an output. It escapes the characters that a URL may not
// contain, and keeps existing escapes as they are. Its error is a *workflow.OutputRefused.
func ParseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(unsafe.ReplaceAllStringFunc(raw, func(s string) string {
		if s[0] == '%' && len(s) > 1 {
			return s
		}
		return url.PathEscape(s)
	}))
	if err != nil {
		// err is left out: it contains the query, which may hold a signature.
		return nil, Refuse("", "not a valid https address")
	}
	return u, nil
}

// maxHost is how many bytes a host with its port may have.
const maxHost = 260

// Check returns a *workflow.OutputRefused unless u may be fetched.
func (l List) Check(u *url.URL) error {
	host, address := strings.ToLower(u.Hostname()), Address(u)
	isBelow := func(suffix string) bool { return strings.HasSuffix(host, suffix) }
	reason := "not an allowed origin"
	switch {
	case defaultPorts[u.Scheme] == "" || len(u.Host) > maxHost || !isHost(host):
		address, reason = "", "not a valid https address"
	case u.User != nil:
		reason = "a user name in an address is not allowed"
	case l.exact[Of(u)]:
		return nil
	case u.Scheme == "http":
		reason = "plain http is not allowed"
	case address == host+":443" && isName(host) && slices.ContainsFunc(l.suffixes, isBelow):
		return nil
	}
	return Refuse(address, reason)
}

// Refuse returns a *workflow.OutputRefused. The parameter address is a host and port, or ""
// if the URL has no valid ones.
func Refuse(address, reason string) error {
	return &workflow.OutputRefused{Failure: workflow.Failuref("%s: %s", cmp.Or(address, "the output"), reason)}
}

// isExact reports whether the list has an exact origin with this host and port.
func (l List) isExact(address string) bool {
	address = strings.ToLower(address)
	return l.exact["https://"+address] || l.exact["http://"+address]
}

// hostName matches only ASCII host names: an IDNA mapping may change any other name.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func isHost(host string) bool { return hostName.MatchString(host) || isLiteral(host) }
func isName(host string) bool { return hostName.MatchString(host) && !isLiteral(host) }

func isLiteral(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

var defaultPorts = map[string]string{"https": "443", "http": "80"}

// Of returns the origin of u: the scheme and the Address.
func Of(u *url.URL) string { return u.Scheme + "://" + Address(u) }

// Address returns host and port of u in lower case. If u has no port, Address adds the scheme's default.
func Address(u *url.URL) string {
	return net.JoinHostPort(strings.ToLower(u.Hostname()), cmp.Or(u.Port(), defaultPorts[u.Scheme]))
}

const (
	// dialTime limits each dial, which looks up the host and connects, and each TLS handshake.
	dialTime = 5 * time.Second

	// headerBytes limits the header of a response. Servers usually limit their headers to
	// between 8 and 32 KiB.
	headerBytes = 64 << 10
)

var guardian = ssrf.New(ssrf.WithAnyPort())

// isPublic reports whether a is an address of the public internet. IPv4-mapped
// IPv6 addresses are checked as IPv4.
func isPublic(a netip.Addr) bool { return guardian.SafeAddr(a.Unmap()) == nil }

// A Dialer overrides how connections are made, for tests. The zero value uses the
// system's resolver and certificates.
type Dialer struct {
	Resolver *net.Resolver
	Roots    *x509.CertPool
}

// Transport returns a transport that keeps at most the given number of idle connections to
// one host. A connection to an IP address that is not public is refused unless the
// requested host and port are listed exactly. The transport uses no proxy: with a proxy, it
// would check only the proxy's address. All requests use HTTP/1.1: with HTTP/2, the parallel
// requests for parts of a file would share one connection and its limits.
func (l List) Transport(d Dialer, idle int) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialer := net.Dialer{Timeout: dialTime, Resolver: d.Resolver}
			dialer.Control = func(_, dialled string, _ syscall.RawConn) error {
				if resolved, err := netip.ParseAddrPort(dialled); l.isExact(address) || err == nil && isPublic(resolved.Addr()) {
					return nil
				}
				return Refuse(address, "the name resolves to an address that is not public")
			}
			return dialer.DialContext(ctx, network, address)
		},
		// Later connections resume the TLS session of the first one.
		TLSClientConfig:        &tls.Config{RootCAs: d.Roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		TLSHandshakeTimeout:    dialTime,
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idle,
		MaxResponseHeaderBytes: headerBytes,
	}
}
