package transfer

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// Origins is the list of origins that may be fetched. The zero value allows
// none.
type Origins struct {
	exact    map[string]bool // "https://host:port", listed word for word
	suffixes []string        // ".example.com", for https on its default port
}

// ParseOrigins reads a list of origins. An entry is `https://*.example.com`,
// which stands for each name below example.com at any depth, on the default
// port, and not for example.com itself; or one origin word for word, which may
// have another port, be a literal address, or be plain http. An origin listed
// word for word may also be on a private network. The error names every entry
// that is neither.
func ParseOrigins(entries []string) (Origins, error) {
	o := Origins{exact: map[string]bool{}}
	var errs []error
	for _, entry := range entries {
		if err := o.add(entry); err != nil {
			errs = append(errs, fmt.Errorf("origin %q: %w", entry, err))
		}
	}
	if len(entries) == 0 {
		errs = append(errs, errors.New("no origin is listed"))
	}
	if err := errors.Join(errs...); err != nil {
		return Origins{}, err
	}
	return o, nil
}

func (o *Origins) add(entry string) error {
	u, err := url.Parse(entry)
	switch {
	case err != nil || u.Host == "":
		return errors.New("not an origin, such as https://*.example.com")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("neither https nor http")
	case u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("more than scheme, host and port")
	}
	if domain, wild := strings.CutPrefix(u.Host, "*."); wild {
		switch {
		case u.Scheme != "https":
			return errors.New("a wildcard stands for https alone")
		case u.Port() != "" || !isName(domain):
			return errors.New("a wildcard stands for names on the default port")
		case !strings.Contains(domain, "."):
			return errors.New("a wildcard needs two labels after it")
		}
		o.suffixes = append(o.suffixes, "."+strings.ToLower(domain))
		return nil
	}
	if !isName(u.Hostname()) && !isLiteral(u.Hostname()) {
		return errors.New("neither a name nor an address")
	}
	o.exact[originOf(u)] = true
	return nil
}

// maxHost is the longest host with its port: a name has at most 253 characters.
const maxHost = 260

// check returns a *OutputRefused unless u may be fetched.
func (o Origins) check(u *url.URL) error {
	refuse := func(reason string) error {
		return &OutputRefused{Host: addressOf(u), Reason: reason}
	}
	host := strings.ToLower(u.Hostname())
	switch {
	case u.Scheme != "https" && u.Scheme != "http", host == "":
		return &OutputRefused{Reason: "not an https address"}
	case len(u.Host) > maxHost:
		return &OutputRefused{Reason: "the host is too long"}
	case !isName(host) && !isLiteral(host):
		return &OutputRefused{Reason: "the host is neither a name nor an address"}
	case u.User != nil:
		return refuse("a user name in an address is not allowed")
	case o.exact[originOf(u)]:
		return nil
	case u.Scheme == "https" && portOf(u) == "443" && isName(host):
		for _, suffix := range o.suffixes {
			if len(host) > len(suffix) && strings.HasSuffix(host, suffix) {
				return nil
			}
		}
	case u.Scheme == "http":
		return refuse("plain http is not allowed")
	}
	return refuse("not an allowed origin")
}

// listed reports whether the host and port that is about to be dialled was
// listed word for word.
func (o Origins) listed(address string) bool {
	address = strings.ToLower(address)
	return o.exact["https://"+address] || o.exact["http://"+address]
}

// hostName is a host name of letters, digits, hyphens and underscores: whatever
// else a resolver or an IDNA mapping might make of a host, it does not get that
// far.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func isName(host string) bool {
	return hostName.MatchString(host) && !isLiteral(host)
}

func isLiteral(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// originOf returns scheme, host and port of u, the port always written.
func originOf(u *url.URL) string {
	return u.Scheme + "://" + addressOf(u)
}

// addressOf returns host and port of u as a dialler gets them.
func addressOf(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + portOf(u)
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}
