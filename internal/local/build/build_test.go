package build_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gofrs/flock"

	"github.com/lipdrop/lipdrop/internal/local/build"
)

// checkout writes a project with two functions and without dependencies, and returns it as
// a Source.
func checkout(t *testing.T) build.Source {
	t.Helper()
	root := t.TempDir()
	write(t, root, "go.mod", "module github.com/lipdrop/lipdrop\n\ngo 1.26\n")
	write(t, root, "functions/one/main.go", "package main\n\nfunc main() { println(1) }\n")
	write(t, root, "functions/two/main.go", "package main\n\nfunc main() { println(2) }\n")
	t.Setenv(build.SourceVariable, "") // the user may have set it
	return build.Source{Root: root, Cache: t.TempDir(), Say: func(string) {}}
}

func write(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestRoot(t *testing.T) {
	src := checkout(t)
	write(t, src.Root, "tools/go.mod", "module github.com/lipdrop/lipdrop/tools\n")
	for name, from := range map[string]string{
		"the root itself":        src.Root,
		"a folder below":         filepath.Join(src.Root, "functions", "one"),
		"a module in the module": filepath.Join(src.Root, "tools"),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := build.Root(from)
			if err != nil || got != src.Root {
				t.Errorf("Root(%s) = %s, %v, want %s", from, got, err, src.Root)
			}
		})
	}
	t.Run("elsewhere", func(t *testing.T) {
		if got, err := build.Root(t.TempDir()); err == nil {
			t.Errorf("Root() = %s, want an error", got)
		}
	})
}

// Another user has put a checkout into a folder that several users can write to. The person
// who runs the command works in their own folder below that checkout.
func TestRootOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	for _, path := range []string{".", "go.mod", "functions", "tools"} {
		t.Run(path, func(t *testing.T) {
			src := checkout(t)
			write(t, src.Root, "tools/go.mod", "module github.com/lipdrop/lipdrop/tools\n")
			victim := filepath.Join(src.Root, "victim")
			if err := errors.Join(os.Mkdir(victim, 0o700), os.Lchown(filepath.Join(src.Root, path), 65534, 65534)); err != nil {
				t.Fatal(err)
			}
			if _, err := build.Root(victim); err == nil || !strings.Contains(err.Error(), "belongs to another user") || !strings.Contains(err.Error(), "LIPDROP_SOURCE="+src.Root) {
				t.Errorf("Root() = %v, want an error that says that the checkout belongs to another user, and names LIPDROP_SOURCE", err)
			}
			t.Setenv("LIPDROP_SOURCE", src.Root)
			if got, err := build.Root(victim); err != nil || got != src.Root {
				t.Errorf("Root() = %s, %v, want the checkout that was named", got, err)
			}
		})
	}
}

func TestRootThatIsNamed(t *testing.T) {
	src := checkout(t)
	other := checkout(t)
	t.Setenv("LIPDROP_SOURCE", other.Root)
	if got, err := build.Root(src.Root); err != nil || got != other.Root {
		t.Errorf("Root() = %s, %v, want the checkout that was named", got, err)
	}
	t.Setenv("LIPDROP_SOURCE", filepath.Join(other.Root, "functions"))
	if got, err := build.Root(src.Root); err == nil || !strings.Contains(err.Error(), "set LIPDROP_SOURCE to a checkout, or unset LIPDROP_SOURCE") {
		t.Errorf("Root() = %s, %v, want an error that says to set or unset LIPDROP_SOURCE", got, err)
	}
}

func TestFindWithoutAHome(t *testing.T) {
	src := checkout(t)
	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	if _, err := build.Find(src.Root, func(string) {}); err == nil || !strings.Contains(err.Error(), "Set HOME to your home folder, and XDG_CACHE_HOME to an absolute path or not at all") {
		t.Errorf("Find() = %v, want an error that says to set HOME and XDG_CACHE_HOME", err)
	}
}

func TestInterruptedWhileAnotherBuilds(t *testing.T) {
	src := checkout(t)
	if err := src.Functions(t.Context(), t.TempDir(), "one"); err != nil {
		t.Fatal(err)
	}
	locks, err := filepath.Glob(filepath.Join(src.Cache, "*.lock"))
	if err != nil || len(locks) != 1 {
		t.Fatalf("locks %q, %v; want one", locks, err)
	}
	held := flock.New(locks[0])
	if _, err := held.TryLock(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Unlock() }()
	ctx, interrupt := context.WithCancel(t.Context())
	said := ""
	src.Say = func(line string) { said = line; interrupt() }
	if _, err := src.Gateway(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Gateway() = %v, want context.Canceled", err)
	}
	if !strings.Contains(said, "waiting for it") {
		t.Errorf("Gateway says %q, want a line that contains \"waiting for it\"", said)
	}
}

func TestFunctions(t *testing.T) {
	src := checkout(t)
	write(t, src.Root, ".git/config", "no valid configuration, so git refuses the repository")
	t.Setenv("GOENV", "off") // Functions must pass -buildvcs=false even if the user's Go settings lack it
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOOS", "plan9") // must be ignored, because the functions run on this machine
	dir := t.TempDir()
	if err := src.Functions(t.Context(), dir, "one", "two"); err != nil {
		t.Fatal(err)
	}
	if got := run(t, filepath.Join(dir, "two", "bootstrap")); got != "2\n" {
		t.Errorf("two says %q, want 2", got)
	}
	write(t, src.Root, "functions/two/main.go", "package main\n\nfunc main() { println(22) }\n")
	other := t.TempDir()
	if err := src.Functions(t.Context(), other, "one", "two"); err != nil {
		t.Fatal(err)
	}
	if got := run(t, filepath.Join(other, "two", "bootstrap")); got != "22\n" {
		t.Errorf("two says %q after its change, want 22", got)
	}
	if got := run(t, filepath.Join(dir, "two", "bootstrap")); got != "2\n" {
		t.Errorf("the program in the first folder changed: two says %q, want 2", got)
	}
}

func run(t *testing.T, program string) string {
	t.Helper()
	out, err := exec.Command(program).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestFunctionsThatDoNotCompile(t *testing.T) {
	src := checkout(t)
	write(t, src.Root, "functions/one/main.go", "package main\n\nfunc main() { nonsense }\n")
	err := src.Functions(t.Context(), t.TempDir(), "one")
	if err == nil || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("Functions() = %v, want the error of the compiler", err)
	}
}

// Concurrent calls of Gateway return the same program, and only one of them builds it.
func TestGatewayIsBuiltOnceForAll(t *testing.T) {
	src := checkout(t)
	// The stand-in has the module path of versitygw, so go downloads nothing.
	write(t, src.Root, "tools/go.mod", `module github.com/lipdrop/lipdrop/tools

go 1.26

require github.com/versity/versitygw v1.8.0

replace github.com/versity/versitygw => ./versitygw
`)
	write(t, src.Root, "tools/versitygw/go.mod", "module github.com/versity/versitygw\n\ngo 1.26\n")
	write(t, src.Root, "tools/versitygw/cmd/versitygw/main.go", "package main\n\nfunc main() { println(\"gateway\") }\n")
	var all sync.WaitGroup
	programs, files := make([]string, 4), make([]os.FileInfo, 4)
	for i := range programs {
		all.Go(func() {
			program, err := src.Gateway(t.Context())
			file, statErr := os.Stat(program)
			if err := errors.Join(err, statErr); err != nil {
				t.Error(err)
			}
			programs[i], files[i] = program, file
		})
	}
	all.Wait()
	if one := slices.Compact(slices.Clone(programs)); len(one) != 1 || !strings.HasPrefix(one[0], src.Cache) {
		t.Fatalf("programs %q, want one in %s", programs, src.Cache)
	}
	if got := run(t, programs[0]); got != "gateway\n" {
		t.Errorf("the program says %q, want gateway", got)
	}
	for _, file := range files {
		if !os.SameFile(files[0], file) {
			t.Error("the program was built again, want the same file")
		}
	}
	if left, err := os.ReadDir(src.Cache); err != nil || len(left) != 2 { // the folder of the program, and the lock
		t.Errorf("the cache has %v, %v; want two entries", left, err)
	}
}

func TestGatewayWithoutModuleProxy(t *testing.T) {
	for name, proxy := range map[string]string{
		"switched off": "off",
		"out of reach": "http://127.0.0.1:1",
	} {
		t.Run(name, func(t *testing.T) {
			src := checkout(t)
			write(t, src.Root, "tools/go.mod", "module github.com/lipdrop/lipdrop/tools\n\ngo 1.26\n\nrequire github.com/versity/versitygw v1.8.0\n")
			write(t, src.Root, "tools/go.sum", "github.com/versity/versitygw v1.8.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\ngithub.com/versity/versitygw v1.8.0/go.mod h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
			t.Setenv("GOMODCACHE", t.TempDir())
			t.Setenv("GOPROXY", proxy)
			t.Setenv("GOFLAGS", "-modcacherw")
			_, err := src.Gateway(t.Context())
			if err == nil || !strings.Contains(err.Error(), "set GOPROXY to a proxy that you can reach") || strings.Contains(err.Error(), "\n") {
				t.Errorf("Gateway() = %v, want one line that says to set GOPROXY to a proxy in reach", err)
			}
		})
	}
}

// A build that takes long is announced. If it is the first build, the text also says how long a
// first build takes.
func TestSlowBuild(t *testing.T) {
	first, again := checkout(t), checkout(t)
	if err := again.Functions(t.Context(), t.TempDir(), "one"); err != nil {
		t.Fatal(err)
	}
	tools := t.TempDir()
	if err := os.WriteFile(filepath.Join(tools, "go"), []byte("#!/bin/sh\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", tools+string(filepath.ListSeparator)+os.Getenv("PATH"))
	var both sync.WaitGroup
	for want, src := range map[string]build.Source{
		"building the Lambda functions: the first time takes about a minute": first,
		"building the Lambda functions":                                      again,
	} {
		both.Go(func() {
			ctx, interrupt := context.WithCancel(t.Context())
			src.Say = func(said string) {
				interrupt()
				if said != want {
					t.Errorf("build says %q, want %q", said, want)
				}
			}
			if err := src.Functions(ctx, t.TempDir(), "one"); !errors.Is(err, context.Canceled) {
				t.Errorf("Functions() = %v, want context.Canceled", err)
			}
		})
	}
	both.Wait()
}
