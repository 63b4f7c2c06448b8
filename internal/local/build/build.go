// Package build builds the programs of the local stack with the Go command, from the
// source in a checkout: the S3 server, at the version in tools/go.mod, and the Lambda
// functions.
package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/lipdrop/lipdrop/internal/private"
)

// module is the first line of the go.mod of this project.
const module = "module github.com/lipdrop/lipdrop\n"

// SourceVariable is the environment variable that names the checkout to build.
const SourceVariable = "LIPDROP_SOURCE"

// Root returns the root of the checkout that contains dir. If SourceVariable is set, it
// returns the checkout that the variable names.
//
// The local stack builds and runs the programs of the checkout. Another user may have
// put a checkout into a folder that several users can write to. So the checkout must
// belong to this user, as git's safe.directory demands. Root does not check the owner of
// a checkout that SourceVariable names.
func Root(dir string) (string, error) {
	if named := os.Getenv(SourceVariable); named != "" {
		root, err := filepath.Abs(named)
		if err == nil && !isRoot(root) {
			err = fmt.Errorf("%s is not a checkout of lipdrop: set %s to one, or unset it", root, SourceVariable)
		}
		return root, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if isRoot(at) {
			return at, checkOwner(at)
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not in a checkout of lipdrop, from which the local stack builds its programs: change into one, or set %s to one", dir, SourceVariable)
		}
	}
}

// isRoot reports whether a folder is the root of a checkout.
func isRoot(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && strings.HasPrefix(string(text), module)
}

// checkOwner returns an error if a checkout belongs to another user.
func checkOwner(root string) error {
	for _, path := range []string{root, filepath.Join(root, "go.mod"), filepath.Join(root, "functions"), filepath.Join(root, "tools")} {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !private.Owned(info) {
			return fmt.Errorf("%s belongs to another user of this machine, and the local stack would build and run the programs in %s: change into a checkout of your own, or set %s=%s if you trust this one",
				path, root, SourceVariable, root)
		}
	}
	return nil
}

// CacheDir returns the folder in the user's cache for the programs, and makes it.
// Other users can neither read nor change what is in it.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the programs of the local stack: %w", err)
	}
	dir = filepath.Join(dir, "lipdrop")
	return dir, private.Dir(dir)
}

// Source is a checkout and the cache of its programs.
type Source struct {
	Root  string       // the checkout: see Root
	Cache string       // see CacheDir
	Say   func(string) // is called with a sentence before something that takes long
}

// gatewayPackage is the main package of the S3 server.
const gatewayPackage = "github.com/versity/versitygw/cmd/versitygw"

// requirement matches the line of tools/go.mod with the version of the S3 server.
var requirement = regexp.MustCompile(`(?m)^\s*(?:require\s+)?github\.com/versity/versitygw\s+(v\S+)`)

// Gateway returns the path of the S3 server. It builds the program if it does not
// exist, which takes about a minute. Processes that call Gateway at the same time
// build it once.
func (s Source) Gateway(ctx context.Context) (string, error) {
	tools := filepath.Join(s.Root, "tools")
	text, err := os.ReadFile(filepath.Join(tools, "go.mod"))
	if err != nil {
		return "", err
	}
	match := requirement.FindSubmatch(text)
	if match == nil {
		return "", fmt.Errorf("%s names no version of versitygw", filepath.Join(tools, "go.mod"))
	}
	program := filepath.Join(s.Cache, "versitygw-"+string(match[1]))
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	held, err := s.lock(ctx, "versitygw.lock", "another process is building versitygw: waiting for it")
	if err != nil {
		return "", err
	}
	defer func() { _ = held.Unlock() }()
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	s.Say(fmt.Sprintf("building versitygw %s, the local S3 server: once, for about a minute", match[1]))
	// The program gets its name when it is complete, because a build may be killed.
	partial := program + ".partial"
	if err := s.build(ctx, tools, "-o", partial, gatewayPackage); err != nil {
		return "", fmt.Errorf("build versitygw %s: %w", match[1], err)
	}
	return program, os.Rename(partial, program)
}

// quick is the longest build that needs no message: one after a small change.
const quick = 2 * time.Second

// Functions builds functions/<name> for each name and stores the program as
// <dir>/<name>/bootstrap, the file that Lambda runs.
func (s Source) Functions(ctx context.Context, dir string, names ...string) error {
	// The cache has one folder for each checkout, so that the Go command need not
	// link unchanged programs again.
	sum := sha256.Sum256([]byte(s.Root))
	kept := "functions-" + hex.EncodeToString(sum[:6])
	if err := os.MkdirAll(filepath.Join(s.Cache, kept), 0o755); err != nil {
		return err
	}
	held, err := s.lock(ctx, kept+".lock", "another process is building the functions: waiting for it")
	if err != nil {
		return err
	}
	defer func() { _ = held.Unlock() }()
	// The tag leaves out the RPC of a runtime that Lambda has retired.
	args := []string{"-tags", "lambda.norpc", "-o", filepath.Join(s.Cache, kept) + string(filepath.Separator)}
	for _, name := range names {
		args = append(args, "./functions/"+name)
	}
	slow := time.AfterFunc(quick, func() { s.Say("building the Lambda functions: the first time takes about a minute") })
	defer slow.Stop()
	if err := s.build(ctx, s.Root, args...); err != nil {
		return fmt.Errorf("build the functions: %w", err)
	}
	for _, name := range names {
		if err := install(filepath.Join(s.Cache, kept, name), filepath.Join(dir, name, "bootstrap")); err != nil {
			return err
		}
	}
	return nil
}

// lockEvery is how often lock tries to take a lock that another process holds.
const lockEvery = 50 * time.Millisecond

// lock takes a lock in the cache. If another process holds it, lock calls Say with the
// text waiting, and waits. The kernel releases the lock when the process ends.
func (s Source) lock(ctx context.Context, name, waiting string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(s.Cache, name), flock.SetPermissions(0o600))
	held, err := lock.TryLock()
	if err == nil && !held {
		s.Say(waiting)
		_, err = lock.TryLockContext(ctx, lockEvery)
	}
	return lock, err
}

// build runs go build in a folder, without symbols for debuggers. It leaves out the commit,
// because git refuses to read the checkout of another user. It builds for this machine, even
// if the environment names another system.
func (s Source) build(ctx context.Context, dir string, args ...string) error {
	tool, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("the go command is not on PATH: install Go (%w)", err)
	}
	cmd := exec.CommandContext(ctx, tool, append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GOWORK=off", "PWD="+dir)
	var output bytes.Buffer
	cmd.Stderr = &output
	err = cmd.Run()
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	text := strings.TrimSpace(output.String())
	if unreachable.MatchString(text) {
		last := text[strings.LastIndexByte(text, '\n')+1:]
		return fmt.Errorf("the Go module proxy could not be reached. It is needed only the first time: connect to a network, or set GOPROXY to a proxy that you can reach, and run this again (%s)", last)
	}
	return fmt.Errorf("%w\n%s", err, text)
}

// unreachable matches the errors of the Go command if it cannot download a module.
var unreachable = regexp.MustCompile(`Get "https?://|GOPROXY=off|GOPROXY list is not the empty string|dial tcp`)

// install copies a program to a path in one step.
func install(program, path string) error {
	body, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return private.Replace(path, body, 0o755)
}
