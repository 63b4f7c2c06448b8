package local

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/lipdrop/lipdrop/internal/private"
)

// Ports are the ports of the stack on 127.0.0.1, for TLS and for plain http. A port of 0
// means the port of the last stack on the same folder. If there was no such stack, or its port
// is in use, 0 means any free port.
type Ports struct {
	TLS   int `json:"tls"`
	Plain int `json:"plain"`
}

// PortError means that a port is in use.
type PortError struct{ Port int }

func (e *PortError) Error() string { return fmt.Sprintf("port %d is in use", e.Port) }

const portsFile = "ports.json"

// ReadPorts reads the ports that the stack in a state folder had last.
func ReadPorts(dir string) (Ports, error) {
	var p Ports
	err := private.ReadJSON(filepath.Join(dir, portsFile), &p)
	return p, err
}

// openPorts opens ports and writes their numbers into a file of the state folder.
func openPorts(wanted Ports, dir string) (tls, plain net.Listener, err error) {
	last, err := ReadPorts(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if last.Plain == wanted.TLS {
		last.Plain = 0 // that port is requested for TLS now
	}
	if plain, err = openPort(wanted.Plain, last.Plain); err != nil {
		return nil, nil, err
	}
	if tls, err = openPort(wanted.TLS, last.TLS); err != nil {
		return nil, nil, errors.Join(err, plain.Close())
	}
	if err := private.ReplaceJSON(filepath.Join(dir, portsFile), Ports{TLS: port(tls), Plain: port(plain)}); err != nil {
		return nil, nil, errors.Join(err, tls.Close(), plain.Close())
	}
	return tls, plain, nil
}

// openPort opens the wanted port. If wanted is 0, it tries the last port, then any free port.
func openPort(wanted, last int) (net.Listener, error) {
	l, err := listen(loopback, cmp.Or(wanted, last))
	if err != nil && wanted == 0 {
		return listen(loopback, 0)
	}
	return l, err
}

const loopback = "127.0.0.1"

// listen opens a port. It returns a *PortError if the port is in use.
func listen(host string, port int) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		err = &PortError{port}
	}
	return l, err
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
