package transfer

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

const (
	// dialTime bounds one TCP connect, and again one TLS handshake.
	dialTime = 5 * time.Second

	// headerBytes bounds the header of an answer; servers allow themselves 8 to
	// 32 KiB.
	headerBytes = 64 << 10
)

// notPublic lists the special-purpose ranges of IPv4 (IANA's registry), where no
// output lives: this host, private networks, loopback, link-local, carrier NAT,
// documentation, benchmarks, multicast, reserved.
var notPublic = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
)

// Of IPv6 only 2000::/3 is public, and of that not the protocol assignments
// (Teredo among them), documentation and 6to4. This leaves out unique local,
// link-local, multicast and both NAT64 prefixes.
var (
	public6    = netip.MustParsePrefix("2000::/3")
	notPublic6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// isPublic reports whether a is an address of the public internet. An IPv4
// address in IPv6 clothes counts as what it is.
func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	excluded := notPublic
	if a.Is6() {
		if !public6.Contains(a) || a.Zone() != "" {
			return false
		}
		excluded = notPublic6
	}
	for _, p := range excluded {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// publicOnly is a net.Dialer's Control: it sees the address after DNS has
// answered and before the connect, so that a name cannot be one address when it
// is checked and another when it is used.
func publicOnly(host string) func(string, string, syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		dialled, err := netip.ParseAddrPort(address)
		if err != nil || !isPublic(dialled.Addr()) {
			return &OutputRefused{Host: host, Reason: "the name resolves to an address that is not public"}
		}
		return nil
	}
}

// readAhead is how much is read from a connection at once. TLS would read one
// record of 16 KiB at a time, and each reading costs as much as deciphering it.
const readAhead = 128 << 10

type readsAhead struct {
	net.Conn
	ahead *bufio.Reader
}

func (c *readsAhead) Read(b []byte) (int, error) { return c.ahead.Read(b) }

// newTransport returns the transport of one copy. It takes no proxy from the
// environment, since the gate has to see the address that is dialled; it keeps
// no cookies and adds no credentials. It speaks HTTP/1.1 alone: over HTTP/2 all
// ranges would share one connection, its flow control and whatever limit the
// source sets for a connection. Later connections resume the first one's TLS
// session, which spares them the signature.
func (c *Copier) newTransport(p pace) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialer := net.Dialer{Timeout: dialTime, Resolver: c.resolver}
			if !c.Origins.listed(address) {
				dialer.Control = publicOnly(address)
			}
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &readsAhead{conn, bufio.NewReaderSize(conn, readAhead)}, nil
		},
		TLSClientConfig: &tls.Config{
			RootCAs:            c.roots,
			MinVersion:         tls.VersionTLS12,
			ClientSessionCache: tls.NewLRUClientSessionCache(0),
		},
		TLSHandshakeTimeout:    dialTime,
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxConnsPerHost:        p.many,
		MaxIdleConnsPerHost:    p.many,
		MaxResponseHeaderBytes: headerBytes,
	}
}
