package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/budget"
	"github.com/lipdrop/lipdrop/internal/catalog"
	"github.com/lipdrop/lipdrop/internal/check"
	"github.com/lipdrop/lipdrop/internal/client"
	"github.com/lipdrop/lipdrop/internal/drop"
	"github.com/lipdrop/lipdrop/internal/ledger"
	"github.com/lipdrop/lipdrop/internal/list"
	"github.com/lipdrop/lipdrop/internal/problem"
)

// plan says what the command drop will do, or what is wrong.
type plan struct {
	*client.Drop
	defaults  list.Defaults
	rowCounts map[string]int        // by the file of the list
	rows      map[string]plannedRow // by the key of the row's job.json
	media     map[string]*medium    // the media that the rows name, by path
	wrong     []wrong
}

// plannedRow is a row of a list.
type plannedRow struct {
	list.Row
	list     string // the file of the list
	warnings []string
}

// wrong is a problem of a job, of a row of a list, or of a key.
type wrong struct {
	file string // the file of the list, or ""
	row  int
	text string
}

// total sums the jobs that a drop starts.
type total struct {
	jobs     int
	length   time.Duration // of the outputs
	noLength int           // how many outputs have no known length
	usd      float64       // estimate of what the jobs cost
	noPrice  int           // how many jobs have no estimate
	why      string        // why the first of these jobs has none
}

// makePlan reads the files, checks which jobs they form together with the files in the bucket,
// and chooses which files to send.
func (c *dropCmd) makePlan(ctx context.Context, stack *client.Client, folder string, say messages) (*plan, error) {
	resolver, err := stack.Resolver()
	if err != nil {
		return nil, err
	}
	if c.Model != "" {
		if err := checkModel(resolver.Catalog, c.Model); err != nil {
			return nil, err
		}
	}
	p := &plan{
		Drop:      &client.Drop{Client: stack, Resolver: resolver},
		rowCounts: map[string]int{}, rows: map[string]plannedRow{}, media: map[string]*medium{},
		defaults: list.Defaults{
			Catalog: resolver.Catalog, Model: c.Model, VideoModel: resolver.DefaultVideoModel, ImageModel: resolver.DefaultImageModel, Options: c.Set,
		},
	}
	files, lists := splitLists(c.Files)
	if err := p.addFiles(ctx, folder, files, say); err != nil {
		return nil, err
	}
	if c.Model != "" || len(c.Set) > 0 {
		if err := p.bundleFiles(ctx, drop.Choice{Model: c.Model, Options: c.Set}); err != nil {
			return nil, err
		}
	}
	for _, file := range lists {
		if err := p.addList(ctx, folder, file); err != nil {
			return nil, err
		}
	}
	if err := p.checkJobs(ctx, "nothing was sent", func(o check.Outcome) bool { return o.State == ledger.Rejected }); err != nil {
		return nil, err
	}
	if len(p.Jobs) == 0 {
		return nil, fmt.Errorf("nothing was sent: %w", nothingIn(c.Files))
	}
	if err := p.Choose(ctx, c.Force); err != nil {
		return nil, err
	}
	p.Estimate(ctx, &budget.Prices{API: stack.RunComfy(), Now: time.Now})
	return p, nil
}

// splitLists separates the arguments that are lists from the other files and folders. It resolves
// symbolic links in the folder of a list, and returns each list once.
func splitLists(args []string) (files, lists []string) {
	for _, arg := range args {
		if !list.IsList(arg) || isFolder(arg) {
			files = append(files, arg)
			continue
		}
		folder, base := filepath.Split(arg)
		if resolved, err := filepath.EvalSymlinks(cmp.Or(folder, ".")); err == nil {
			arg = filepath.Join(resolved, base)
		}
		same := func(other string) bool {
			a, errA := os.Stat(filepath.Dir(arg))
			b, errB := os.Stat(filepath.Dir(other))
			return other == arg || errA == nil && errB == nil && os.SameFile(a, b) && filepath.Base(arg) == filepath.Base(other)
		}
		if !slices.ContainsFunc(lists, same) {
			lists = append(lists, arg)
		}
	}
	return files, lists
}

// addFiles adds the files of the arguments. It leaves out hidden files and other files that
// are not drops. If an argument is a folder, addFiles also leaves out the files in the folder
// whose suffix no job can use, and says so.
func (p *plan) addFiles(ctx context.Context, folder string, args []string, say messages) error {
	files, err := gather(ctx, folder, args)
	if err != nil {
		return err
	}
	if err := errors.Join(files.problems...); err != nil {
		return fmt.Errorf("nothing was sent:\n%w", err)
	}
	p.Uploads = files.byKey
	leftOut := 0
	for _, key := range sortedKeys(files.byKey) {
		inFolder := strings.Contains(strings.TrimPrefix(key, folder), "/") // the file comes from an argument that is a folder
		switch role := drop.ParseKey(key).Role; {
		case role == drop.NoDrop:
			delete(p.Uploads, key)
		case role == drop.UnknownFile && inFolder:
			why := "no job uses such a file"
			near := catalog.Nearest(path.Base(key), []string{"preset.json", "job.json"})
			switch {
			case list.IsList(key):
				why = "the lists in a folder are not read; to start the jobs of this list, name the list itself"
			case near == "job.json":
				why += "; if it is meant to be job.json, rename it, and put it with its files into a folder whose name ends in .job"
			case near != "":
				why += "; if it is meant to be " + near + ", rename it"
			}
			if leftOut++; leftOut <= mostShown {
				printf(say, "%s is left out: %s\n", check.File(key), why)
			}
			delete(p.Uploads, key)
		}
	}
	if leftOut > mostShown {
		printf(say, "also left out: %s\n", count(leftOut-mostShown, "more file"))
	}
	return nil
}

// bundleFiles turns the files, which must be pairs, into bundles with the chosen model and
// options.
func (p *plan) bundleFiles(ctx context.Context, choice drop.Choice) error {
	for _, key := range sortedKeys(p.Uploads) {
		switch k := drop.ParseKey(key); k.Role {
		case drop.Visual, drop.Audio:
		case drop.Manifest, drop.Member:
			return &client.UsageError{Reason: fmt.Sprintf("--model and --set are for pairs and lists, and %s is a bundle: set the model and the options in its job.json", k.Name)}
		default:
			return &client.UsageError{Reason: fmt.Sprintf("--model and --set are for pairs and lists, and %s is neither", check.File(key))}
		}
	}
	unfit, _, err := p.BundlePairs(ctx, choice, true)
	for _, o := range unfit {
		p.addProblems("", o)
	}
	return err
}

// total returns the sums of the jobs that start.
func (p *plan) total() (t total) {
	for _, job := range p.Jobs {
		if !job.Starts {
			continue
		}
		t.jobs++
		t.length += job.Job.Expected.Length
		if job.Job.Expected.Length == 0 {
			t.noLength++
		}
		if e := job.Estimate; e.USD != nil {
			t.usd += *e.USD
		} else {
			t.noPrice++
			t.why = cmp.Or(t.why, e.Unknown)
		}
	}
	return t
}

// estimate returns the estimate in words.
func (t total) estimate() string {
	switch {
	case t.noPrice == 0:
		return fmt.Sprintf("about %s, %s", dollars(t.usd), budget.EstimateNote)
	case t.usd == 0:
		return "the cost is not known: " + t.why
	}
	return fmt.Sprintf("about %s, %s. This amount leaves out %s: %s", dollars(t.usd), budget.EstimateNote, count(t.noPrice, "job"), t.why)
}

// checkJobs finds out which jobs the files form. It adds to p.wrong the problems of keys, and of
// each job for which isWrong returns true. If p.wrong is not empty, the error lists it.
func (p *plan) checkJobs(ctx context.Context, heading string, isWrong func(check.Outcome) bool) error {
	if err := p.Check(ctx); err != nil {
		return err
	}
	for i := range p.Jobs {
		job := &p.Jobs[i]
		job.Warnings = append(job.Warnings, p.rows[job.Key].warnings...)
		if isWrong(job.Outcome) {
			p.addProblems(job.Key, job.Outcome)
		}
	}
	for _, key := range sortedKeys(p.Uploads) {
		if err := checkLocalKey(key); err != nil && p.Local() {
			p.wrong = append(p.wrong, wrong{text: escapef("%v", err)})
		}
	}
	if p.wrong == nil {
		return nil
	}
	slices.SortStableFunc(p.wrong, func(a, b wrong) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.row, b.row)) })
	lines := []string{heading + ":"}
	for _, w := range p.wrong {
		lines = append(lines, w.text)
	}
	return errors.New(strings.Join(lines, "\n"))
}

// addProblems adds the problems of an outcome. If key is the job.json of a row of a list, they are
// problems of the row.
func (p *plan) addProblems(key string, o check.Outcome) {
	name := o.Finding.Name
	for _, bad := range o.Problems {
		if row, ok := p.rows[key]; ok {
			remedy := bad.RemedyFor(name)
			isWrongValue := bad.Code == problem.BadValue || bad.Code == problem.FileNotShared
			if row.Links[bad.Member] != "" && isWrongValue && strings.Contains(remedy, "job.json") {
				remedy = "Name a file of this computer, an https URL, or a file in a shared folder of the bucket, such as /inbox/shared/woman.png."
			}
			if bad.Code != problem.Ambiguous { // its remedy names files to delete, and one of them is a job.json
				remedy = strings.ReplaceAll(remedy, "job.json", "the list") // the command writes the job.json of a row
			}
			p.addRowProblem(row.list, row.Problem(bad.Member, bad.Reason, remedy))
			continue
		}
		p.wrong = append(p.wrong, wrong{text: escapef("%s: %s. %s", name, bad.Reason, bad.RemedyFor(name))})
	}
}

// addRowProblem adds a problem of a row of a list.
func (p *plan) addRowProblem(file string, bad list.Problem) {
	p.wrong = append(p.wrong, wrong{file, bad.Row, escapef("%s: %v", file, bad)})
}

// readyNames returns, sorted, the names of the jobs whose files are complete and valid, even if
// this drop does not start them.
func (p *plan) readyNames() []string {
	var names []string
	for _, job := range p.Jobs {
		if job.State == check.Ready {
			names = append(names, job.Finding.Name)
		}
	}
	slices.Sort(names)
	return names
}
