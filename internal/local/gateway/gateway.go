// Package gateway runs versitygw, a real S3 server, as a child process over a
// folder, and lets clients reach it over TLS and over plain http.
//
// The child listens on a Unix socket. This process owns the ports in front of it
// and ends the TLS of one of them. So both ports are one server, a port in use is
// known before anything starts, and no port is chosen twice.
//
// Besides its root user, who may do everything, the server has users who may do
// what the bucket's policy lets them. It decides on their requests as S3 does, but
// for two things, which this process makes good in front of it: who may not list a
// key is told 403, not 404, where it is not there; and whom the policy does not
// let is told what it is that it may not do.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/certs"
	"github.com/lipdrop/lipdrop/internal/local/permissions"
	"github.com/lipdrop/lipdrop/internal/local/process"
)

const (
	// startTimeout is how long the server may take to listen; it takes about a
	// tenth of a second.
	startTimeout = 30 * time.Second
	// startPoll is how often it is looked at until then.
	startPoll = 5 * time.Millisecond
	// stopGrace is how long requests under way may take when it is stopped.
	stopGrace = 3 * time.Second
)

// Config says how to run the server. Every field is required but the last three.
type Config struct {
	Program string // the versitygw program
	Dir     string // holds the objects, their versions and metadata
	Certs   certs.Files
	TLS     net.Listener // for https
	Plain   net.Listener // for http
	Access  string       // access key of the root user
	Secret  string       // its secret key
	Region  string
	Webhook string    // http URL that is told of every change
	Log     io.Writer // what the server says; safe for concurrent use

	// Hosts are what requests may be addressed to. Defaults to loopback's names.
	Hosts access.Hosts

	// Users are the secret keys of the users besides the root user, by their
	// access keys.
	Users map[string]string
	// Denied is told of each request of these users that the bucket's policy does
	// not let them make. It is required where there are any.
	Denied func(*permissions.Denial)
}

// Gateway is a running server.
type Gateway struct {
	child  *process.Child
	fronts []*front
	socket string
	last   *tail
}

// Start starts the server and returns once it takes requests. It closes both
// listeners when it returns an error.
func Start(ctx context.Context, cfg Config) (*Gateway, error) {
	g, err := start(ctx, cfg)
	if err != nil {
		_ = cfg.TLS.Close()
		_ = cfg.Plain.Close()
		return nil, fmt.Errorf("start versitygw: %w", err)
	}
	return g, nil
}

func start(ctx context.Context, cfg Config) (*Gateway, error) {
	cert, err := tls.LoadX509KeyPair(cfg.Certs.Cert, cfg.Certs.Key)
	if err != nil {
		return nil, err
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	g := &Gateway{last: new(tail)}
	if g.socket, err = socketPath(cfg.Dir); err != nil {
		return nil, err
	}
	cmd, err := command(cfg, g.socket)
	if err != nil {
		g.removeSocket()
		return nil, err
	}
	out := io.MultiWriter(cfg.Log, g.last)
	cmd.Stdout, cmd.Stderr = out, out
	if g.child, err = process.Start(cmd); err != nil {
		g.removeSocket()
		return nil, err
	}
	if err := g.ready(ctx); err != nil {
		g.child.Kill()
		g.removeSocket()
		return nil, err
	}
	secure := tls.NewListener(cfg.TLS, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	if cfg.Hosts == nil {
		cfg.Hosts = access.Loopback()
	}
	users := newUsers(cfg, g.dial)
	g.fronts = []*front{serve(secure, g.dial, users, cfg.Hosts), serve(cfg.Plain, g.dial, users, cfg.Hosts)}
	return g, nil
}

// maxSocketPath is what every system allows for the path of a socket; macOS has
// the least, 104 bytes with the zero at its end.
const maxSocketPath = 103

// socketPath returns where the server listens, in a folder that is made for
// it: below dir, or in a temporary folder where dir is too long.
func socketPath(dir string) (string, error) {
	const name = "s3"
	folder := filepath.Join(dir, "socket")
	if len(folder)+1+len(name) <= maxSocketPath {
		return filepath.Join(folder, name), os.MkdirAll(folder, 0o700)
	}
	folder, err := os.MkdirTemp("", "lipdrop-")
	return filepath.Join(folder, name), err
}

// command returns the server's command line and makes the folders in it, whose
// paths must be absolute: the server changes its working directory.
func command(cfg Config, socket string) (*exec.Cmd, error) {
	objects, versions, sidecar := filepath.Join(cfg.Dir, "objects"), filepath.Join(cfg.Dir, "versions"), filepath.Join(cfg.Dir, "sidecar")
	for _, folder := range []string{objects, versions} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, err
		}
	}
	iam, err := writeUsers(cfg)
	if err != nil {
		return nil, err
	}
	args := []string{
		"--quiet", // its request log has presigned queries in it
		"--port", socket,
		"--iam-dir", iam,
		"--region", cfg.Region,
		"posix",
		"--versioning-dir", versions,
	}
	// Metadata stay where the first start put them: moved to another kind of
	// file system, the folder still has them beside the objects.
	_, err = os.Stat(sidecar)
	if err == nil || !extendedAttributes(objects) {
		if err := os.MkdirAll(sidecar, 0o700); err != nil {
			return nil, err
		}
		args = append(args, "--sidecar", sidecar)
	}
	cmd := exec.Command(cfg.Program, append(args, objects)...)
	cmd.Env = []string{"ROOT_ACCESS_KEY_ID=" + cfg.Access, "ROOT_SECRET_ACCESS_KEY=" + cfg.Secret,
		// Its address is a secret, and other users may read a command line.
		"VGW_EVENT_WEBHOOK_URL=" + cfg.Webhook}
	return cmd, nil
}

// ready waits until the server listens or has ended.
func (g *Gateway) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	poll := time.NewTicker(startPoll)
	defer poll.Stop()
	for {
		conn, err := g.dial()
		if err == nil {
			return conn.Close()
		}
		select {
		case <-g.child.Done():
			return g.Err()
		case <-ctx.Done():
			return fmt.Errorf("it did not listen: %w", context.Cause(ctx))
		case <-poll.C:
		}
	}
}

func (g *Gateway) dial() (net.Conn, error) { return net.Dial("unix", g.socket) }

// Done is closed when the server has ended.
func (g *Gateway) Done() <-chan struct{} { return g.child.Done() }

// Err says, once Done is closed, how the server ended and what it said last.
func (g *Gateway) Err() error {
	err := g.child.Err()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("versitygw ended: %w: %s", err, g.last)
}

// Close ends the server and closes its ports.
func (g *Gateway) Close() error {
	for _, f := range g.fronts {
		f.stop()
	}
	err := g.child.Stop(stopGrace)
	for _, f := range g.fronts {
		f.wait()
	}
	g.removeSocket()
	return err
}

func (g *Gateway) removeSocket() { _ = os.RemoveAll(filepath.Dir(g.socket)) }

// tailSize is enough for the few lines in which the server says why it ends.
const tailSize = 2048

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailSize; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

// String returns the last line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.text))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
