package local

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/template"
)

const (
	// ContainerHost is the name by which Docker containers reach the machine that
	// they run on.
	ContainerHost = "host.docker.internal"

	// bridgeName is the interface of Docker's default network, which a Docker daemon
	// on this machine creates. Docker Desktop needs no such interface, because it forwards
	// to loopback what is sent to ContainerHost.
	bridgeName = "docker0"
)

// bridge returns the IPv4 address of this machine in Docker's default network, and the
// network. It returns false if there is no such address.
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

// containersOnly accepts connections only from the given network. Hosts of other networks can
// also reach the address of a bridge.
type containersOnly struct {
	net.Listener
	network *net.IPNet
}

func (l containersOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || l.network.Contains(conn.RemoteAddr().(*net.TCPAddr).IP) {
			return conn, err
		}
		_ = conn.Close()
	}
}

// dialContainerHost makes a transport connect to loopback if the host is ContainerHost. A function in
// a container presigns URLs with this host, and this machine may not know the name.
func dialContainerHost(transport *http.Transport) {
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(address); err == nil && host == ContainerHost {
			address = net.JoinHostPort(loopback, port)
		}
		return dial(ctx, network, address)
	}
}

// WriteEnv writes the file that `sam local` reads with --env-vars: the
// variables with which each function of template.yaml reaches this stack from a
// container (see Options.Containers). SAM passes on only the variables that the
// template declares for a function. The template does not declare the credentials, so SAM
// gives all functions the credentials of its own environment. If these are the owner's
// credentials, the roles of the functions are not enforced.
func (s *Stack) WriteEnv(path string) error {
	all := map[string]map[string]string{}
	for name, id := range template.LogicalIDs {
		all[id] = s.Variables(name, true)
	}
	return os.WriteFile(path, bucket.JSON(all, "  "), 0o600)
}

// Credentials returns shell commands that replace the credentials of a shell by the owner's
// credentials for this stack.
func (s *Stack) Credentials() string {
	return fmt.Sprintf("unset AWS_PROFILE AWS_SESSION_TOKEN AWS_REGION\nexport AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s AWS_DEFAULT_REGION=%s\n",
		AccessKey, s.Keys().SecretKey, Region)
}
