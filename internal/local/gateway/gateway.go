// Package gateway runs versitygw, a real S3 server, as a child process over a
// folder.
//
// versitygw listens on a Unix socket. The caller listens on the ports, decrypts TLS and
// passes the requests to a Gateway.
//
// The root user may do everything. Every other user may do what the policy of the bucket
// allows. versitygw enforces the policy. A Gateway changes two kinds of responses to these
// users. If an object is missing and the user may not list its key, the response is 403, as from
// S3, instead of 404. If the policy does not allow a request, the response names the missing
// permission.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/process"
)

const (
	startTimeout = 30 * time.Second     // versitygw takes about a tenth of a second
	startPoll    = 5 * time.Millisecond // between two tries to connect
	stopGrace    = 3 * time.Second      // for the requests under way
)

// Config describes a server. Every field except Webhook, Users and Denied is required.
type Config struct {
	Program string // versitygw
	Dir     string // holds the objects, their versions and metadata
	Access  string // access key of the root user
	Secret  string // secret key of the root user
	Region  string
	Webhook string    // http URL that versitygw calls after every change of an object
	Log     io.Writer // output of versitygw; safe for concurrent use

	// Users has the secret key of each user except the root user, by access key.
	Users map[string]string
	// Denied is called for each request of these users that the policy of the
	// bucket does not allow. Denied is required if there are Users.
	Denied func(*access.Denial)
}

// Gateway is a running server, and handles its requests.
type Gateway struct {
	http.Handler

	child  *process.Child
	socket string
	last   tail
}

// Start starts a server and returns when the server accepts requests.
func Start(ctx context.Context, cfg Config) (*Gateway, error) {
	g := &Gateway{}
	if err := g.start(ctx, cfg); err != nil {
		if g.child != nil {
			g.child.Kill()
		}
		if g.socket != "" {
			g.removeSocket()
		}
		return nil, fmt.Errorf("start versitygw: %w", err)
	}
	return g, nil
}

func (g *Gateway) start(ctx context.Context, cfg Config) (err error) {
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return err
	}
	if g.socket, err = socketPath(cfg.Dir); err != nil {
		return err
	}
	cmd, err := command(cfg, g.socket)
	if err != nil {
		return err
	}
	out := io.MultiWriter(cfg.Log, &g.last)
	cmd.Stdout, cmd.Stderr = out, out
	if g.child, err = process.Start(cmd); err != nil {
		return err
	}
	if err := g.waitUntilReady(ctx); err != nil {
		return err
	}
	g.Handler = newFront(g.dial, newUsers(cfg, g.dial), cfg.Log)
	return nil
}

// maxSocketPath is the length of the longest socket path that every system accepts. macOS has the
// lowest limit: 104 bytes with the zero at the end.
const maxSocketPath = 103

// socketPath makes a folder for the socket and returns the path of the socket. The folder is
// below dir or, if the path of dir is too long, a temporary folder.
func socketPath(dir string) (string, error) {
	const name = "s3"
	folder := filepath.Join(dir, "socket")
	if len(folder)+1+len(name) <= maxSocketPath {
		return filepath.Join(folder, name), os.MkdirAll(folder, 0o700)
	}
	folder, err := os.MkdirTemp("", "lipdrop-")
	if err != nil {
		return "", err
	}
	return filepath.Join(folder, name), nil
}

// command makes the folders of versitygw and returns the command that starts versitygw. The
// paths must be absolute, because versitygw changes its working directory.
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
		"--quiet", // its request log would contain presigned queries
		"--port", socket,
		"--iam-dir", iam,
		"--region", cfg.Region,
		"posix",
		"--versioning-dir", versions,
	}
	// If the sidecar folder exists, it holds the metadata, even if cfg.Dir has since moved to a
	// file system with extended attributes.
	_, err = os.Stat(sidecar)
	if err == nil || !extendedAttributes(objects) {
		if err := os.MkdirAll(sidecar, 0o700); err != nil {
			return nil, err
		}
		args = append(args, "--sidecar", sidecar)
	}
	cmd := exec.Command(cfg.Program, append(args, objects)...)
	cmd.Env = []string{"ROOT_ACCESS_KEY_ID=" + cfg.Access, "ROOT_SECRET_ACCESS_KEY=" + cfg.Secret,
		// The URL contains a secret, and other users of this machine can read a command line.
		"VGW_EVENT_WEBHOOK_URL=" + cfg.Webhook}
	return cmd, nil
}

// waitUntilReady waits until versitygw listens. It returns an error if versitygw ends first or does not
// listen in time.
func (g *Gateway) waitUntilReady(ctx context.Context) error {
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
			return fmt.Errorf("it does not listen: %w", context.Cause(ctx))
		case <-poll.C:
		}
	}
}

func (g *Gateway) dial() (net.Conn, error) { return net.Dial("unix", g.socket) }

// Done is closed when versitygw has ended.
func (g *Gateway) Done() <-chan struct{} { return g.child.Done() }

// Err returns how versitygw ended, with the last line of its output. Call Err only after
// Done is closed.
func (g *Gateway) Err() error {
	err := g.child.Err()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("versitygw ended: %w: %s", err, &g.last)
}

// Close ends versitygw.
func (g *Gateway) Close() {
	g.child.Stop(stopGrace)
	g.removeSocket()
}

func (g *Gateway) removeSocket() { _ = os.RemoveAll(filepath.Dir(g.socket)) }

// tailSize is enough for the last line of versitygw's output.
const tailSize = 2048

// tail keeps the last tailSize bytes that were written to it. It is not safe for concurrent use.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	*t = (*t)[max(0, len(*t)-tailSize):]
	return len(p), nil
}

// String returns the last line.
func (t *tail) String() string {
	text := strings.TrimSpace(string(*t))
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// EnsureBucket makes a bucket if the bucket does not exist, and enables versioning, as
// template.yaml does.
func EnsureBucket(ctx context.Context, client *s3.Client, name string) error {
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name})
	if _, owned := errors.AsType[*types.BucketAlreadyOwnedByYou](err); err != nil && !owned {
		return fmt.Errorf("make bucket %s: %w", name, err)
	}
	_, err = client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
		Bucket:                  &name,
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		return fmt.Errorf("enable versioning of bucket %s: %w", name, err)
	}
	return nil
}
