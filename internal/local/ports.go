package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"
)

// Ports are the ports on 127.0.0.1 of what the stack serves, each over TLS and
// over plain http. A port of 0 is the one that the same folder had last time,
// or else any that is free.
type Ports struct {
	S3            int `json:"s3"`
	S3Plain       int `json:"s3Plain"`
	AWS           int `json:"aws"` // Step Functions and Secrets Manager
	AWSPlain      int `json:"awsPlain"`
	RunComfy      int `json:"runComfy"`
	RunComfyPlain int `json:"runComfyPlain"`
}

// PortError says that a port that was asked for is in use.
type PortError struct {
	Port int
	Err  error
}

func (e *PortError) Error() string {
	return fmt.Sprintf("port %d of this machine is in use: end the program that listens there, or choose another port", e.Port)
}

func (e *PortError) Unwrap() error { return e.Err }

// listeners are open ports.
type listeners struct {
	s3, s3Plain, aws, awsPlain, runComfy, runComfyPlain net.Listener
}

func (l *listeners) all() []net.Listener {
	return []net.Listener{l.s3, l.s3Plain, l.aws, l.awsPlain, l.runComfy, l.runComfyPlain}
}

func (l *listeners) close() {
	for _, each := range l.all() {
		if each != nil {
			_ = each.Close()
		}
	}
}

// open opens ports. Those that are not asked for are, where that is possible,
// the ones in a file, which is then rewritten.
func openPorts(wanted Ports, path string) (*listeners, error) {
	var last Ports
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &last)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l := new(listeners)
	var opened Ports
	for _, p := range []struct {
		listener             *net.Listener
		opened, wanted, last *int
	}{
		{&l.s3, &opened.S3, &wanted.S3, &last.S3},
		{&l.s3Plain, &opened.S3Plain, &wanted.S3Plain, &last.S3Plain},
		{&l.aws, &opened.AWS, &wanted.AWS, &last.AWS},
		{&l.awsPlain, &opened.AWSPlain, &wanted.AWSPlain, &last.AWSPlain},
		{&l.runComfy, &opened.RunComfy, &wanted.RunComfy, &last.RunComfy},
		{&l.runComfyPlain, &opened.RunComfyPlain, &wanted.RunComfyPlain, &last.RunComfyPlain},
	} {
		if *p.listener, err = openPort(*p.wanted, *p.last); err != nil {
			l.close()
			return nil, err
		}
		*p.opened = (*p.listener).Addr().(*net.TCPAddr).Port
	}
	if text, err = json.Marshal(opened); err == nil {
		err = writeFile(path, text)
	}
	if err != nil {
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
	if last != 0 {
		if l, err := listen(last); err == nil {
			return l, nil
		}
	}
	return listen(0)
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// writeFile writes a file in one step for those who read it.
func writeFile(path string, text []byte) error {
	partial := path + ".partial"
	if err := os.WriteFile(partial, text, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, path)
}
