package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/bucket"
	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/list"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// plan is what a drop does.
type plan struct {
	resolver drop.Resolver // of the stack, without files
	files    *dropped
	uploads  map[string]*client.Upload // by key: all files; once choose has run, only those to send
	same     int                       // how many files are not sent, because the bucket holds them
	jobs     []plannedJob              // one for each name that the files concern
	lists    map[string]int            // the number of rows by the list's file
	rows     map[string]plannedRow     // by the key of the row's job.json
	wrong    []wrong
	cost     cost // of the jobs that start
}

// plannedRow is a row of a list.
type plannedRow struct {
	list.Row
	list     string // the file of the list
	warnings []string
}

// wrong is a problem of a file, or of a row of a list.
type wrong struct {
	file string // the list, or ""
	row  int
	text string
}

// cost is an estimate of what jobs cost.
type cost struct {
	usd     float64
	unknown int    // how many of the jobs have no estimate
	why     string // the reason for the first of them
}

// plannedJob is what a drop does about one name.
type plannedJob struct {
	check.Outcome
	starts bool     // the drop starts the job
	usd    *float64 // the estimate, if it is known
}

// plan reads the files, compares them with the bucket, and checks which jobs they form
// together with the files in the bucket. The error names all files that cannot be read, or
// else all problems of jobs and rows.
func (c *dropCmd) plan(ctx context.Context, stack *client.Client, folder string, say messages) (*plan, error) {
	models, err := catalog.Default()
	if err != nil {
		return nil, err
	}
	if c.Model != "" {
		if err := checkModel(models, c.Model); err != nil {
			return nil, err
		}
	}
	settings, err := stack.Settings()
	if err != nil {
		return nil, err
	}
	files, lists := splitLists(c.Files)
	p := &plan{
		resolver: drop.Resolver{Catalog: models, Settings: settings}, uploads: map[string]*client.Upload{},
		lists: map[string]int{}, rows: map[string]plannedRow{},
	}
	if err := p.addFiles(folder, files, say); err != nil {
		return nil, err
	}
	defaults := list.Defaults{
		Catalog: models, Model: c.Model, VideoModel: settings.DefaultVideoModel, ImageModel: settings.DefaultImageModel, Options: c.Set,
	}
	b := &bundler{plan: p, defaults: defaults, media: map[string]*medium{}}
	if c.Model != "" || len(c.Set) > 0 {
		if err := b.bundlePairs(ctx); err != nil {
			return nil, err
		}
	}
	for _, file := range lists {
		if err := b.addList(ctx, folder, file); err != nil {
			return nil, err
		}
	}
	if p.wrong == nil {
		if err := p.compare(ctx, stack); err != nil {
			return nil, err
		}
	}
	if err := p.check(ctx, stack); err != nil {
		return nil, err
	}
	if len(p.jobs) == 0 {
		return nil, fmt.Errorf("nothing was sent: %w", nothingIn(c.Files))
	}
	p.choose(c.Force)
	p.estimate(ctx, stack)
	return p, nil
}

// splitLists separates the arguments that are lists from the other files and folders.
func splitLists(args []string) (files, lists []string) {
	for _, arg := range args {
		if info, err := os.Stat(arg); list.IsList(arg) && (err != nil || !info.IsDir()) {
			lists = append(lists, arg)
		} else {
			files = append(files, arg)
		}
	}
	return files, lists
}

// addFiles adds the files of the arguments, except those that no job uses.
func (p *plan) addFiles(folder string, args []string, say messages) (err error) {
	if p.files, err = gather(folder, args); err != nil {
		return err
	}
	if err := errors.Join(p.files.problems...); err != nil {
		return fmt.Errorf("nothing was sent:\n%w", err)
	}
	for _, key := range p.files.keys() {
		switch role := drop.ParseKey(key).Role; {
		case role == drop.NoDrop:
			delete(p.files.byKey, key)
		case role == drop.UnknownFile && p.files.byKey[key].inFolder:
			why := "no job uses such a file"
			if list.IsList(key) {
				why = "the lists in a folder are not read; to start its jobs, name the list itself"
			}
			printf(say, "%s is left out: %s\n", check.File(key), why)
			delete(p.files.byKey, key)
		}
	}
	return nil
}

// estimate estimates what the jobs that start will cost.
func (p *plan) estimate(ctx context.Context, stack *client.Client) {
	prices := &budget.Prices{API: stack.RunComfy(), Now: time.Now}
	for i, job := range p.jobs {
		if !job.starts {
			continue
		}
		e := prices.Estimate(ctx, job.Job.Model, job.Job.Expected.Length)
		if e.USD == nil {
			p.cost.unknown++
			p.cost.why = cmp.Or(p.cost.why, e.Unknown)
			continue
		}
		p.jobs[i].usd = e.USD
		p.cost.usd += *e.USD
	}
}

// dollars returns an amount with the digits that matter.
func dollars(usd float64) string {
	if usd < 1 {
		return fmt.Sprintf("$%.4f", usd)
	}
	return fmt.Sprintf("$%.2f", usd)
}

// String returns the estimate in words.
func (c cost) String() string {
	switch {
	case c.unknown == 0:
		return fmt.Sprintf("about %s, %s", dollars(c.usd), budget.EstimateNote)
	case c.usd == 0:
		return "the cost is not known: " + c.why
	}
	return fmt.Sprintf("about %s, %s, without %s: %s", dollars(c.usd), budget.EstimateNote, count(c.unknown, "job"), c.why)
}

// compare makes the uploads and compares them with the bucket.
func (p *plan) compare(ctx context.Context, stack *client.Client) error {
	for _, key := range p.files.keys() {
		if err := tooLong(key); err != nil && stack.Local() {
			return err
		}
		if p.uploads[key] == nil { // a medium of a list already has an upload
			f := p.files.byKey[key]
			p.uploads[key] = &client.Upload{Key: key, Size: f.Size, Open: f.open}
		}
	}
	return stack.Compare(ctx, slices.Collect(maps.Values(p.uploads)))
}

// choose keeps only the uploads that are sent, and finds out which jobs they start.
func (p *plan) choose(force bool) {
	var ready []drop.Finding
	for _, job := range p.jobs {
		if job.State == check.Ready {
			ready = append(ready, job.Finding)
		}
	}
	files := len(p.uploads)
	p.uploads = client.ToSend(slices.Collect(maps.Values(p.uploads)), force, ready)
	p.same = files - len(p.uploads)
	for i, job := range p.jobs {
		p.jobs[i].starts = job.State == check.Ready && client.Starts(job.Finding, p.uploads)
	}
}

// snapshotPages is how many pages of the bucket's listing a check reads at most, besides
// one page for each ten files. If the folder has more files, the check lists the files of
// each job instead.
const snapshotPages = 3

// check finds out which jobs the files form. The error names every problem of a file or
// of a row.
func (p *plan) check(ctx context.Context, stack *client.Client) error {
	snapshot, err := p.snapshot(ctx, stack)
	if err != nil {
		return err
	}
	resolver := p.resolver
	resolver.Files = check.Overlay{New: p.files.checkable(), Bucket: snapshot}
	err = check.AssessEach(ctx, &resolver, p.files.keys(), func(key string, o check.Outcome) error {
		o.Warnings = append(o.Warnings, p.rows[key].warnings...)
		p.jobs = append(p.jobs, plannedJob{Outcome: o})
		if o.State == ledger.Rejected {
			p.reject(key, o.Finding.Name, o.Problems)
		}
		return nil
	})
	switch {
	case err != nil:
		return stack.Explain("check the files", "inbox/*", err)
	case p.wrong != nil:
		slices.SortStableFunc(p.wrong, func(a, b wrong) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.row, b.row)) })
		lines := []string{"nothing was sent:"}
		for _, w := range p.wrong {
			lines = append(lines, w.text)
		}
		return errors.New(strings.Join(lines, "\n"))
	}
	return nil
}

// snapshot lists the files of the bucket in the common folder of the dropped files.
func (p *plan) snapshot(ctx context.Context, stack *client.Client) (*check.Snapshot, error) {
	snapshot, err := check.NewSnapshot(ctx, stack.Bucket, commonFolder(p.files.keys()), bucket.PageSize*(snapshotPages+len(p.files.byKey)/10))
	return snapshot, stack.Explain("see what is in the bucket", "inbox/", err)
}

// commonFolder returns the longest folder that contains all keys, or inbox/.
func commonFolder(keys []string) string {
	if len(keys) == 0 {
		return ledger.InboxPrefix
	}
	common := keys[0]
	for _, key := range keys {
		for !strings.HasPrefix(key, common) {
			common = common[:len(common)-1]
		}
	}
	return common[:strings.LastIndexByte(common, '/')+1]
}

// reject adds the problems of a job.
func (p *plan) reject(key, name string, problems []problem.Problem) {
	for _, bad := range problems {
		if row, ok := p.rows[key]; ok {
			p.rejectRow(row.list, row.Problem(bad.Member, bad.Reason, bad.RemedyFor(name)))
			continue
		}
		p.wrong = append(p.wrong, wrong{text: escapef("%s: %s. %s", name, bad.Reason, bad.RemedyFor(name))})
	}
}

// rejectRow adds a problem of a row of a list.
func (p *plan) rejectRow(file string, bad list.Problem) {
	p.wrong = append(p.wrong, wrong{file, bad.Row, escapef("%s: %v", file, bad)})
}

// ready returns the names of the jobs that the files form, sorted: the jobs that start, and
// those that an earlier drop of the same files has started.
func (p *plan) ready() []string {
	var names []string
	for _, job := range p.jobs {
		if job.State == check.Ready {
			names = append(names, job.Finding.Name)
		}
	}
	slices.Sort(names)
	return names
}

// starting returns how many jobs the drop starts.
func (p *plan) starting() int {
	n := 0
	for _, job := range p.jobs {
		if job.starts {
			n++
		}
	}
	return n
}

// size returns how many bytes are sent.
func (p *plan) size() int64 {
	n := int64(0)
	for _, u := range p.uploads {
		n += u.Sum.Size
	}
	return n
}
