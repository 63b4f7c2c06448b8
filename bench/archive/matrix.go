package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A matrix is a run: each tool's cost in each row.
type matrix struct {
	stack   *stack
	options options
	tools   []tool
	rows    []*row
	copies  int
}

// A row is one file of one source.
type row struct {
	source source
	size   int64
	costs  map[string]cost // by the tool's name
}

const (
	// warmSize is the size of the file that every tool copies first, uncounted.
	warmSize = 16 * mib

	// small files are copied smallRounds times as often: they are the ones that
	// whatever else the machine does spoils most, and they are soon copied.
	small       = 100 * mib
	smallRounds = 3

	// copyTime bounds one copy: 5 GiB at 20 MB/s.
	copyTime = 5 * time.Minute
)

func (m *matrix) run(ctx context.Context) error {
	for _, t := range m.tools {
		if _, err := m.copy(ctx, t, m.options.sources[0], warmSize); err != nil {
			return err
		}
	}
	for _, s := range m.options.sources {
		sizes := m.options.sizes
		if m.options.full && s.name == "unlimited" {
			sizes = append(slices.Clone(sizes), 5*gib)
		}
		for _, size := range sizes {
			r := &row{source: s, size: size, costs: map[string]cost{}}
			m.rows = append(m.rows, r)
			if err := m.fill(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill makes the copies of a row: every tool once a round, in turn, so that
// what else the machine does meets all of them, and each time another one first.
func (m *matrix) fill(ctx context.Context, r *row) error {
	rounds := m.options.rounds
	if r.size < small {
		rounds *= smallRounds
	}
	for round := range rounds {
		for i := range m.tools {
			t := m.tools[(i+round)%len(m.tools)]
			best, before := r.costs[t.name]
			if before && best.whole > m.options.patience {
				continue
			}
			c, err := m.copy(ctx, t, r.source, r.size)
			if err != nil {
				return err
			}
			say(fmt.Sprintf("%s %s, round %d: %s %.3f s of %.3f s, %.0f MB/s, %.2f s CPU, %d MiB", r.source.name, sizeName(r.size), round+1,
				t.name, c.copy.Seconds(), c.whole.Seconds(), c.rate(r.size), c.cpu.Seconds(), c.peak/mib))
			r.costs[t.name] = c.better(best)
		}
	}
	return nil
}

// better joins the costs of two copies: the least time and CPU, and the highest
// peak.
func (c cost) better(than cost) cost {
	best := c
	if than.copy > 0 && than.copy < c.copy {
		best = than
	}
	if than.whole > 0 {
		best.whole, best.cpu = min(c.whole, than.whole), min(c.cpu, than.cpu)
	}
	best.peak, best.above = max(c.peak, than.peak), max(c.above, than.above)
	return best
}

// rate returns the MB (2^20 bytes) a second at which a file was copied.
func (c cost) rate(size int64) float64 {
	return float64(size) / mib / c.copy.Seconds()
}

// copy makes one copy, compares it with what was served, and deletes it.
func (m *matrix) copy(ctx context.Context, t tool, s source, size int64) (cost, error) {
	m.copies++
	c := copying{number: m.copies, source: s, size: size, url: fmt.Sprintf("%s/%d/%d/talk.mp4", m.stack.sources[s.name], m.copies, size)}
	spent, err := m.checked(ctx, t, c)
	if err != nil {
		return spent, fmt.Errorf("%s, %s of source %s: %w", t.name, sizeName(size), s.name, err)
	}
	return spent, m.stack.clear(ctx)
}

func (m *matrix) checked(ctx context.Context, t tool, c copying) (cost, error) {
	ctx, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	spent, key, err := t.copy(ctx, m.stack, c)
	if err != nil {
		return spent, err
	}
	if spent.copy, err = m.stack.copied(ctx, c.number, key); err != nil {
		return spent, err
	}
	return spent, newContent(c.size).compare(m.stack.object(key))
}

// fastest returns the fastest peer of a row, or "".
func (m *matrix) fastest(r *row) string {
	var name string
	for _, t := range m.tools {
		c, ok := r.costs[t.name]
		if ok && t.name != ours && t.name != limit && (name == "" || c.copy < r.costs[name].copy) {
			name = t.name
		}
	}
	return name
}

// mean returns the geometric mean over the rows of what ratio gives; rows in
// which it gives 0 do not count.
func (m *matrix) mean(ratio func(*row) float64) float64 {
	var sum float64
	var n int
	for _, r := range m.rows {
		if x := ratio(r); x > 0 {
			sum += math.Log(x)
			n++
		}
	}
	return math.Exp(sum / float64(n))
}

// against returns how many times faster than another tool ours was in a row, 0
// where one of them is not in it.
func (r *row) against(other string) float64 {
	mine, ok := r.costs[ours]
	theirs, there := r.costs[other]
	if !ok || !there {
		return 0
	}
	return theirs.copy.Seconds() / mine.copy.Seconds()
}

func sizeName(size int64) string {
	if size >= gib && size%gib == 0 {
		return fmt.Sprintf("%d GiB", size/gib)
	}
	return fmt.Sprintf("%d MiB", size/mib)
}

// tables returns the results in Markdown.
func (m *matrix) tables() string {
	var b strings.Builder
	b.WriteString("Throughput of the copy in MB/s (2^20 bytes a second), from the first request for the file until the object is there\n\n")
	m.table(&b, func(c cost, r *row) string { return fmt.Sprintf("%.*f", decimals(c.rate(r.size)), c.rate(r.size)) }, true)
	b.WriteString("\nSeconds from the start of the program to its end; " + ours + " has done the rest of the function's work by then\n\n")
	m.table(&b, func(c cost, _ *row) string { return fmt.Sprintf("%.2f", c.whole.Seconds()) }, false)
	b.WriteString("\nCPU seconds, user and system\n\n")
	m.table(&b, func(c cost, _ *row) string { return fmt.Sprintf("%.2f", c.cpu.Seconds()) }, false)
	b.WriteString("\nPeak resident memory in MiB")
	if m.has(ours) {
		b.WriteString("; in brackets, above the function's start")
	}
	b.WriteString("\n\n")
	m.table(&b, func(c cost, _ *row) string {
		if c.above > 0 {
			return fmt.Sprintf("%d (%d)", c.peak/mib, c.above/mib)
		}
		return fmt.Sprintf("%d", c.peak/mib)
	}, false)
	return b.String()
}

func (m *matrix) has(name string) bool {
	return slices.ContainsFunc(m.tools, func(t tool) bool { return t.name == name })
}

// decimals gives small figures one.
func decimals(x float64) int {
	if x < 10 {
		return 1
	}
	return 0
}

// table writes a table of a row a file and a column a tool, with the ratios of
// ours where they are asked for.
func (m *matrix) table(b *strings.Builder, cell func(cost, *row) string, ratios bool) {
	ratios = ratios && m.has(ours)
	head, line := "| source | size |", "| --- | ---: |"
	for _, t := range m.tools {
		head, line = head+" "+t.name+" |", line+" ---: |"
	}
	if ratios {
		head, line = head+" fastest peer | to it | to the limit |", line+" --- | ---: | ---: |"
	}
	fmt.Fprintln(b, head)
	fmt.Fprintln(b, line)
	for _, r := range m.rows {
		fmt.Fprintf(b, "| %s | %s |", r.source.about, sizeName(r.size))
		for _, t := range m.tools {
			fmt.Fprintf(b, " %s |", cell(r.costs[t.name], r))
		}
		if ratios {
			peer := m.fastest(r)
			fmt.Fprintf(b, " %s | %s | %s |", peer, times(r.against(peer)), times(r.against(limit)))
		}
		fmt.Fprintln(b)
	}
	if ratios {
		fmt.Fprintf(b, "\nGeometric mean over the rows: %s the fastest peer, %s the limit.\n",
			times(m.mean(func(r *row) float64 { return r.against(m.fastest(r)) })),
			times(m.mean(func(r *row) float64 { return r.against(limit) })))
	}
}

// times returns a ratio, "–" where there is none.
func times(x float64) string {
	if x == 0 || math.IsNaN(x) {
		return "–"
	}
	return fmt.Sprintf("%.2f×", x)
}
