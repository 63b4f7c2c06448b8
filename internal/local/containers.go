package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	// ContainerHost is what Docker's containers call the machine that they run
	// on. A machine itself need not know the name.
	ContainerHost = "host.docker.internal"

	// bridgeName is the interface of Docker's default network, which a daemon on
	// this machine makes. Docker Desktop has none: it hands what is sent to
	// ContainerHost to loopback.
	bridgeName = "docker0"
)

// bridge returns this machine's address in Docker's default network, and that
// network, or false where there is none.
func bridge() (net.IP, *net.IPNet, bool) {
	card, err := net.InterfaceByName(bridgeName)
	if err != nil {
		return nil, nil, false
	}
	addresses, err := card.Addrs()
	if err != nil {
		return nil, nil, false
	}
	for _, address := range addresses {
		if ip, network, err := net.ParseCIDR(address.String()); err == nil && ip.To4() != nil {
			return ip, network, true
		}
	}
	return nil, nil, false
}

// openToContainers makes the plain listeners take connections of Docker's
// containers on this machine too, at the same ports. Without a bridge it does
// nothing.
func (l *listeners) openToContainers() error {
	ip, network, ok := bridge()
	if !ok {
		return nil
	}
	for _, plain := range []*net.Listener{&l.s3Plain, &l.awsPlain, &l.runComfyPlain} {
		port := (*plain).Addr().(*net.TCPAddr).Port
		inner, err := net.Listen("tcp", net.JoinHostPort(ip.String(), strconv.Itoa(port)))
		if err != nil {
			return err
		}
		*plain = join(*plain, inner, network)
	}
	return nil
}

// joined is a listener on loopback that takes the connections of a bridge too.
type joined struct {
	net.Listener
	bridge  net.Listener
	network *net.IPNet // of those whom the bridge is for
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func join(loopback, bridge net.Listener, network *net.IPNet) *joined {
	j := &joined{Listener: loopback, bridge: bridge, network: network, conns: make(chan net.Conn), closed: make(chan struct{})}
	go j.take(loopback, func(net.IP) bool { return true })
	go j.take(bridge, network.Contains) // a bridge's address can be reached from other networks too
	return j
}

// acceptPause passes before a listener is asked again that could not accept,
// for too many open files, say.
const acceptPause = 5 * time.Millisecond

func (j *joined) take(from net.Listener, welcome func(net.IP) bool) {
	for {
		conn, err := from.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause)
			continue
		}
		if !welcome(conn.RemoteAddr().(*net.TCPAddr).IP) {
			_ = conn.Close()
			continue
		}
		select {
		case j.conns <- conn:
		case <-j.closed:
			_ = conn.Close()
		}
	}
}

func (j *joined) Accept() (net.Conn, error) {
	select {
	case conn := <-j.conns:
		return conn, nil
	case <-j.closed:
		return nil, net.ErrClosed
	}
}

func (j *joined) Close() error {
	err := net.ErrClosed
	j.once.Do(func() {
		close(j.closed)
		err = errors.Join(j.Listener.Close(), j.bridge.Close())
	})
	return err
}

// dialContainerHost makes a transport reach this machine by the name that
// containers have for it: the URLs that a function in a container presigns.
func dialContainerHost(transport *http.Transport) {
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(address); err == nil && host == ContainerHost {
			address = net.JoinHostPort("127.0.0.1", port)
		}
		return dial(ctx, network, address)
	}
}

// WriteEnv writes the file that `sam local` takes with --env-vars: the
// variables with which each function of template.yaml reaches this stack from a
// container (see Options.Containers). SAM passes on those that the template
// declares for a function. Credentials are not among them: it takes its own, from
// its environment, for all functions, so that one in a container may do what its
// role does only where those are the function's.
func (s *Stack) WriteEnv(path string) error {
	all := map[string]map[string]string{}
	for name, id := range logicalIDs {
		all[id] = s.Variables(name, true)
		maps.Copy(all[id], s.options.Variables)
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}

// WriteCredentials writes a shell script that gives a shell the owner's
// credentials for this stack, in place of any others.
func (s *Stack) WriteCredentials(path string) error {
	text := fmt.Sprintf("unset AWS_PROFILE AWS_SESSION_TOKEN\nexport AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s AWS_DEFAULT_REGION=%s\n",
		AccessKey, s.Keys().SecretKey, Region)
	return os.WriteFile(path, []byte(text), 0o600)
}
