package transfer

import (
	"cmp"
	"context"
	"crypto/tls"
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

// Origins is the list of origins that may be fetched. The zero value allows
// nothing.
type Origins struct {
	exact    map[string]bool // "https://host:port"
	suffixes []string        // ".example.com", for https on its default port
}

// ParseOrigins parses a list of origins. An entry is one of:
//
//   - https://*.example.com: every name below example.com, at any depth, on the
//     default port. It does not include example.com itself.
//   - One exact origin, which may have another port, be a literal address or be
//     plain http. It may also be on a private network.
//
// The error names every invalid entry.
func ParseOrigins(entries []string) (Origins, error) {
	o := Origins{exact: map[string]bool{}}
	var errs []error
	for _, entry := range entries {
		suffix, wildcard := strings.CutPrefix(strings.ToLower(entry), "https://*.")
		u, err := url.Parse(entry)
		switch {
		case wildcard && isName(suffix) && strings.Contains(suffix, "."):
			o.suffixes = append(o.suffixes, "."+suffix)
		case err == nil && defaultPorts[u.Scheme] != "" && strings.EqualFold(u.Scheme+"://"+u.Host, entry) && isHost(u.Hostname()):
			o.exact[originOf(u)] = true
		default:
			errs = append(errs, fmt.Errorf("origin %q: neither an origin such as https://files.example.com:8443 nor a wildcard such as https://*.example.com", entry))
		}
	}
	if len(entries) == 0 {
		errs = append(errs, errors.New("no origin is listed"))
	}
	if len(errs) > 0 {
		return Origins{}, errors.Join(errs...)
	}
	return o, nil
}

// maxHost is the length of the longest host and port.
const maxHost = 260

// check returns a *workflow.OutputRefused unless u may be fetched.
func (o Origins) check(u *url.URL) error {
	host, address := strings.ToLower(u.Hostname()), addressOf(u)
	isBelow := func(suffix string) bool { return strings.HasSuffix(host, suffix) }
	reason := "not an allowed origin"
	switch {
	case defaultPorts[u.Scheme] == "" || len(u.Host) > maxHost || !isHost(host):
		address, reason = "", "not a valid https address"
	case u.User != nil:
		reason = "a user name in an address is not allowed"
	case o.exact[originOf(u)]:
		return nil
	case u.Scheme == "http":
		reason = "plain http is not allowed"
	case address == host+":443" && isName(host) && slices.ContainsFunc(o.suffixes, isBelow):
		return nil
	}
	return refused(address, reason)
}

func refused(address, reason string) error {
	return &workflow.OutputRefused{Failure: workflow.Failuref("%s: %s", cmp.Or(address, "the output"), reason)}
}

// isListed reports whether a host and port is listed exactly.
func (o Origins) isListed(address string) bool {
	address = strings.ToLower(address)
	return o.exact["https://"+address] || o.exact["http://"+address]
}

// hostName excludes every host that a resolver or an IDNA mapping might change.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func isHost(host string) bool { return hostName.MatchString(host) || isLiteral(host) }
func isName(host string) bool { return hostName.MatchString(host) && !isLiteral(host) }

func isLiteral(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

var defaultPorts = map[string]string{"https": "443", "http": "80"}

// originOf returns scheme, host and port of u in lower case, the port always
// included.
func originOf(u *url.URL) string { return u.Scheme + "://" + addressOf(u) }

// addressOf returns host and port of u as a dialler gets them.
func addressOf(u *url.URL) string {
	return net.JoinHostPort(strings.ToLower(u.Hostname()), cmp.Or(u.Port(), defaultPorts[u.Scheme], "443"))
}

const (
	// dialTime limits one TCP connect, and one TLS handshake.
	dialTime = 5 * time.Second

	// headerBytes limits the header of a response. Servers limit it to 8 to 32 KiB.
	headerBytes = 64 << 10
)

var guardian = ssrf.New(ssrf.WithAnyPort())

// isPublic reports whether a is an address of the public internet. IPv4-mapped
// IPv6 addresses are checked as IPv4.
func isPublic(a netip.Addr) bool { return guardian.SafeAddr(a.Unmap()) == nil }

// newTransport returns the transport of one copy. A connection to an address
// that is not public is refused unless its host is listed exactly. That is
// checked after DNS has responded, so no proxy is used. All requests use
// HTTP/1.1: with HTTP/2, all ranges would share one connection and its limits.
func (c *Copier) newTransport() *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext: func(ctx context.Context, network, host string) (net.Conn, error) {
			dialer := net.Dialer{Timeout: dialTime, Resolver: c.resolver}
			dialer.Control = func(_, address string, _ syscall.RawConn) error {
				if dialled, err := netip.ParseAddrPort(address); c.Origins.isListed(host) || err == nil && isPublic(dialled.Addr()) {
					return nil
				}
				return refused(host, "the name resolves to an address that is not public")
			}
			return dialer.DialContext(ctx, network, host)
		},
		// Later connections resume the TLS session of the first one.
		TLSClientConfig:        &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		TLSHandshakeTimeout:    dialTime,
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    cmp.Or(c.pace, defaultPace).window,
		MaxResponseHeaderBytes: headerBytes,
	}
}
