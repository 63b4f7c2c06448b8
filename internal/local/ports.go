package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/lipdrop/lipdrop/internal/local/certs"
	"github.com/lipdrop/lipdrop/internal/private"
)

// Ports are the ports on 127.0.0.1 of what the stack serves, each over TLS and
// over plain http. A port of 0 means the port that the same folder had last time,
// or else any free one.
type Ports struct {
	S3            int `json:"s3"`
	S3Plain       int `json:"s3Plain"`
	AWS           int `json:"aws"` // see Endpoints
	AWSPlain      int `json:"awsPlain"`
	RunComfy      int `json:"runComfy"`
	RunComfyPlain int `json:"runComfyPlain"`
}

func (p *Ports) all() []*int {
	return []*int{&p.S3, &p.S3Plain, &p.AWS, &p.AWSPlain, &p.RunComfy, &p.RunComfyPlain}
}

// PortError means that a port is in use.
type PortError struct {
	Port int
	Err  error
}

func (e *PortError) Error() string {
	return fmt.Sprintf("port %d of this machine is in use: end the program that listens there, or choose another port", e.Port)
}

func (e *PortError) Unwrap() error { return e.Err }

// listeners are the open ports, in the order of Ports. A plain port may have a second
// listener, for containers.
type listeners struct {
	s3, s3Plain, aws, awsPlain, runComfy, runComfyPlain []net.Listener
}

func (l *listeners) all() []*[]net.Listener {
	return []*[]net.Listener{&l.s3, &l.s3Plain, &l.aws, &l.awsPlain, &l.runComfy, &l.runComfyPlain}
}

// secure makes the ports for TLS speak TLS.
func (l *listeners) secure(files certs.Files) error {
	for i, open := range [][]net.Listener{l.s3, l.aws, l.runComfy} {
		var protocols []string
		if i > 0 {
			protocols = []string{"h2", "http/1.1"} // versitygw does not speak h2
		}
		secured, err := files.Listener(open[0], protocols...)
		if err != nil {
			return err
		}
		open[0] = secured
	}
	return nil
}

func (l *listeners) close() {
	for _, open := range l.all() {
		for _, listener := range *open {
			_ = listener.Close()
		}
	}
}

func port(open []net.Listener) int { return open[0].Addr().(*net.TCPAddr).Port }

const portsFile = "ports.json"

// ReadPorts reads the ports that the stack in a state folder had last.
func ReadPorts(dir string) (Ports, error) {
	var p Ports
	err := readState(filepath.Join(dir, portsFile), &p)
	return p, err
}

// readState reads a JSON file of a state folder.
func readState(path string, into any) error {
	text, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(text, into) != nil {
		err = fmt.Errorf("%s is damaged: delete it, and start the local stack again", path)
	}
	return err
}

// openPorts opens ports and writes their numbers into a file of the state folder. For a
// port of 0 it tries the port in the file first.
func openPorts(wanted Ports, dir string) (*listeners, error) {
	last, err := ReadPorts(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var opened Ports
	l := &listeners{}
	for _, requested := range []bool{true, false} { // requested ports first: the file may name one of them for another purpose
		for i, open := range l.all() {
			if (*wanted.all()[i] != 0) != requested {
				continue
			}
			listener, err := openPort(*wanted.all()[i], *last.all()[i])
			if err != nil {
				l.close()
				return nil, err
			}
			*open = []net.Listener{listener}
			*opened.all()[i] = port(*open)
		}
	}
	if err := private.ReplaceJSON(filepath.Join(dir, portsFile), opened); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func openPort(wanted, last int) (net.Listener, error) {
	if wanted != 0 {
		l, err := listen(wanted)
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, &PortError{wanted, err}
		}
		return l, err
	}
	if l, err := listen(last); err == nil {
		return l, nil
	}
	return listen(0)
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}
