// Command archive compares the archive function with other tools that bring
// a file from an https URL into S3. All copy the same bytes from the same server
// into the same versitygw over TLS, in turn, in one run:
//
//	go -C bench run ./archive                 every source up to 1 GiB: 6 minutes, 14 on a busy machine
//	go -C bench run ./archive -full           5 GiB from the source without limit as well, which takes 10 GiB of disk
//	go -C bench run ./archive -out ../docs    docs/benchmarks.md and its picture
//	go -C bench run ./archive -dir /dev/shm   the S3 server's data in memory: no disk decides how fast a copy is
//	go -C bench run ./archive -tune           rclone's flags alone, to choose bestRclone
//
// It prints tables in Markdown and writes them beside a picture with -out. Each
// object is compared with what was served, byte for byte. It needs Linux, for
// the peak of a process's memory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		stop()
		os.Exit(1)
	}
}

// roles are what this program is when it starts itself as another process.
var roles = map[string]func(context.Context, []string) error{
	"sources": serveSources,
	"stream":  streamCopy,
	"limit":   limitRole,
}

func start(ctx context.Context, args []string) error {
	if len(args) > 0 && roles[args[0]] != nil {
		return roles[args[0]](ctx, args[1:])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "lipdrop-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := startStack(ctx, dir)
	if err != nil {
		return err
	}
	defer s.close()
	var all []tool
	if o.tune {
		all, err = tuned(ctx, s)
	} else {
		all, err = tools(ctx, s, o.only)
	}
	if err != nil {
		return err
	}
	m := &matrix{stack: s, options: o, tools: all}
	if err := m.run(ctx); err != nil {
		return err
	}
	fmt.Print(m.tables())
	if o.out == "" {
		return nil
	}
	return m.write(o.out)
}

// options is what is compared.
type options struct {
	dir, out string
	rounds   int
	patience time.Duration
	full     bool
	tune     bool
	sources  []source
	sizes    []int64
	only     []string // tools; empty: all
}

const (
	mib = 1 << 20
	gib = 1 << 30
)

func parse(args []string) (options, error) {
	var o options
	var sourceNames, sizes, only string
	flags := flag.NewFlagSet("archive", flag.ContinueOnError)
	flags.StringVar(&o.dir, "dir", "", "folder for the `data` of the S3 server (default: the system's temporary one)")
	flags.StringVar(&o.out, "out", "", "`folder` to write benchmarks.md and benchmarks.png into")
	flags.IntVar(&o.rounds, "rounds", 2, "how often each copy is made, three times as often below 100 MiB; the fastest counts, and the highest peak")
	flags.DurationVar(&o.patience, "patience", 15*time.Second, "a copy that takes longer is made once")
	flags.BoolVar(&o.full, "full", false, "5 GiB from the source without limit as well")
	flags.BoolVar(&o.tune, "tune", false, "compare flags of rclone copyto in place of tools")
	flags.StringVar(&sourceNames, "sources", "limited,unlimited,distant,streamed", "")
	flags.StringVar(&sizes, "sizes", "1,64,1024", "in MiB, 1 or more")
	flags.StringVar(&only, "tools", "", "names, separated by commas (default: all)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%s is no flag", flags.Arg(0))
	}
	for name := range strings.SplitSeq(sourceNames, ",") {
		i := slices.IndexFunc(sources, func(s source) bool { return s.name == name })
		if i < 0 {
			return o, fmt.Errorf("no source %q", name)
		}
		o.sources = append(o.sources, sources[i])
	}
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			return o, fmt.Errorf("no size %q", text)
		}
		o.sizes = append(o.sizes, n*mib)
	}
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	if o.rounds < 1 {
		return o, errors.New("no rounds")
	}
	return o, nil
}

// write writes the tables and their picture into a folder.
func (m *matrix) write(dir string) error {
	if err := m.plot(filepath.Join(dir, "benchmarks.png")); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "benchmarks.md"), []byte(m.document()), 0o644)
}

func say(sentence string) { fmt.Fprintln(os.Stderr, sentence) }
