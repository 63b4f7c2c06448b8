// Package build builds the programs of the local stack with the Go command: the Lambda
// functions, from the source in a checkout, and the S3 server, at the version in the
// checkout's tools/go.mod.
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
	"path"
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
// put a checkout into a folder that several users can write to. So, like git, Root returns an
// error if the checkout belongs to another user. Root does not check the owner of a
// checkout that SourceVariable names.
func Root(dir string) (string, error) {
	if named := os.Getenv(SourceVariable); named != "" {
		root, err := filepath.Abs(named)
		if err == nil && !isRoot(root) {
			err = fmt.Errorf("%s is not a checkout of lipdrop: set %s to a checkout, or unset %[2]s", root, SourceVariable)
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
			return "", fmt.Errorf("%s is not in a checkout of lipdrop, from which the local stack builds its programs: change into a checkout, or set %s to a checkout", dir, SourceVariable)
		}
	}
}

func isRoot(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && strings.HasPrefix(string(text), module)
}

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
			return fmt.Errorf("%s belongs to another user of this machine, and the local stack would build and run the programs in %s: change into a checkout of your own, or set %s=%s if you trust this checkout",
				path, root, SourceVariable, root)
		}
	}
	return nil
}

// Source is a checkout and the cache of built programs.
type Source struct {
	Root  string       // the checkout: see Root
	Cache string       // a folder in the user's cache, for all checkouts; other users can neither read nor change its files
	Say   func(string) // is called with a sentence when something takes long
}

// Find returns the checkout that Root finds, with a cache for its programs. Find makes the
// cache folder.
func Find(dir string, say func(string)) (Source, error) {
	root, err := Root(dir)
	if err != nil {
		return Source{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Source{}, fmt.Errorf("there is no folder for the programs of the local stack: %w. Set HOME to your home folder, and XDG_CACHE_HOME to an absolute path or not at all", err)
	}
	s := Source{root, filepath.Join(cache, "lipdrop"), say}
	return s, private.Dir(s.Cache)
}

// Gateway returns the path of the S3 server. It first builds the program if necessary. The
// first build takes about a minute.
func (s Source) Gateway(ctx context.Context) (string, error) {
	programs, err := s.build(ctx, "tools", "the local S3 server", "github.com/versity/versitygw/cmd/versitygw")
	return filepath.Join(programs, "versitygw"), err
}

// Functions builds functions/<name> for each name and stores the program as
// <dir>/<name>/bootstrap, the file that Lambda runs.
func (s Source) Functions(ctx context.Context, dir string, names ...string) error {
	var packages []string
	for _, name := range names {
		packages = append(packages, "./functions/"+name)
	}
	programs, err := s.build(ctx, ".", "the Lambda functions", packages...)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := install(filepath.Join(programs, name), filepath.Join(dir, name, "bootstrap")); err != nil {
			return err
		}
	}
	return nil
}

const (
	// lockEvery is how often build tries to take a lock that another process holds.
	lockEvery = 50 * time.Millisecond
	// quick is how long a build may take before Say is called. A build after a small change
	// takes less.
	quick = 2 * time.Second
	// interruptGrace is how long the Go command may take to end after an interrupt.
	interruptGrace = 10 * time.Second
)

// build builds main packages in a folder of the checkout and returns the folder of the
// programs. This folder stays in the cache, one for each checkout, so that the Go command does not
// link unchanged programs again. If several processes call build for one checkout at the
// same time, they build one after the other.
//
// The programs have no symbols for debuggers, and are for this machine, even if the
// environment names another system. They do not contain the commit: the Go command would
// ask git for the commit, and git refuses to read a checkout of another user.
func (s Source) build(ctx context.Context, folder, what string, packages ...string) (programs string, err error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return "", fmt.Errorf("the go command is not on PATH: install Go (%w)", err)
	}
	sum := sha256.Sum256([]byte(s.Root))
	programs = filepath.Join(s.Cache, hex.EncodeToString(sum[:6]))
	if err := os.MkdirAll(programs, 0o700); err != nil {
		return "", err
	}
	lock := flock.New(programs+".lock", flock.SetPermissions(0o600)) // the kernel releases the lock when the process ends
	held, err := lock.TryLock()
	if err == nil && !held {
		s.Say("another process is building programs of this checkout: waiting for it")
		_, err = lock.TryLockContext(ctx, lockEvery)
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Unlock() }()
	notice := "building " + what
	if _, err := os.Stat(filepath.Join(programs, path.Base(packages[0]))); err != nil {
		notice += ": the first time takes about a minute"
	}
	slow := time.AfterFunc(quick, func() { s.Say(notice) })
	defer slow.Stop()

	// The tag lambda.norpc leaves out the RPC of a runtime that Lambda has retired.
	args := []string{"build", "-trimpath", "-buildvcs=false", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", programs + string(filepath.Separator)}
	cmd := exec.CommandContext(ctx, tool, append(args, packages...)...)
	cmd.Dir = filepath.Join(s.Root, folder)
	// The Go command renames each complete program into place if GOTMPDIR is in the same file
	// system. After an interrupt, the Go command removes its unfinished files.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GOWORK=off", "PWD="+cmd.Dir, "GOTMPDIR="+s.Cache)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = interruptGrace
	var output bytes.Buffer
	cmd.Stderr = &output
	err = cmd.Run()
	if err == nil || ctx.Err() != nil {
		return programs, ctx.Err()
	}
	text := strings.TrimSpace(output.String())
	if unreachable.MatchString(text) {
		last := text[strings.LastIndexByte(text, '\n')+1:]
		return "", fmt.Errorf("build %s: the Go module proxy could not be reached. A build needs it only the first time: connect to a network, or set GOPROXY to a proxy that you can reach, and run this again (%s)", what, last)
	}
	return "", fmt.Errorf("build %s: %w\n%s", what, err, text)
}

// unreachable matches what the Go command prints when it cannot download a module.
var unreachable = regexp.MustCompile(`Get "https?://|GOPROXY=off|GOPROXY list is not the empty string|dial tcp`)

// install copies a program to a path. The path never holds half a program.
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
