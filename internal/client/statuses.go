package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/text/unicode/norm"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// Status is a status or an answer file that was read.
type Status = ledger.Posted

// entry is a status or an answer file as a listing shows it.
type entry struct {
	name string // of the job, or of the file below inbox/
	bucket.File
}

// list lists the statuses or the answer files that the patterns select, ordered by name.
// It makes one request for each single name, and one for each thousand files below a prefix.
func (c *Client) list(ctx context.Context, folder string, patterns []Pattern) ([]entry, error) {
	var entries []entry
	for _, p := range patterns {
		prefix, most := folder+p.Text, math.MaxInt
		if !p.Prefix {
			prefix, most = prefix+".json", 1 // S3 lists the key itself before longer ones
		}
		files, _, err := c.Bucket.List(ctx, prefix, most)
		if err != nil {
			return nil, c.Explain("list the statuses", folder, err)
		}
		for _, f := range files {
			name, ok := strings.CutSuffix(strings.TrimPrefix(f.Key, folder), ".json")
			if ok && p.Matches(name) {
				entries = append(entries, entry{name, f})
			}
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(entries, func(a, b entry) bool { return a.name == b.name }), nil
}

// read reads statuses and leaves out those that no longer exist. A status that Posted
// cannot decode has an empty State.
func (c *Client) read(ctx context.Context, entries []entry) ([]Status, error) {
	return InParallel(ctx, ReadsAtOnce, entries, func(ctx context.Context, e entry) ([]Status, error) {
		posted, err := c.Ledger.Posted(ctx, e.Key)
		if err != nil || !posted.Exists() {
			return nil, c.Explain("read the status of "+e.name, e.Key, err)
		}
		posted.Name = e.name
		posted.Status = c.ReachableLinks(posted.Status)
		return []Status{posted}, nil
	})
}

// ReachableLinks returns a status without the link to the AWS console if the stack is local.
func (c *Client) ReachableLinks(st ledger.Status) ledger.Status {
	if c.Local() && st.Links != nil {
		links := *st.Links
		links.Execution = ""
		st.Links = &links
	}
	return st
}

// Statuses returns the statuses or the answer files that the patterns select, ordered by
// name. The folder is ledger.StatusPrefix or ledger.AnswerPrefix. Statuses reads and returns only those that
// were written after the given time.
func (c *Client) Statuses(ctx context.Context, folder string, since time.Time, patterns ...Pattern) ([]Status, error) {
	entries, err := c.list(ctx, folder, patterns)
	if err != nil {
		return nil, err
	}
	return c.read(ctx, slices.DeleteFunc(entries, func(e entry) bool { return !e.LastModified.After(since) }))
}

// Status returns the status of one name, or the answer file of a file that cannot
// belong to a job. It returns *NoJobError if there is neither.
func (c *Client) Status(ctx context.Context, name string) (Status, error) {
	for _, folder := range []string{ledger.StatusPrefix, ledger.AnswerPrefix} {
		found, err := c.read(ctx, []entry{{name, bucket.File{Key: folder + name + ".json"}}})
		if err != nil {
			return Status{}, err
		}
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return Status{}, c.NoJob(ctx, Pattern{Text: name})
}

// assessTime is how long after an upload NoJob assumes that the file is still being assessed.
const assessTime = 2 * time.Minute

// NoJob returns an error for a pattern that selects no status. The remedy says whether a file that
// the pattern selects was just uploaded. If the pattern is one name, the remedy may also say that
// the name is a file that belongs to no job, a folder with jobs, or the name of a job plus a suffix.
func (c *Client) NoJob(ctx context.Context, p Pattern) *NoJobError {
	e, name := &NoJobError{Name: p.String(), Remedy: "Run: lipdrop jobs"}, p.Text
	files := ledger.InboxPrefix + name
	if !p.Prefix {
		files += "." // a suffix, or .job/
	}
	if dropped, _, err := c.Bucket.List(ctx, files, bucket.PageSize); err == nil {
		for _, f := range dropped {
			key := drop.ParseKey(f.Key)
			if time.Since(f.LastModified) < assessTime && key.Role != drop.NoDrop && (p.Prefix || key.Name == name) {
				e.Remedy = f.Key + " was uploaded less than two minutes ago. Wait until lipdrop has assessed it"
				return e
			}
		}
	}
	if p.Prefix {
		return e
	}
	e.Remedy = "The name is the path below inbox/, without the suffix. " + e.Remedy
	if answer, err := c.Ledger.Posted(ctx, ledger.AnswerPrefix+name+".json"); err == nil && answer.Exists() {
		e.Remedy = "This file belongs to no job. To see why, run: lipdrop show " + problem.NameWord(name)
		return e
	}
	if stem := strings.TrimSuffix(name, path.Ext(name)); stem != name && stem != "" {
		if st, err := c.Ledger.Posted(ctx, ledger.StatusKey(stem)); err == nil && st.Exists() {
			e.Remedy = "Write the name without the suffix: " + problem.NameWord(stem)
			return e
		}
	}
	if below, _, err := c.Bucket.List(ctx, ledger.StatusPrefix+name+"/", 1); err == nil && len(below) > 0 {
		e.Remedy = fmt.Sprintf("To list the jobs in the folder, run: lipdrop jobs %[1]s. To name all of them, write %[1]s", problem.NameWord(name+"/"))
	}
	return e
}

// Names returns the names that the patterns select. It returns *NoJobError for a
// pattern that selects none.
func (c *Client) Names(ctx context.Context, patterns ...Pattern) ([]string, error) {
	var names []string
	for _, p := range patterns {
		entries, err := c.list(ctx, ledger.StatusPrefix, []Pattern{p})
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			return nil, c.NoJob(ctx, p)
		}
		for _, e := range entries {
			names = append(names, e.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// NamesLike returns names that begin with a text. It lists at most bucket.PageSize statuses.
// It leaves out each name that a shell or the command would read as something else: bash and
// zsh insert a completed name without quotes, and anybody who may drop files can choose a name.
func (c *Client) NamesLike(ctx context.Context, text string) ([]string, error) {
	files, _, err := c.Bucket.List(ctx, ledger.StatusPrefix+text, bucket.PageSize)
	var names []string
	for _, f := range files {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(f.Key, ledger.StatusPrefix), ".json"); ok && name == problem.NameWord(name) {
			names = append(names, name)
		}
	}
	return names, c.Explain("list the statuses", ledger.StatusPrefix, err)
}

// Takes returns the records of a name's takes, oldest first. There may be none.
func (c *Client) Takes(ctx context.Context, name string) ([]ledger.Record, error) {
	takes, err := c.Ledger.Takes(ctx, name)
	return takes, c.Explain("read the takes of "+name, ledger.RecordPrefix+name+"/*", err)
}

// Records returns the records of the takes that were claimed at or after the given time, of all
// names that begin with prefix. It leaves out unreadable records (see bucket.UnreadableError), and
// returns their number.
func (c *Client) Records(ctx context.Context, prefix string, since time.Time) (recs []ledger.Record, unreadable int, err error) {
	takes, err := c.Ledger.Written(ctx, prefix, since)
	if err != nil {
		return nil, 0, c.Explain("list the records", ledger.RecordPrefix, err)
	}
	var leftOut atomic.Int64
	recs, err = InParallel(ctx, ReadsAtOnce, takes, func(ctx context.Context, take ledger.TakeID) ([]ledger.Record, error) {
		rec, err := c.Ledger.Get(ctx, take.Name, take.Take)
		_, isUnreadable := errors.AsType[*bucket.UnreadableError](err)
		switch {
		case isUnreadable:
			leftOut.Add(1)
			return nil, nil
		case errors.Is(err, bucket.ErrNotFound): // the claim was released
			return nil, nil
		case err == nil && rec.Times.Claimed.Before(since):
			return nil, nil
		}
		return []ledger.Record{rec}, c.Explain("read a record of "+take.Name, ledger.RecordKey(take.Name, take.Take), err)
	})
	return recs, int(leftOut.Load()), err
}

// Job is everything that is known about one name.
type Job struct {
	Status ledger.Status `json:"status"`
	Takes  []Take        `json:"takes"` // newest first
}

// Take is the record of a take and its review, if there is one.
type Take struct {
	ledger.Record
	Review *Review `json:"review,omitempty"`
}

// Show returns everything that is known about a name. It returns *NoJobError if the name
// has neither a status nor an answer file.
func (c *Client) Show(ctx context.Context, name string) (Job, error) {
	st, err := c.Status(ctx, name)
	if err != nil {
		return Job{}, err
	}
	records, err := c.Takes(ctx, name)
	if err != nil {
		return Job{}, err
	}
	job := Job{Status: st.Status, Takes: []Take{}}
	for _, rec := range slices.Backward(records) {
		take := Take{Record: rec}
		if take.State == ledger.Succeeded {
			review, _, err := c.ReadReview(ctx, name, take.Take)
			if err != nil {
				return Job{}, err
			}
			if review.Decision != "" {
				take.Review = &review
			}
		}
		job.Takes = append(job.Takes, take)
	}
	return job, nil
}

// Pattern selects jobs by their names: one name or, with Prefix, every name that
// begins with Text. The zero value selects nothing.
type Pattern struct {
	Text   string
	Prefix bool
}

// ParsePattern returns the pattern that a person wrote: a name such as ads/talk, or a
// prefix such as ads/ or ads/t*. A \* at the end stands for an asterisk (see problem.NameWord).
func ParsePattern(text string) (Pattern, error) {
	cleaned := norm.NFC.String(text)
	for strings.HasPrefix(cleaned, "./") {
		cleaned = cleaned[len("./"):]
	}
	name, prefix := strings.CutSuffix(cleaned, "*")
	if start, escaped := strings.CutSuffix(name, `\`); prefix && escaped {
		name, prefix = start+"*", false
	}
	prefix = prefix || strings.HasSuffix(cleaned, "/")
	name = strings.TrimPrefix(name, ledger.InboxPrefix)
	if !prefix && name == "" || strings.HasPrefix(name, "/") || strings.Contains(name, "//") || drop.IsRelative(name) {
		return Pattern{}, &UsageError{fmt.Sprintf("%q is not the name of a job: write a name such as ads/talk, or ads/ for all jobs in a folder", text)}
	}
	return Pattern{Text: name, Prefix: prefix}, nil
}

// UnmarshalText is ParsePattern for an argument of the command.
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePattern(string(text))
	return err
}

// String returns the pattern for a message. An asterisk at the end of a name is not escaped.
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

// ReadsAtOnce is how many objects are read at the same time.
const ReadsAtOnce = 32

// InParallel calls the function do with each item. At most atOnce calls run at the same time.
// InParallel returns all results in the order of the items.
func InParallel[In, Out any](ctx context.Context, atOnce int, items []In, do func(context.Context, In) ([]Out, error)) ([]Out, error) {
	results := make([][]Out, len(items))
	err := each(ctx, atOnce, items, func(ctx context.Context, i int, item In) (err error) {
		results[i], err = do(ctx, item)
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.Concat(results...), nil
}

// each calls the function do with each item and its index. At most atOnce calls run at the same
// time. It returns the first error, after which the context of the other calls ends.
func each[T any](ctx context.Context, atOnce int, items []T, do func(ctx context.Context, i int, item T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, item := range items {
		group.Go(func() error { return do(ctx, i, item) })
	}
	return group.Wait()
}
