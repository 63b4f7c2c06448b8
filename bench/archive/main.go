// Command archive compares internal/transfer with the SDK's transfermanager, which
// reads one plain response. Both copy the same bytes from the same server into the
// same versitygw over TLS, each in a process of its own, in turn:
//
//	go -C bench run ./archive                    64 MiB and 1 GiB from every source
//	go -C bench run ./archive -sizes 1,64,5120   other sizes in MiB
//	go -C bench run ./archive -dir /dev/shm      the S3 server's data in memory
//	go -C bench run ./archive -old PROGRAM       also an older build of this command
//
// It prints the tables of docs/benchmarks.md. Each object is compared with what was
// served. It needs Linux, where /proc says the peak of a process's memory.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const mib = 1 << 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		stop()
		os.Exit(1)
	}
}

// roles are what this program does when it starts itself as another process.
var roles = map[string]func(context.Context, []string) error{
	"sources": serveSources,
	"copy":    reported(copyByTransfer),
	"manager": reported(copyByManager),
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && roles[args[0]] != nil {
		return roles[args[0]](ctx, args[1:])
	}
	m, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(m.dir, "lipdrop-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	m.stack, err = startStack(ctx, dir)
	if err != nil {
		return err
	}
	defer m.stack.close()
	if err := m.run(ctx); err != nil {
		return err
	}
	fmt.Print(m.tables())
	return nil
}

// A tool is a program that copies.
type tool struct{ name, program, role string }

// A matrix is one run of the benchmark.
type matrix struct {
	stack   *stack
	dir     string
	rounds  int
	sources []source
	sizes   []int64 // bytes
	tools   []tool
	rows    []row
}

// A row is one file of one source.
type row struct {
	source source
	size   int64
	costs  map[string][]cost // of each round, by the tool's name
}

func parse(args []string) (*matrix, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	m := &matrix{tools: []tool{{"lipdrop", self, "copy"}, {"transfermanager", self, "manager"}}}
	flags := flag.NewFlagSet("archive", flag.ContinueOnError)
	flags.StringVar(&m.dir, "dir", "", "`folder` for the S3 server's data (default: the system's temporary one)")
	flags.IntVar(&m.rounds, "rounds", 3, "how often each copy is made")
	old := flags.String("old", "", "an older build of this `program`, compared as well")
	names := flags.String("sources", "limited,unlimited,distant,streamed", "the sources")
	sizes := flags.String("sizes", "64,1024", "in MiB")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if m.rounds < 1 {
		return nil, fmt.Errorf("-rounds is %d, want at least 1", m.rounds)
	}
	if *old != "" {
		m.tools = append(m.tools, tool{"old", *old, "copy"})
	}
	for name := range strings.SplitSeq(*names, ",") {
		i := slices.IndexFunc(sources, func(s source) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no source %q", name)
		}
		m.sources = append(m.sources, sources[i])
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("no size %q", text)
		}
		m.sizes = append(m.sizes, n*mib)
	}
	return m, nil
}

func (m *matrix) run(ctx context.Context) error {
	for _, s := range m.sources {
		for _, size := range m.sizes {
			r := row{s, size, map[string][]cost{}}
			for round := range m.rounds {
				if err := m.copyAll(ctx, r, round); err != nil {
					return err
				}
			}
			m.rows = append(m.rows, r)
		}
	}
	return nil
}

// copyAll makes one copy with each tool. In each round another tool is the first, so
// that other work of the machine affects all of them.
func (m *matrix) copyAll(ctx context.Context, r row, round int) error {
	for i := range m.tools {
		t := m.tools[(i+round)%len(m.tools)]
		c, err := m.stack.copy(ctx, t, r.source, r.size)
		if err != nil {
			return fmt.Errorf("%s, %d MiB of source %s: %w", t.name, r.size/mib, r.source.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s %d MiB, round %d: %s %.0f MB/s, %.2f s CPU, %d MiB\n",
			r.source.name, r.size/mib, round+1, t.name, c.rate(r.size), c.CPU, c.Peak/mib)
		r.costs[t.name] = append(r.costs[t.name], c)
	}
	return nil
}

// rate returns the MB (2^20 bytes) per second.
func (c cost) rate(size int64) float64 { return float64(size) / mib / c.Seconds }

func (m *matrix) tables() string {
	return "Throughput in MB/s (2^20 bytes per second)\n\n" +
		m.table(func(c cost, r row) float64 { return c.rate(r.size) }, median, true) +
		"\nCPU seconds, user and system\n\n" +
		m.table(func(c cost, _ row) float64 { return c.CPU }, median, false) +
		"\nPeak resident memory in MiB\n\n" +
		m.table(func(c cost, _ row) float64 { return float64(c.Peak) / mib }, slices.Max, false)
}

// table returns a table with a row per file and a column per tool. If ratios is
// true, each tool but the first has a second column: the median, over the rounds, of the
// first tool's value divided by this tool's value.
func (m *matrix) table(value func(cost, row) float64, summary func([]float64) float64, ratios bool) string {
	var b strings.Builder
	head, line := "| source | size |", "| --- | ---: |"
	quotients := m.tools[:0]
	if ratios {
		quotients = m.tools[1:]
	}
	for _, t := range m.tools {
		head, line = head+" "+t.name+" |", line+" ---: |"
	}
	for _, t := range quotients {
		head, line = head+" "+m.tools[0].name+" to "+t.name+" |", line+" ---: |"
	}
	fmt.Fprintf(&b, "%s\n%s\n", head, line)
	for _, r := range m.rows {
		values := func(t tool) (all []float64) {
			for _, c := range r.costs[t.name] {
				all = append(all, value(c, r))
			}
			return all
		}
		fmt.Fprintf(&b, "| %s | %d MiB |", r.source.about, r.size/mib)
		for _, t := range m.tools {
			fmt.Fprintf(&b, " %.3g |", summary(values(t)))
		}
		first := values(m.tools[0])
		for _, t := range quotients {
			all := values(t)
			for i, v := range all {
				all[i] = first[i] / v
			}
			fmt.Fprintf(&b, " %.2f |", median(all))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
