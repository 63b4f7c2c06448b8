package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/ledger"
)

// Pattern selects jobs by their names: one name or, with Prefix, every name that
// begins with Text. The zero value selects nothing.
type Pattern struct {
	Text   string
	Prefix bool
}

// All selects every job.
var All = Pattern{Prefix: true}

// ParsePattern returns the pattern that a person wrote: a name such as ads/talk, or a
// prefix such as ads/ or ads/t*.
func ParsePattern(text string) (Pattern, error) {
	cleaned := norm.NFC.String(text)
	for {
		rest, ok := strings.CutPrefix(cleaned, "./")
		if !ok {
			break
		}
		cleaned = rest
	}
	name, prefix := strings.CutSuffix(cleaned, "*")
	prefix = prefix || strings.HasSuffix(cleaned, "/")
	name = strings.TrimPrefix(name, ledger.InboxPrefix)
	if !prefix && name == "" || strings.HasPrefix(name, "/") || strings.Contains(name, "//") || slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool { return part == "." || part == ".." }) {
		return Pattern{}, &UsageError{fmt.Sprintf("%q is not the name of a job: write a name such as ads/talk, or ads/ for all jobs in a folder", text)}
	}
	return Pattern{Text: name, Prefix: prefix}, nil
}

// UnmarshalText is ParsePattern for an argument of the command.
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePattern(string(text))
	return err
}

// ParseName returns the name that a person wrote, which is not a prefix.
func ParseName(text string) (string, error) {
	p, err := ParsePattern(text)
	if err == nil && p.Prefix {
		err = &UsageError{fmt.Sprintf("%q stands for several jobs: write the name of one, such as ads/talk", text)}
	}
	return p.Text, err
}

// ParsePatterns returns the patterns that a person wrote.
func ParsePatterns(texts []string) ([]Pattern, error) {
	var patterns []Pattern
	for _, text := range texts {
		p, err := ParsePattern(text)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

// String returns the pattern as a person writes it.
func (p Pattern) String() string {
	if p.Prefix && !strings.HasSuffix(p.Text, "/") {
		return p.Text + "*"
	}
	return p.Text
}

// Matches reports whether the pattern selects a name.
func (p Pattern) Matches(name string) bool {
	return name == p.Text && name != "" || p.Prefix && strings.HasPrefix(name, p.Text)
}

// Entry is a status or an answer file as a listing shows it.
type Entry struct {
	Name     string // of the job, or of the file below inbox/
	Key      string
	ETag     string
	Modified time.Time
}

// Status is a status that was read.
type Status struct {
	ledger.Status

	// Order says which drop the status is about: see ledger.Order.
	Order string

	Entry Entry
}

// List returns the statuses that the patterns select, ordered by name. It makes one
// request for each thousand statuses of a prefix, and one for each single name.
func (c *Client) List(ctx context.Context, patterns ...Pattern) ([]Entry, error) {
	return c.list(ctx, "status/", patterns)
}

// list lists the statuses in status/ or the answer files in answers/.
func (c *Client) list(ctx context.Context, folder string, patterns []Pattern) ([]Entry, error) {
	var entries []Entry
	for _, p := range patterns {
		prefix, most := folder+p.Text, math.MaxInt
		if !p.Prefix {
			prefix, most = prefix+".json", 1 // nothing sorts before the key itself
		}
		files, _, err := c.Bucket.List(ctx, prefix, most)
		if err != nil {
			return nil, c.Explain("list the statuses", folder, err)
		}
		for _, f := range files {
			name, ok := strings.CutSuffix(strings.TrimPrefix(f.Key, folder), ".json")
			if ok && p.Matches(name) {
				entries = append(entries, Entry{Name: name, Key: f.Key, ETag: f.ETag, Modified: f.LastModified})
			}
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(entries, func(a, b Entry) bool { return a.Name == b.Name }), nil
}

// readsAtOnce is how many objects are read at the same time.
const readsAtOnce = 32

// Read reads statuses, in parallel, and returns them in the same order. It leaves out
// those that no longer exist. A status that is not JSON has an empty State.
func (c *Client) Read(ctx context.Context, entries []Entry) ([]Status, error) {
	read := make([]*Status, len(entries))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for i, entry := range entries {
		group.Go(func() error {
			posted, err := c.Ledger.Posted(ctx, entry.Key)
			if err != nil || !posted.Exists() {
				return c.Explain("read the status of "+entry.Name, entry.Key, err)
			}
			posted.Name = entry.Name
			read[i] = &Status{Status: posted.Status, Order: posted.Order, Entry: entry}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var statuses []Status
	for _, st := range read {
		if st != nil {
			statuses = append(statuses, *st)
		}
	}
	return statuses, nil
}

// Statuses returns the statuses that the patterns select and that were written after
// since, ordered by name. It reads only these.
func (c *Client) Statuses(ctx context.Context, since time.Time, patterns ...Pattern) ([]Status, error) {
	entries, err := c.List(ctx, patterns...)
	if err != nil {
		return nil, err
	}
	return c.readSince(ctx, entries, since)
}

// Answers is Statuses for the answer files of files that cannot belong to a job.
func (c *Client) Answers(ctx context.Context, since time.Time, patterns ...Pattern) ([]Status, error) {
	entries, err := c.list(ctx, "answers/", patterns)
	if err != nil {
		return nil, err
	}
	return c.readSince(ctx, entries, since)
}

func (c *Client) readSince(ctx context.Context, entries []Entry, since time.Time) ([]Status, error) {
	return c.Read(ctx, slices.DeleteFunc(entries, func(e Entry) bool { return !e.Modified.After(since) }))
}

// Status returns the status of one name, or the answer file of a file that cannot
// belong to a job. It returns *NoJobError if there is neither.
func (c *Client) Status(ctx context.Context, name string) (Status, error) {
	for _, key := range []string{ledger.StatusKey(name), "answers/" + name + ".json"} {
		posted, err := c.Ledger.Posted(ctx, key)
		if err != nil {
			return Status{}, c.Explain("read the status of "+name, key, err)
		}
		if posted.Exists() {
			posted.Name = name
			return Status{Status: posted.Status, Order: posted.Order, Entry: Entry{Name: name}}, nil
		}
	}
	return Status{}, c.noJob(ctx, name)
}

// noJob returns a *NoJobError that says what the name could have been.
func (c *Client) noJob(ctx context.Context, name string) error {
	e := &NoJobError{Name: name, Remedy: "The name is the path below inbox/, without the suffix. Run: lipdrop jobs"}
	if stem := strings.TrimSuffix(name, path.Ext(name)); stem != name && stem != "" {
		if st, err := c.Ledger.Posted(ctx, ledger.StatusKey(stem)); err == nil && st.Exists() {
			e.Remedy = fmt.Sprintf("The name is without the suffix: write %s", stem)
		}
		return e
	}
	if below, _, err := c.Bucket.List(ctx, "status/"+name+"/", 1); err == nil && len(below) > 0 {
		e.Remedy = fmt.Sprintf("For all jobs in the folder, write %s/", name)
	}
	return e
}

// Names returns the names that the patterns select. It returns *NoJobError for a
// pattern that selects none.
func (c *Client) Names(ctx context.Context, patterns ...Pattern) ([]string, error) {
	var names []string
	for _, p := range patterns {
		entries, err := c.List(ctx, p)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 && !p.Prefix {
			return nil, c.noJob(ctx, p.Text)
		}
		if len(entries) == 0 {
			return nil, &NoJobError{Name: p.String(), Remedy: "Run: lipdrop jobs"}
		}
		for _, entry := range entries {
			names = append(names, entry.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Takes returns the records of a name's takes, oldest first. There may be none.
func (c *Client) Takes(ctx context.Context, name string) ([]ledger.Record, error) {
	takes, err := c.Ledger.Takes(ctx, name)
	if _, unreadable := errors.AsType[*ledger.UnreadableError](err); unreadable {
		return takes, err
	}
	return takes, c.Explain("read the takes of "+name, "jobs/"+name+"/*", err)
}

// Result is result.json of a take: see docs/result.md.
type Result struct {
	Outputs []ledger.Output `json:"outputs"`
	Times   ledger.Times    `json:"times"`
	CostUSD *float64        `json:"costUsd,omitempty"`
}

// Result returns result.json of a take that has succeeded, or bucket.ErrNotFound.
func (c *Client) Result(ctx context.Context, name, take string) (Result, error) {
	var result Result
	key := ledger.OutputPrefix(name, take) + "result.json"
	body, _, err := c.Bucket.Get(ctx, key, ledger.MaxObject)
	if err != nil {
		return result, c.Explain("read the result of "+name, key, err)
	}
	if err := json.Unmarshal(body, &result); err != nil {
		return result, fmt.Errorf("%s: %w", key, err)
	}
	return result, nil
}

// NamesLike returns the first names that begin with a text, at most the given number.
func (c *Client) NamesLike(ctx context.Context, text string, most int) ([]string, error) {
	files, _, err := c.Bucket.List(ctx, "status/"+text, most)
	var names []string
	for _, f := range files {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(f.Key, "status/"), ".json"); ok {
			names = append(names, name)
		}
	}
	return names, c.Explain("list the statuses", "status/", err)
}
